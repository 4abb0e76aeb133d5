"""Follow events in commit order: positions, the one reader of all streams, a bounded queue a subscriber.

May import `read`, `query`, `storage` and the ground floor. Must not know HTTP: messages go to any subscriber.
"""
