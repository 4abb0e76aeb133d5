"""From bytes to COMMIT: decode, validate, gather, write, acknowledge. Every event is stored here.

An event is acknowledged only after its transaction is committed. (A change or deletion by id is made in `read.store`.)
May import `counts`, `storage` and the shared files. Must not know HTTP: it takes bytes and returns outcomes.
"""
