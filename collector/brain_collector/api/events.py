"""Single events: create, get, update, delete."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.access.guard import caller_of
from brain_collector.api import parameters
from brain_collector.api.idempotency import key_use
from brain_collector.api.ingest_request import Sender, identify
from brain_collector.api.operation import JSON, PATH, RATE_LIMIT_HEADERS, Operation, Parameter, ResponseSpec
from brain_collector.api.preconditions import IF_MATCH, IF_NONE_MATCH, etag, is_known, precondition_of
from brain_collector.api.resources import Resources, resources_of
from brain_collector.cache import CacheScope
from brain_collector.errors import EventDeleted, EventInvalid, EventNotFound, FieldError, ParameterInvalid
from brain_collector.http.answer_budget import reserve
from brain_collector.http.body import body_of, media_type
from brain_collector.ingest.decode import OWN_SOURCE, decode_changes, decode_one
from brain_collector.ingest.rejected_lines import RejectedLine
from brain_collector.ingest.rows import Rows
from brain_collector.ingest.submission import RowsRejected, Submission
from brain_collector.metrics import EVENTS_ACCEPTED, EVENTS_REJECTED
from brain_collector.read.store import Check
from brain_collector.schema import Event, EventCreate, EventUpdate
from brain_events.wire import KEY_HEADER

REVALIDATE: Final = "private, no-cache"
"""Cache-Control of single events: a client may keep one, but revalidates it with the ETag each time."""

_encode: Final = msgspec.json.encode


async def create(request: Request) -> Response:
    """Store one event; respond when it is committed."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    media_type(request, JSON)
    sender = identify(request, resources)
    with resources.budget.reserve(sender.caller) as reservation:
        body = await body_of(request, resources.settings, reservation, resources.body_threads)
        quota = await resources.rate_limit.take(sender.caller, n_events=1, n_bytes=len(body))
        try:
            event = await _create(resources, body, sender)
        except EventInvalid as error:
            _count_rejected(resources, error)
            code = error.errors[0].code
            line = RejectedLine(
                datetime.now(UTC), sender.address, sender.idempotency_key, None, code, error.detail, body
            )
            resources.rejected_lines.add([line])
            raise
    return _json(_encode(event), status=201, headers={"Location": f"{PATH}/{event.id}", **quota})


async def _create(resources: Resources, body: bytes, sender: Sender) -> Event:
    rows = decode_one(body, resources.limits, datetime.now(UTC))
    use = await key_use(sender.idempotency_key, sender.caller, body, "event")
    # No response is kept: the event may be changed or deleted by the time of a repetition.
    submission = Submission(rows, lambda _rejected: None, key_use=use)
    try:
        stored = await resources.writer.submit(submission)
    except RowsRejected as error:
        raise _not_storable(error.rejected[0]) from None
    event = _draft(rows)
    event.id, event.created_at = stored.first_id, stored.created_at
    if stored.is_duplicate:
        event.timestamp = stored.earliest
        return await _as_it_is(resources, event, sender)
    resources.metrics.add(EVENTS_ACCEPTED)
    return event


async def _as_it_is(resources: Resources, sent: Event, sender: Sender) -> Event:
    """Return an event that was stored before, as it is now; for a sender that may not read, as it was sent now."""
    event = await resources.store.get(sent.id)
    if event is None:
        raise EventDeleted(
            f"the event {sent.id} was stored by an earlier request with this Idempotency-Key, and was deleted since; "
            "do not send it again"
        )
    return event if sender.may_read else sent


def _draft(rows: Rows) -> Event:
    """Return the event of the only row; its id and the time of arrival are set after the commit."""
    return Event(
        id=0,
        event_type=rows.types[0],
        severity=rows.severities[0],
        message=rows.messages[0],
        details=msgspec.Raw(rows.details[0] or "null"),
        source=rows.sources[0],
        timestamp=rows.timestamps[0],
        created_at=rows.timestamps[0],
    )


def _count_rejected(resources: Resources, error: EventInvalid) -> None:
    """Count a rejected event, and record it as an own event."""
    resources.own_events.record_rejected(1)
    resources.metrics.add(EVENTS_REJECTED, error.errors[0].code if error.errors else error.code)


async def get(request: Request) -> Response:
    """Return one event, or 304 if the client has it already."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    event_id = parameters.event_id(request)

    async def fill() -> bytes:
        await reserve(request, resources.settings.max_event_bytes)
        event = await resources.store.get(event_id)
        if event is None:
            raise _not_found(event_id)
        return _encode(event)

    content = await resources.cache.get_or_fill(CacheScope.ONE, str(event_id), resources.settings.event_ttl_s, fill)
    headers = {"ETag": etag(content), "Cache-Control": REVALIDATE}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return _json(content, headers=headers)


async def update(request: Request) -> Response:
    """Change the fields that are present; the counts are adjusted in the same transaction."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    event_id = parameters.event_id(request)
    media_type(request, JSON)
    with resources.budget.reserve(caller_of(request.scope)) as reservation:
        body = await body_of(request, resources.settings, reservation, resources.body_threads)
        try:
            return await _update(resources, body, event_id, precondition_of(request))
        except EventInvalid as error:
            _count_rejected(resources, error)
            raise


async def _update(resources: Resources, body: bytes, event_id: int, check: Check | None) -> Response:
    changes = decode_changes(body, resources.limits)
    await _refuse_other_timestamp(resources, event_id, changes.pop("timestamp", None))
    if changes.get("source") == OWN_SOURCE:
        await _refuse_own_source(resources, event_id)
    try:
        async with _invalidating(resources):
            event = await resources.store.update(event_id, changes, check)
    except ParameterInvalid as error:  # only the fields of the body reach Postgres unchecked
        raise _not_storable(error.detail) from None
    if event is None:
        raise _not_found(event_id)
    return _json(_encode(event))


async def _refuse_other_timestamp(resources: Resources, event_id: int, moment: datetime | None) -> None:
    event = None if moment is None else await resources.store.get(event_id)
    if event is not None and event.timestamp != moment:
        detail = f"the timestamp of an event cannot be changed; omit it, or send {event.timestamp.isoformat()}"
        raise EventInvalid(detail, errors=[FieldError("/timestamp", "field_immutable", detail)])


async def _refuse_own_source(resources: Resources, event_id: int) -> None:
    event = await resources.store.get(event_id)
    if event is not None and event.source != OWN_SOURCE:
        detail = f"the source {OWN_SOURCE} is reserved for the collector's own events; omit it, or send another one"
        raise EventInvalid(detail, errors=[FieldError("/source", "source_reserved", detail)])


async def delete(request: Request) -> Response:
    """Delete one event; the counts are adjusted in the same transaction."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    event_id = parameters.event_id(request)
    async with _invalidating(resources):
        is_deleted = await resources.store.delete(event_id, precondition_of(request))
    if not is_deleted:
        raise _not_found(event_id)
    return Response(status_code=204)


@asynccontextmanager
async def _invalidating(resources: Resources) -> AsyncIterator[None]:
    """Begin new cache generations before the response is sent, whatever its status.

    Also for 404 and 412, since another client may just have changed the event, and for 503, since the transaction may
    be committed.
    """
    try:
        yield
    finally:
        await resources.cache.invalidate(CacheScope.LIST)
        await resources.cache.invalidate(CacheScope.ONE)


def _json(content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status_code=status, headers=headers, media_type=JSON)


def _not_found(event_id: int) -> EventNotFound:
    return EventNotFound(f"there is no event {event_id}")


def _not_storable(reason: str) -> EventInvalid:
    detail = f"Postgres cannot store the event: {reason}"
    return EventInvalid(detail, errors=[FieldError("", "not_storable", detail)])


_ID: Final = Parameter(name="id", location="path", type=int, description="The event's id.", required=True)
_ETAG: Final = {"ETag": "The entity tag, which changes whenever the event changes."}
IDEMPOTENCY_KEY: Final = Parameter(
    name=KEY_HEADER,
    location="header",
    type=UUID,
    description=(
        "Makes the request safe to retry: with the same idempotency key and the same body it is stored once. With "
        "another body, it is refused (`idempotency_key_reused`) if the caller used the key before. Prefer a UUIDv7: "
        "it contains its age, so a request whose idempotency key may have been forgotten is refused (`batch_too_old`) "
        "instead of stored twice."
    ),
)
OPERATIONS: Final = (
    Operation(
        method="POST",
        path=PATH,
        endpoint=create,
        summary="Store one event",
        description="The response is sent when the event is committed. A repeated request gets the event as it is now; "
        "without the scope `read`, as it was sent. If the event was deleted since, the response is 410 "
        "`event_deleted`.",
        tag="events",
        scope="ingest",
        parameters=(IDEMPOTENCY_KEY,),
        body={JSON: EventCreate},
        responses={
            201: ResponseSpec(
                description="The event is stored.",
                type=Event,
                headers={"Location": "The path of the event.", **RATE_LIMIT_HEADERS},
            )
        },
        errors=(400, 408, 410, 413, 415, 422, 429),
    ),
    Operation(
        method="GET",
        path=f"{PATH}/{{id}}",
        endpoint=get,
        summary="Get one event",
        tag="events",
        scope="read",
        parameters=(_ID, IF_NONE_MATCH),
        responses={
            200: ResponseSpec(description="The event.", type=Event, headers=_ETAG),
            304: ResponseSpec(description="The event matches If-None-Match.", headers=_ETAG),
        },
        errors=(404, 422),
    ),
    Operation(
        method="PUT",
        path=f"{PATH}/{{id}}",
        endpoint=update,
        summary="Update one event",
        description="Partial: absent fields are left unchanged.",
        tag="events",
        scope="write",
        parameters=(_ID, IF_MATCH),
        body={JSON: EventUpdate},
        responses={200: ResponseSpec(description="The updated event.", type=Event)},
        errors=(400, 404, 408, 412, 413, 415, 422),
    ),
    Operation(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        endpoint=delete,
        summary="Delete one event",
        tag="events",
        scope="write",
        parameters=(_ID, IF_MATCH),
        responses={204: ResponseSpec(description="The event is deleted.")},
        errors=(404, 412, 422),
    ),
)
