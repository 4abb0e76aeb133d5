"""What the collector knows and records about itself: availability, own events, the canary.

Own events take the write path of everyone; this wing only submits them.
May import `ingest`, `storage` and the ground floor. Must not know HTTP, nor schedule anything itself.
"""
