"""Standard logging: records are still printed, and also sent. Sends `backup_done`, `disk_full` and `log`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 python examples/logging_app.py
"""

import logging
from pathlib import Path

import brain_events

log = logging.getLogger("example.backup")

if __name__ == "__main__":
    brain_events.init(source="example-logging")
    logging.basicConfig(level=logging.INFO, handlers=[logging.StreamHandler(), brain_events.EventsHandler()])

    log.info("backup of %s is done", "orders", extra={"event_type": "backup_done", "size_mb": 512})
    log.warning("backups are slower than last week")  # without event_type: a `log` event

    try:
        Path("/dev/full").write_text("a backup")  # a device of Linux that is always full
    except OSError:
        log.exception("cannot write the backup", extra={"event_type": "disk_full"})
