"""The log records of `otel` and `stdlib`: records of the standard library, with their fields in `extra`."""

import logging

LOGGER = logging.getLogger("shop")


def flat(n: int) -> None:
    details = {"n": n, "order": "o-5512", "amount": 19.9, "paid": True, "country": "DE"}
    LOGGER.info("order was paid", extra=details)


def nested(n: int) -> None:
    details = {"n": n, "order": {"id": "o-5512", "items": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}]}}
    LOGGER.info("order was paid", extra=details)


def failed(n: int) -> None:
    LOGGER.error("no charge", extra={"n": n, "order": "o-5512"}, exc_info=True)  # noqa: LOG014 -- the caller handles the exception
