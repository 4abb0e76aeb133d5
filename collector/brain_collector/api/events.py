"""Single events: create, list, get, change, delete, count."""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import query
from brain_collector.api.body import digest, idempotency_key, media_type, read_body
from brain_collector.api.operation import JSON, Answer, Operation, Parameter
from brain_collector.cache import Scope
from brain_collector.counts import deltas_of
from brain_collector.decode import decode_changes, decode_one
from brain_collector.errors import EventInvalid, EventNotFound, FieldError, ParameterInvalid
from brain_collector.resources import Resources, resources
from brain_collector.schema import Event, EventCreate, EventUpdate
from brain_collector.submission import RowsRefused, Submission
from brain_events.wire import KEY_HEADER

DEFAULT_LIMIT: Final = 100
PATH: Final = "/api/events"

_encode: Final = msgspec.json.encode


async def create(request: Request) -> Response:
    """Store one event; answer when it is committed."""
    own = resources(request)
    query.only(request, ())
    media_type(request, JSON)
    key = idempotency_key(request)
    body = await read_body(request, own.settings)
    try:
        rows = decode_one(body, own.limits, datetime.now(UTC))
    except EventInvalid:
        own.selflog.check("input_rejected", "warning", "Events were refused", n=1)
        raise
    draft = Event(
        0,
        rows.types[0],
        rows.severities[0],
        rows.messages[0],
        msgspec.Raw(rows.details[0] or "null"),
        rows.sources[0],
        rows.timestamps[0],
        rows.timestamps[0],
    )
    submission = Submission(
        rows,
        deltas_of(rows.types, rows.severities, rows.timestamps),
        size=len(body),
        key=key,
        digest=-digest(body),  # a batch of one line may be the same bytes, and has another answer
        compose=lambda _refused: _encode(draft).decode(),
    )
    try:
        stored = await own.writer.submit(submission)
    except RowsRefused as refused:
        raise _not_storable(refused.reasons[0]) from None
    event = msgspec.json.decode(stored.answer, type=Event) if stored.duplicate and stored.answer else draft
    event.id, event.created_at = stored.first_id, stored.created_at
    return _json(_encode(event), status=201, headers={"Location": f"{PATH}/{event.id}"})


async def get(request: Request) -> Response:
    """Return one event."""
    own = resources(request)
    query.only(request, ())
    event_id = query.event_id(request)

    async def fill() -> bytes:
        event = await own.store.get(event_id)
        if event is None:
            raise _not_found(event_id)
        return _encode(event)

    return _json(await own.cache.get_or_fill(Scope.EVENT, str(event_id), own.settings.event_ttl_s, fill))


async def update(request: Request) -> Response:
    """Change the fields that are sent; the counts follow."""
    own = resources(request)
    query.only(request, ())
    event_id = query.event_id(request)
    media_type(request, JSON)
    changes = decode_changes(await read_body(request, own.settings), own.limits)
    moment = changes.pop("timestamp", None)
    if moment is not None:
        await _hold_timestamp(own, event_id, moment)
    try:
        event = await own.store.update(event_id, changes)
    except ParameterInvalid as error:  # of the parameters here, only the body's fields reach Postgres unchecked
        raise _not_storable(error.detail) from None
    await _invalidate(own)
    if event is None:
        raise _not_found(event_id)
    return _json(_encode(event))


async def _hold_timestamp(own: Resources, event_id: int, moment: datetime) -> None:
    event = await own.store.get(event_id)
    if event is not None and event.timestamp != moment:
        said = f"the timestamp of an event cannot change; leave it out, or send {event.timestamp.isoformat()}"
        raise EventInvalid(said, errors=[FieldError("/timestamp", "field_immutable", said)])


async def delete(request: Request) -> Response:
    """Delete one event; the counts follow."""
    own = resources(request)
    query.only(request, ())
    event_id = query.event_id(request)
    found = await own.store.delete(event_id)
    await _invalidate(own)
    if not found:
        raise _not_found(event_id)
    return Response(status_code=204)


async def _invalidate(own: Resources) -> None:
    """Begin new generations before the answer goes out; also after a 404: another may just have deleted it."""
    await own.cache.invalidate(Scope.EVENTS)
    await own.cache.invalidate(Scope.EVENT)


def _json(content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status_code=status, headers=headers, media_type=JSON)


def _not_found(event_id: int) -> EventNotFound:
    return EventNotFound(f"there is no event {event_id}")


def _not_storable(why: str) -> EventInvalid:
    said = f"Postgres cannot store the event: {why}"
    return EventInvalid(said, errors=[FieldError("", "not_storable", said)])


_ID: Final = Parameter(name="id", place="path", type=int, description="The event's id.", required=True)
KEY_PARAMETER: Final = Parameter(
    name=KEY_HEADER,
    place="header",
    type=UUID,
    description="Makes the request safe to send again: a repeated key stores nothing and gets the first answer.",
)
OPERATIONS: Final = (
    Operation(
        method="POST",
        path=PATH,
        endpoint=create,
        summary="Store one event",
        description="Answered when the event is committed.",
        tag="events",
        parameters=(KEY_PARAMETER,),
        body={JSON: EventCreate},
        answers={201: Answer(description="Stored.", type=Event, headers={"Location": "Where the event is."})},
        errors=(400, 408, 413, 415, 422),
    ),
    Operation(
        method="GET",
        path=f"{PATH}/{{id}}",
        endpoint=get,
        summary="Get one event",
        tag="events",
        parameters=(_ID,),
        answers={200: Answer(description="The event.", type=Event)},
        errors=(404, 422),
    ),
    Operation(
        method="PUT",
        path=f"{PATH}/{{id}}",
        endpoint=update,
        summary="Change one event",
        description="Partial: fields that are not sent stay as they are.",
        tag="events",
        parameters=(_ID,),
        body={JSON: EventUpdate},
        answers={200: Answer(description="The event as it is now.", type=Event)},
        errors=(400, 404, 408, 413, 415, 422),
    ),
    Operation(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        endpoint=delete,
        summary="Delete one event",
        tag="events",
        parameters=(_ID,),
        answers={204: Answer(description="Deleted.")},
        errors=(404, 422),
    ),
)
