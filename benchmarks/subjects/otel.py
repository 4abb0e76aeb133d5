"""OpenTelemetry's handler for `logging`, with its batch processor and its OTLP exporter over HTTP."""

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
from subjects.records import LOGGER, failed, flat, nested

__all__ = ["bound", "failed", "flat", "flush", "middleware", "nested", "start"]

LOGS = LoggerProvider()
SPANS = TracerProvider()

bound = None
"""Log records have no fields from a context."""


def start(target: Target) -> None:
    LOGS.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{target.url}/v1/logs")))
    SPANS.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{target.url}/v1/traces")))
    trace.set_tracer_provider(SPANS)
    LOGGER.addHandler(LoggingHandler(logger_provider=LOGS))
    LOGGER.setLevel(logging.INFO)


def flush() -> None:
    LOGS.force_flush(60_000)
    SPANS.force_flush(60_000)


def middleware(app):
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware  # noqa: PLC0415 -- as in `sentry`

    return OpenTelemetryMiddleware(app)
