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

from brain_collector.access.guard import caller_of
from brain_collector.api import parameters
from brain_collector.api.events import KEY_PARAMETER
from brain_collector.api.idempotency import digest, idempotency_key, refuse_too_old
from brain_collector.api.operation import JSON, QUOTA_HEADERS, Answer, Operation
from brain_collector.api.resources import Resources, resources
from brain_collector.errors import BatchInvalid, FieldError
from brain_collector.http.body import USUAL_BYTES, body_of, media_type, sender_of
from brain_collector.ingest.decode import Decoded, decode_array, decode_ndjson, encode_row
from brain_collector.ingest.rejected_lines import RejectedLine
from brain_collector.ingest.submission import Refusals, RowsRefused, Submission
from brain_collector.metrics import BATCH_EVENTS, EVENTS_ACCEPTED, EVENTS_REJECTED
from brain_collector.schema import EventCreate
from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, NDJSON, BatchAnswer, LineError


async def ingest(request: Request) -> Response:
    """Store the valid events of a batch; answer when they are committed."""
    own = resources(request)
    parameters.only(request, ())
    given = media_type(request, NDJSON, JSON)
    key = idempotency_key(request)
    refuse_too_old(key, datetime.now(UTC), own.settings.key_life_days)
    caller = caller_of(request.scope)
    own.quota.refuse_early(caller)
    with own.budget.share() as share:
        body = await body_of(request, own.settings, share)
        decoded = await _decode(body, given, own)
        left = await own.quota.take(caller, n_events=decoded.received, n_bytes=len(body))
        answer = await _ingest(own, body, decoded, _Sender(sender_of(request), key))
        answer.headers.update(left)
        return answer


class _Sender(NamedTuple):
    caller: str
    key: UUID | None


async def _ingest(own: Resources, body: bytes, decoded: Decoded, sender: _Sender) -> Response:
    if not decoded.rows.types:
        _keep(own, decoded, {}, sender)
        raise _nothing_valid(own, decoded.received, decoded.errors)
    refused: Refusals = {}

    def compose(found: Refusals) -> str:
        refused.update(found)
        return _compose(decoded, found, own.settings)

    submission = Submission(
        decoded.rows,
        compose,
        key=sender.key,
        digest=digest(body),
    )
    try:
        stored = await own.writer.submit(submission)
    except RowsRefused as error:
        _keep(own, decoded, error.refused, sender)
        raise _nothing_valid(own, decoded.received, _all_errors(decoded, error.refused)) from None
    answer = msgspec.json.decode(stored.answer, type=BatchAnswer)
    if stored.duplicate:
        answer = msgspec.structs.replace(answer, duplicate=True)
    else:
        own.metrics.observe(BATCH_EVENTS, answer.received)
        own.metrics.add(EVENTS_ACCEPTED, n=answer.accepted)
        if answer.rejected:
            own.selflog.refused(answer.rejected)
            late = answer.rejected - len(decoded.errors)
            _count_rejected(own, Counter(error.code for error in decoded.errors) + Counter(not_storable=late))
            _keep(own, decoded, refused, sender)
    return Response(msgspec.json.encode(answer), media_type=JSON)


def _keep(own: Resources, decoded: Decoded, refused: Refusals, sender: _Sender) -> None:
    """Leave what was refused to the quarantine; of a row that Postgres refused, the event as it was decoded."""
    now = datetime.now(UTC)
    lines = {error.index: line for error, line in zip(decoded.errors, decoded.bad, strict=True)}
    lines |= {decoded.places[row]: encode_row(decoded.rows, row) for row in refused}
    own.quarantine.add(
        RejectedLine(now, sender.caller, sender.key, error.index, error.code, error.detail, lines[error.index])
        for error in _all_errors(decoded, refused)
    )


async def _decode(body: bytes, given: str, own: Resources) -> Decoded:
    decode = decode_ndjson if given == NDJSON else decode_array
    now = datetime.now(UTC)
    if len(body) > USUAL_BYTES:  # it would hold up everyone else for tens of ms
        return await asyncio.to_thread(decode, body, own.limits, now)
    return decode(body, own.limits, now)


def _compose(decoded: Decoded, refused: Refusals, settings: Settings) -> str:
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


def _all_errors(decoded: Decoded, refused: Refusals) -> list[LineError]:
    late = [
        LineError(decoded.places[row], "not_storable", f"Postgres cannot store it: {why}")
        for row, why in refused.items()
    ]
    return sorted([*decoded.errors, *late], key=lambda error: error.index)


def _count_rejected(own: Resources, codes: Counter[str]) -> None:
    for code, n in codes.items():
        own.metrics.add(EVENTS_REJECTED, code, n=n)


def _nothing_valid(own: Resources, received: int, errors: list[LineError]) -> BatchInvalid:
    if not received:
        return BatchInvalid("the batch is empty; send at least one event")
    own.selflog.refused(received)
    own.metrics.observe(BATCH_EVENTS, received)
    _count_rejected(own, Counter(error.code for error in errors))
    fields = [FieldError(f"/{error.index}{error.pointer}", error.code, error.detail) for error in errors]
    first = f"; the first: {errors[0].detail}" if errors else ""
    return BatchInvalid(
        f"none of the {received:,} events is valid{first}", errors=fields[: own.settings.max_line_errors]
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
