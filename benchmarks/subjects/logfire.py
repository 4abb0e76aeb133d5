"""Logfire, which sends to the sink over OTLP and not to its own service."""

import os

import logfire

from subjects import Target


def start(target: Target) -> None:
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = target.url
    logfire.configure(send_to_logfire=False, console=False, service_name="shop", inspect_arguments=False)


def flat(n: int) -> None:
    logfire.info("order was paid", n=n, order="o-5512", amount=19.9, paid=True, country="DE")


def nested(n: int) -> None:
    order = {"id": "o-5512", "items": [{"sku": "lamp", "count": 2}, {"sku": "bulb", "count": 4}]}
    logfire.info("order was paid", n=n, order=order)


def failed(n: int) -> None:
    logfire.error("no charge", n=n, order="o-5512", _exc_info=True)


def bound():
    return logfire.set_baggage(customer="c-77", region="eu")


def flush() -> None:
    logfire.force_flush(60_000)
