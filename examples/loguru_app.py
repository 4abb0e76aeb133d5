"""Loguru: messages are still printed, and also sent. Sends `cache_cold`, `log` and `sync_failed`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 python examples/loguru_app.py
"""

from loguru import logger

import brain_events

if __name__ == "__main__":
    brain_events.init(source="example-loguru")
    logger.add(brain_events.EventsHandler())

    logger.bind(event_type="cache_cold", region="eu").warning("the cache of {} is cold", "prices")
    logger.info("warming up")  # without event_type: a `log` event

    try:
        _ = {"eu": 1}["us"]
    except KeyError:
        logger.bind(event_type="sync_failed").exception("no such region")
