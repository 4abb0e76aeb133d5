"""OpenTelemetry's handler for `logging`, its batch processor, and its OTLP exporter over HTTP."""

import logging

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from subjects import Target

LOGGER = logging.getLogger("shop")
LOGS = LoggerProvider()
SPANS = TracerProvider()

bound = None
"""Log records take no fields from the context."""


def start(target: Target) -> None:
    LOGS.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{target.url}/v1/logs")))
    SPANS.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{target.url}/v1/traces")))
    trace.set_tracer_provider(SPANS)
    LOGGER.addHandler(LoggingHandler(logger_provider=LOGS))
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
    LOGS.force_flush(60_000)
    SPANS.force_flush(60_000)


def middleware(app):
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415 -- as in `sentry`

    return OpenTelemetryMiddleware(app)
