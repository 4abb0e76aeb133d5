"""Batches: many events in one request, each valid one stored, all under one key."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.access.guard import caller_of, sender_of
from brain_collector.api import parameters
from brain_collector.api.events import KEY_PARAMETER
from brain_collector.api.idempotency import digest, idempotency_key, refuse_too_old
from brain_collector.api.operation import JSON, QUOTA_HEADERS, Answer, Operation
from brain_collector.api.resources import Resources, resources_of
from brain_collector.errors import BatchInvalid, FieldError
from brain_collector.http.body import USUAL_BYTES, body_of, media_type
from brain_collector.ingest.decode import Decoded, decode_array, decode_ndjson, encode_row
from brain_collector.ingest.rejected_lines import RejectedLine
from brain_collector.ingest.submission import RejectedRows, RowsRejected, Submission
from brain_collector.metrics import BATCH_EVENTS, EVENTS_ACCEPTED, EVENTS_REJECTED
from brain_collector.schema import EventCreate
from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, NDJSON, BatchAnswer, LineError


async def ingest(request: Request) -> Response:
    """Store the valid events of a batch; answer when they are committed."""
    resources = resources_of(request)
    parameters.only(request, ())
    given = media_type(request, NDJSON, JSON)
    key = idempotency_key(request)
    refuse_too_old(key, datetime.now(UTC), resources.settings.idempotency_key_life_days)
    caller = caller_of(request.scope)
    resources.rate_limit.refuse_early(caller)
    with resources.budget.share() as share:
        body = await body_of(request, resources.settings, share)
        decoded = await _decode(body, given, resources)
        left = await resources.rate_limit.take(caller, n_events=decoded.received, n_bytes=len(body))
        answer = await _ingest(resources, body, decoded, _Sender(sender_of(request), key))
        answer.headers.update(left)
        return answer


class _Sender(NamedTuple):
    caller: str
    key: UUID | None


async def _ingest(resources: Resources, body: bytes, decoded: Decoded, sender: _Sender) -> Response:
    if not decoded.rows.types:
        _keep(resources, decoded, {}, sender)
        raise _nothing_valid(resources, decoded.received, decoded.errors)
    refused: RejectedRows = {}

    def compose(found: RejectedRows) -> str:
        refused.update(found)
        return _compose(decoded, found, resources.settings)

    submission = Submission(
        decoded.rows,
        compose,
        key=sender.key,
        digest=digest(body),
    )
    try:
        stored = await resources.writer.submit(submission)
    except RowsRejected as error:
        _keep(resources, decoded, error.refused, sender)
        raise _nothing_valid(resources, decoded.received, _all_errors(decoded, error.refused)) from None
    answer = msgspec.json.decode(stored.answer, type=BatchAnswer)
    if stored.duplicate:
        answer = msgspec.structs.replace(answer, duplicate=True)
    else:
        resources.metrics.observe(BATCH_EVENTS, answer.received)
        resources.metrics.add(EVENTS_ACCEPTED, n=answer.accepted)
        if answer.rejected:
            resources.own_events.refused(answer.rejected)
            late = answer.rejected - len(decoded.errors)
            _count_rejected(resources, Counter(error.code for error in decoded.errors) + Counter(not_storable=late))
            _keep(resources, decoded, refused, sender)
    return Response(msgspec.json.encode(answer), media_type=JSON)


def _keep(resources: Resources, decoded: Decoded, refused: RejectedRows, sender: _Sender) -> None:
    """Keep the rejected lines for a while; of a row that Postgres rejected, the event as it was decoded."""
    now = datetime.now(UTC)
    lines = {error.index: line for error, line in zip(decoded.errors, decoded.bad, strict=True)}
    lines |= {decoded.places[row]: encode_row(decoded.rows, row) for row in refused}
    resources.rejected_lines.add(
        RejectedLine(now, sender.caller, sender.key, error.index, error.code, error.detail, lines[error.index])
        for error in _all_errors(decoded, refused)
    )


async def _decode(body: bytes, given: str, resources: Resources) -> Decoded:
    decode = decode_ndjson if given == NDJSON else decode_array
    now = datetime.now(UTC)
    if len(body) > USUAL_BYTES:  # it would hold up everyone else for tens of ms
        return await asyncio.to_thread(decode, body, resources.limits, now)
    return decode(body, resources.limits, now)


def _compose(decoded: Decoded, refused: RejectedRows, settings: Settings) -> str:
    errors = _all_errors(decoded, refused)
    shown = errors[: settings.max_line_errors]
    answer = BatchAnswer(
        received=decoded.received,
        accepted=decoded.received - len(errors),
        rejected=len(errors),
        duplicate=False,
        errors=shown,
        errors_truncated=len(shown) < len(errors),
        adjusted=len(decoded.adjusted.difference(refused)),
    )
    return msgspec.json.encode(answer).decode()


def _all_errors(decoded: Decoded, refused: RejectedRows) -> list[LineError]:
    late = [
        LineError(decoded.places[row], "not_storable", f"Postgres cannot store it: {why}")
        for row, why in refused.items()
    ]
    return sorted([*decoded.errors, *late], key=lambda error: error.index)


def _count_rejected(resources: Resources, codes: Counter[str]) -> None:
    for code, n in codes.items():
        resources.metrics.add(EVENTS_REJECTED, code, n=n)


def _nothing_valid(resources: Resources, received: int, errors: list[LineError]) -> BatchInvalid:
    if not received:
        return BatchInvalid("the batch is empty; send at least one event")
    resources.own_events.refused(received)
    resources.metrics.observe(BATCH_EVENTS, received)
    _count_rejected(resources, Counter(error.code for error in errors))
    fields = [FieldError(f"/{error.index}{error.pointer}", error.code, error.detail) for error in errors]
    first = f"; the first: {errors[0].detail}" if errors else ""
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
            "One event a line (NDJSON) or a JSON array, gzip or not. Each event is checked by itself: the good ones "
            "are stored in one transaction, the bad ones are named in the answer."
        ),
        tag="events",
        scope="ingest",
        parameters=(KEY_PARAMETER,),
        body={NDJSON: EventCreate, JSON: Annotated[list[EventCreate], Meta(min_length=1)]},
        answers={200: Answer(description="What became of the batch.", type=BatchAnswer, headers=QUOTA_HEADERS)},
        errors=(400, 408, 413, 415, 422, 429),
    ),
)
