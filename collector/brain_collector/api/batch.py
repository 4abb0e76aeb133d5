"""Batches: many events in one request, each valid one stored, all under one key."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import query
from brain_collector.api.body import digest, idempotency_key, media_type, read_body
from brain_collector.api.events import KEY_PARAMETER
from brain_collector.api.operation import JSON, Answer, Operation
from brain_collector.counts import deltas_of
from brain_collector.decode import Decoded, decode_array, decode_ndjson
from brain_collector.errors import BatchInvalid, BodyTooLarge, FieldError
from brain_collector.resources import Resources, resources
from brain_collector.schema import EventCreate
from brain_collector.settings import Settings
from brain_collector.submission import RowsRefused, Submission
from brain_collector.validate import Limits
from brain_events.wire import BATCH_PATH, NDJSON, BatchAnswer, LineError

LARGE_BODY_BYTES: Final = 2 * 2**20  # decoded in a thread: it would hold up everyone else for tens of ms


async def ingest(request: Request) -> Response:
    """Store the valid events of a batch; answer when they are committed."""
    own = resources(request)
    query.only(request, ())
    given = media_type(request, NDJSON, JSON)
    key = idempotency_key(request)
    body = await read_body(request, own.settings)
    decoded = await _decode(body, given, own.limits)
    _hold_size(decoded.received, own.settings)
    if not decoded.rows.types:
        raise _nothing_valid(own, decoded.received, decoded.errors)
    rows = decoded.rows
    submission = Submission(
        rows,
        deltas_of(rows.types, rows.severities, rows.timestamps),
        size=len(body),
        key=key,
        digest=digest(body),
        compose=lambda refused: _stored_answer(decoded, refused, own.settings),
    )
    try:
        stored = await own.writer.submit(submission)
    except RowsRefused as refused:
        raise _nothing_valid(own, decoded.received, _all_errors(decoded, refused.reasons)) from None
    if stored.duplicate:
        earlier = msgspec.json.decode(stored.answer, type=BatchAnswer) if stored.answer else _plain(decoded.received)
        return _answer(msgspec.structs.replace(earlier, duplicate=True))
    answer = _compose(decoded, submission.refused, own.settings)
    if answer.rejected:
        own.selflog.check("input_rejected", "warning", "Events were refused", n=answer.rejected)
    return _answer(answer)


async def _decode(body: bytes, given: str, limits: Limits) -> Decoded:
    decode = decode_ndjson if given == NDJSON else decode_array
    now = datetime.now(UTC)
    if len(body) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(decode, body, limits, now)
    return decode(body, limits, now)


def _hold_size(received: int, settings: Settings) -> None:
    if received > settings.max_batch_events:
        raise BodyTooLarge(
            f"the batch has {received:,} events, at most {settings.max_batch_events:,} are taken; send smaller batches"
        )


def _plain(received: int) -> BatchAnswer:
    return BatchAnswer(received, received, 0, duplicate=False, errors=[], errors_truncated=False)


def _compose(decoded: Decoded, refused: dict[int, str], settings: Settings) -> BatchAnswer:
    errors = _all_errors(decoded, refused)
    accepted = decoded.received - len(errors)
    shown = errors[: settings.max_line_errors]
    return BatchAnswer(
        decoded.received,
        accepted,
        len(errors),
        duplicate=False,
        errors=shown,
        errors_truncated=len(shown) < len(errors),
    )


def _stored_answer(decoded: Decoded, refused: dict[int, str], settings: Settings) -> str | None:
    """Return what a repeat of the batch shall be told; None where all was accepted, which says itself."""
    answer = _compose(decoded, refused, settings)
    return msgspec.json.encode(answer).decode() if answer.rejected else None


def _all_errors(decoded: Decoded, refused: dict[int, str]) -> list[LineError]:
    late = [
        LineError(decoded.places[row], "not_storable", f"Postgres cannot store it: {why}")
        for row, why in refused.items()
    ]
    return sorted([*decoded.errors, *late], key=lambda error: error.index)


def _nothing_valid(own: Resources, received: int, errors: list[LineError]) -> BatchInvalid:
    if not received:
        return BatchInvalid("the batch is empty; send at least one event")
    own.selflog.check("input_rejected", "warning", "Events were refused", n=received)
    fields = [FieldError(f"/{error.index}", error.code, error.detail) for error in errors]
    first = f"; the first: {errors[0].detail}" if errors else ""
    return BatchInvalid(
        f"none of the {received:,} events is valid{first}", errors=fields[: own.settings.max_line_errors]
    )


def _answer(answer: BatchAnswer) -> Response:
    return Response(msgspec.json.encode(answer), media_type=JSON)


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
        parameters=(KEY_PARAMETER,),
        body={NDJSON: EventCreate, JSON: Annotated[list[EventCreate], Meta(min_length=1)]},
        answers={200: Answer(description="What became of the batch.", type=BatchAnswer)},
        errors=(400, 408, 413, 415, 422),
    ),
)
