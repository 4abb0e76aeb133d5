"""The state of the collector and its record of it: availability, own events, the canary.

Own events take the same write path as all events; this wing only submits them.
May import `ingest`, `storage` and the ground floor. Must not know HTTP, nor schedule anything itself.
"""
