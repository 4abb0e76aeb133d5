"""The live tail: `commit_order` has positions, `reader` reads once for all streams, `subscriber` queues for one.

Where a client resumes is decided by `api.stream`; which events it missed, by `reader`.
May import `read`, `query`, `storage` and the shared files. Must not know HTTP: a subscriber can be anything.
"""
