"""Sentry's logs: https://docs.sentry.io/platforms/python/logs/."""

from contextlib import contextmanager

import sentry_sdk
from sentry_sdk import logger

from subjects import Target


def start(target: Target) -> None:
    address = target.url.removeprefix("http://")
    sentry_sdk.init(dsn=f"http://key@{address}/1", enable_logs=True, traces_sample_rate=1.0)


def flat(n: int) -> None:
    details = {"n": n, "order": "o-5512", "amount": 19.9, "paid": True, "country": "DE"}
    logger.info("order was paid", attributes=details)


def nested(n: int) -> None:
    details = {"n": n, "order": {"id": "o-5512", "items": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}]}}
    logger.info("order was paid", attributes=details)


failed = None
"""Sentry's logs accept no exception; `capture_exception` is another product, with another quota."""


@contextmanager
def bound():
    with sentry_sdk.new_scope() as scope:
        scope.set_attribute("customer", "c-77")
        scope.set_attribute("region", "eu")
        yield


def flush() -> None:
    sentry_sdk.flush(60)


def middleware(app):
    from sentry_sdk.integrations.asgi import SentryAsgiMiddleware  # noqa: PLC0415 -- not needed for logs alone

    return SentryAsgiMiddleware(app)
