"""`POST /api/events/batch`: many events in one request. Each valid event is stored, all under one idempotency key."""

from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.events import IDEMPOTENCY_KEY
from brain_collector.api.idempotency import key_use
from brain_collector.api.ingest_request import Sender, identify
from brain_collector.api.operation import JSON, RATE_LIMIT_HEADERS, Operation, ResponseSpec
from brain_collector.api.resources import Resources, resources_of
from brain_collector.errors import BatchInvalid, FieldError
from brain_collector.http.body import INLINE_BYTES, body_of, media_type
from brain_collector.ingest.array import is_array
from brain_collector.ingest.decode import Decoded, decode_array, decode_ndjson, decode_object, encode_row, is_object
from brain_collector.ingest.duplicates import Form
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.rejected_lines import RejectedLine
from brain_collector.ingest.submission import NOT_STORABLE, RejectedRows, RowsRejected, Submission
from brain_collector.metrics import BATCH_EVENTS, EVENTS_ACCEPTED, EVENTS_REJECTED
from brain_collector.schema import EventCreate
from brain_events.wire import BATCH_PATH, NDJSON, BatchAnswer, LineError

NDJSON_TYPES: Final = (
    NDJSON,
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/jsonlines",
    "application/stream+json",
)
"""The media types of NDJSON; it has no registered one, so senders differ."""


async def ingest(request: Request) -> Response:
    """Store the valid events of a batch; respond when they are committed."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    content_type = media_type(request, *NDJSON_TYPES, JSON)
    sender = identify(request, resources)
    with resources.budget.reserve(sender.caller) as reservation:
        body = await body_of(request, resources.settings, reservation, resources.body_threads)
        form = _form_of(body, resources.limits) if content_type == JSON else "lines"
        decoded = await _decode(body, form, resources)
        headers = await resources.rate_limit.take(sender.caller, n_events=decoded.received, n_bytes=len(body))
        answer = await _store(resources, body, form, decoded, sender)
        return Response(answer, headers=headers, media_type=JSON)


async def _store(resources: Resources, body: bytes, form: Form, decoded: Decoded, sender: Sender) -> bytes:
    if not decoded.rows.n:
        _keep_rejected(resources, decoded, {}, sender)
        raise _batch_invalid(resources, decoded.received, decoded.errors)
    compose = partial(_compose, decoded, resources.settings.max_line_errors)
    use = await key_use(sender.idempotency_key, sender.caller, body, form)
    submission = Submission(decoded.rows, compose, key_use=use)
    try:
        stored = await resources.writer.submit(submission)
    except RowsRejected as error:
        _keep_rejected(resources, decoded, error.rejected, sender)
        raise _batch_invalid(resources, decoded.received, _all_errors(decoded, error.rejected)) from None
    if stored.is_duplicate:
        return _as_duplicate(stored.answer or compose(stored.rejected), is_same_body=stored.is_same_body)
    _count(resources, decoded, stored.rejected, sender)
    return stored.answer or compose(stored.rejected)


def _as_duplicate(answer: bytes, *, is_same_body: bool) -> bytes:
    """Return the first response, marked; without errors, which name values, if only a checksum matches its body."""
    first = msgspec.json.decode(answer, type=BatchAnswer)
    if not is_same_body:
        first = msgspec.structs.replace(first, errors=[], errors_truncated=first.rejected > 0)
    return msgspec.json.encode(msgspec.structs.replace(first, duplicate=True))


def _count(resources: Resources, decoded: Decoded, rejected: RejectedRows, sender: Sender) -> None:
    """Count the accepted and rejected events of a batch; keep and record the rejected ones."""
    n_rejected = len(decoded.errors) + len(rejected)
    resources.metrics.observe(BATCH_EVENTS, decoded.received)
    resources.metrics.add(EVENTS_ACCEPTED, n=decoded.received - n_rejected)
    if n_rejected:
        resources.own_events.record_rejected(n_rejected)
        codes = Counter(error.code for error in decoded.errors) + Counter({NOT_STORABLE: len(rejected)})
        _count_rejected(resources, codes)
        _keep_rejected(resources, decoded, rejected, sender)


def _keep_rejected(resources: Resources, decoded: Decoded, rejected: RejectedRows, sender: Sender) -> None:
    """Keep the rejected lines for a while; of a row that Postgres rejected, the event as it was decoded."""
    now = datetime.now(UTC)
    lines = {error.index: line for error, line in zip(decoded.errors, decoded.rejected_lines, strict=True)}
    lines |= {decoded.indexes[row]: encode_row(decoded.rows, row) for row in rejected}
    resources.rejected_lines.add(
        RejectedLine(
            now, sender.address, sender.idempotency_key, error.index, error.code, error.detail, lines[error.index]
        )
        for error in _all_errors(decoded, rejected)
    )


def _form_of(body: bytes, limits: Limits) -> Form:
    """Return the form of a body that was sent as JSON."""
    if is_array(body):
        return "array"
    return "object" if is_object(body, limits) else "lines"


async def _decode(body: bytes, form: Form, resources: Resources) -> Decoded:
    decode_form = {"array": decode_array, "object": decode_object}.get(form, decode_ndjson)
    decode = partial(decode_form, body, resources.limits, datetime.now(UTC))
    return await resources.body_threads.run(decode) if len(body) > INLINE_BYTES else decode()


def _compose(decoded: Decoded, max_errors: int, rejected: RejectedRows) -> bytes:
    """Return the body of the response, as it is sent and stored."""
    errors = _all_errors(decoded, rejected)
    return msgspec.json.encode(
        BatchAnswer(
            received=decoded.received,
            accepted=decoded.received - len(errors),
            rejected=len(errors),
            duplicate=False,
            errors=errors[:max_errors],
            errors_truncated=len(errors) > max_errors,
            adjusted=len(decoded.adjusted.difference(rejected)),
        )
    )


def _all_errors(decoded: Decoded, rejected: RejectedRows) -> list[LineError]:
    by_postgres = [
        LineError(decoded.indexes[row], NOT_STORABLE, f"Postgres cannot store it: {reason}")
        for row, reason in rejected.items()
    ]
    return sorted([*decoded.errors, *by_postgres], key=lambda error: error.index)


def _count_rejected(resources: Resources, codes: Counter[str]) -> None:
    for code, n in codes.items():
        resources.metrics.add(EVENTS_REJECTED, code, n=n)


def _batch_invalid(resources: Resources, received: int, errors: list[LineError]) -> BatchInvalid:
    """Count a batch without a valid event; return its error."""
    if not received:
        return BatchInvalid("the batch is empty; send at least one event")
    resources.own_events.record_rejected(received)
    resources.metrics.observe(BATCH_EVENTS, received)
    _count_rejected(resources, Counter(error.code for error in errors))
    fields = [FieldError(f"/{error.index}{error.pointer}", error.code, error.detail) for error in errors]
    first = f"; the first error: {errors[0].detail}" if errors else ""
    return BatchInvalid(
        f"none of the {received:,} events is valid{first}", errors=fields[: resources.settings.max_line_errors]
    )


OPERATIONS: Final = (
    Operation(
        method="POST",
        path=BATCH_PATH,
        endpoint=ingest,
        summary="Store a batch of events",
        description=(
            "One event per line (NDJSON, also as `application/json`), a JSON array, or one JSON object, optionally "
            "compressed with gzip. "
            "Each event is checked separately: the valid ones are stored in one transaction, the rejected ones are "
            "listed in the response."
        ),
        tag="events",
        scope="ingest",
        parameters=(IDEMPOTENCY_KEY,),
        body={
            **dict.fromkeys(NDJSON_TYPES, EventCreate),
            JSON: Annotated[list[EventCreate], Meta(min_length=1)],
        },
        responses={
            200: ResponseSpec(
                description="How many events were stored, and the errors of the rejected ones.",
                type=BatchAnswer,
                headers=RATE_LIMIT_HEADERS,
            )
        },
        errors=(400, 408, 413, 415, 422, 429),
    ),
)
