"""brain-events in durable mode: each event is on disk before the call returns."""

import brain_events
from subjects import Target
from subjects.brain import bound, failed, flat, flush, nested

__all__ = ["bound", "failed", "flat", "flush", "nested", "start"]


def start(target: Target) -> None:
    brain_events.init(url=target.url, source="shop", spool_dir=target.spool_dir, durable=True)
