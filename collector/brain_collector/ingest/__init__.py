"""From bytes to COMMIT, the only write path: decode, validate, gather, write, acknowledge.

An event is acknowledged only after its transaction is committed. Nothing else runs on this path.
May import `counts`, `storage` and the ground floor. Must not know HTTP: it takes bytes and returns outcomes.
"""
