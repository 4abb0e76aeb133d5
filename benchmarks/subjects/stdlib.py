"""`logging` with QueueHandler and QueueListener, and its handler for a socket behind them: nothing is acknowledged."""

import atexit
import logging
from logging.handlers import QueueHandler, QueueListener, SocketHandler
from queue import Queue
from typing import Any

from subjects import Target

LOGGER = logging.getLogger("shop")
QUEUE: Queue[Any] = Queue()

bound = None
"""Log records take no fields from the context."""


def start(target: Target) -> None:
    listener = QueueListener(QUEUE, SocketHandler("127.0.0.1", target.socket_port))
    listener.start()
    atexit.register(listener.stop)
    LOGGER.addHandler(QueueHandler(QUEUE))
    LOGGER.setLevel(logging.INFO)


def flat(n: int) -> None:
    details = {"n": n, "order": "o-5512", "amount": 19.9, "paid": True, "country": "DE"}
    LOGGER.info("order was paid", extra=details)


def nested(n: int) -> None:
    details = {"n": n, "order": {"id": "o-5512", "items": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}]}}
    LOGGER.info("order was paid", extra=details)


def failed(n: int) -> None:
    LOGGER.error("no charge", extra={"n": n, "order": "o-5512"}, exc_info=True)  # noqa: LOG014 -- the caller handles it


def flush() -> None:
    QUEUE.join()
