"""The live tail: `position` and `commit_order` have the order, `portions` its events; `reader` reads for all streams.

`subscriber` queues for one stream; `resumption` decides where a stream resumes, `catch_up` reads what it has missed.
May import `read`, `query`, `storage` and the shared files. Must not know HTTP: a subscriber can be anything.
"""
