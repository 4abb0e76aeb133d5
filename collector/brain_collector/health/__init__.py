"""What the collector knows and records about itself.

`availability` knows whether database, cache and engines are up; `own_events` submits events about that, which are
written as the clients' events are; `canary` reads own events back.
May import `ingest`, `counts` and the shared files. Must not know HTTP, nor schedule anything itself.
"""
