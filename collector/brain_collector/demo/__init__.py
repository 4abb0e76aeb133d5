"""`brain-events demo`: a collector, a small shop that sends it events, and visitors of the shop."""
