"""`logging` with QueueHandler and QueueListener, and its handler for a socket behind them: nothing is acknowledged."""

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
"""Log records take no fields from the context."""


def start(target: Target) -> None:
    listener = QueueListener(QUEUE, SocketHandler("127.0.0.1", target.socket_port))
    listener.start()
    atexit.register(listener.stop)
    LOGGER.addHandler(QueueHandler(QUEUE))
    LOGGER.setLevel(logging.INFO)


def flush() -> None:
    QUEUE.join()
