"""The state of the collector, and its record of it.

`availability` knows whether database, cache and engines are up; `own_events` submits events about it, which
take the same write path as all events; `canary` reads own events back; `ping` asks the database for probes;
`job_states` knows which background jobs fail.
May import `ingest`, `counts` and the shared files. Must not know HTTP, nor schedule anything itself.
"""
