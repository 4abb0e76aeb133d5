"""Loguru with `enqueue=True` and the standard library's socket handler, which acknowledges nothing."""

from logging.handlers import SocketHandler

from loguru import logger

from subjects import Target


def start(target: Target) -> None:
    logger.remove()
    logger.add(SocketHandler("127.0.0.1", target.socket_port), enqueue=True)


def flat(n: int) -> None:
    logger.info("order was paid", n=n, order="o-5512", amount=19.9, paid=True, country="DE")


def nested(n: int) -> None:
    order = {"id": "o-5512", "items": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}]}
    logger.info("order was paid", n=n, order=order)


def failed(n: int) -> None:
    logger.exception("no charge", n=n, order="o-5512")


def bound():
    return logger.contextualize(customer="c-77", region="eu")


def flush() -> None:
    logger.complete()
