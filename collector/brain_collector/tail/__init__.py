"""The live tail: positions in commit order, the one reader for all streams, and a bounded queue per subscriber.

May import `read`, `query`, `storage` and the ground floor. Must not know HTTP: a subscriber can be anything.
"""
