"""`logging` with QueueHandler, QueueListener and the socket handler, which acknowledges nothing."""

import atexit
import logging
from logging.handlers import QueueHandler, QueueListener, SocketHandler
from queue import Queue
from typing import Any

from subjects import Target
from subjects.records import LOGGER, failed, flat, nested

__all__ = ["bound", "failed", "flat", "flush", "nested", "start"]

QUEUE: Queue[Any] = Queue()

bound = None
"""Log records have no fields from a context."""


def start(target: Target) -> None:
    listener = QueueListener(QUEUE, SocketHandler("127.0.0.1", target.socket_port))
    listener.start()
    atexit.register(listener.stop)
    LOGGER.addHandler(QueueHandler(QUEUE))
    LOGGER.setLevel(logging.INFO)


def flush() -> None:
    QUEUE.join()
