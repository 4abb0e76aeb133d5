"""The live tail: `position` and `commit_order` have the order, `portions` its events; `reader` reads for all streams.

`arrivals` has what is yet to be read for some; `groups` decides for which filter and how much of it is read next.
`subscriber` queues for one stream; `resumption` decides where a stream resumes, `catch_up` reads what it has missed.
May import `read`, `query`, `storage` and the shared files. Must not know HTTP: a subscriber can be anything.
"""
