"""From bytes to COMMIT, the only write path: decode, validate, gather, write, acknowledge.

Nothing is acknowledged before its transaction is committed, and nothing else runs on this path.
May import `counts`, `storage` and the ground floor. Must not know HTTP: it gets bytes and returns outcomes.
"""
