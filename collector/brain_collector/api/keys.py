"""API keys: make one, list them, revoke one. For callers with the scope `admin`."""

import re
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.access import keyring
from brain_collector.access.guard import caller_of
from brain_collector.api import parameters
from brain_collector.api.operation import JSON, Answer, Operation, Parameter
from brain_collector.api.resources import resources_of
from brain_collector.errors import ApiKeyInvalid, ApiKeyNotFound, BodyUndecodable, EventNotFound, FieldError
from brain_collector.http.body import body_of, media_type
from brain_collector.schema import ApiKey, KeyCreate, KeyCreated

PATH: Final = "/api/keys"
T = TypeVar("T")


async def create(request: Request) -> Response:
    """Make a key; its text is in this answer and nowhere else."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    media_type(request, JSON)
    with resources.budget.reserve() as reservation:
        body = await body_of(request, resources.settings, reservation)
        wanted = decode(body, KeyCreate)
    by = caller_of(request.scope)
    if by == keyring.OPEN.name and "admin" not in wanted.scopes:
        raise _invalid("scopes", "lack `admin`: from the first key on keys are needed, and nobody could make another")
    secret = keyring.draw()
    made = await resources.keys.create(wanted, secret)
    said = f"The API key be_{made.prefix} ({made.name}) was made"
    resources.own_events.log(
        "api_key_created", "info", said, prefix=made.prefix, name=made.name, scopes=made.scopes, by=by
    )
    return _json(KeyCreated(**msgspec.structs.asdict(made), key=secret.text), status=201)


async def list_keys(request: Request) -> Response:
    """Return every key without its text, which is not known."""
    parameters.refuse_unknown(request)
    return _json(await resources_of(request).keys.all())


async def revoke(request: Request) -> Response:
    """Revoke a key; one that is revoked stays so."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    key, newly = await resources.keys.revoke(_key_id(request))
    if newly:
        said = f"The API key be_{key.prefix} ({key.name}) was revoked"
        by = caller_of(request.scope)
        resources.own_events.log("api_key_revoked", "warning", said, prefix=key.prefix, name=key.name, by=by)
    return Response(status_code=204)


def decode(body: bytes, type: type[T]) -> T:
    """Return a body about keys as the struct that it should be.

    Raises:
        ApiKeyInvalid, BodyUndecodable: it is not. What was in it is not in the message.
    """
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        found = re.match(r"\w+", place) or re.search(r"(?<=field `)\w+", said)
        raise _invalid(found[0] if found else "", f"cannot be taken: {said}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUndecodable(f"the body is no JSON: {error}") from None


def _invalid(name: str, why: str) -> ApiKeyInvalid:
    said = f"{name or 'the body'} {why}"
    return ApiKeyInvalid(said, errors=[FieldError(f"/{name}" if name else "", "api_key_invalid", said)])


def _key_id(request: Request) -> int:
    try:
        return parameters.event_id(request)
    except EventNotFound:  # out of the range of ids
        raise ApiKeyNotFound(f"there is no key {request.path_params['id'][:30]}; GET {PATH} lists them") from None


def _json(content: Any, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, {"Cache-Control": "no-store"}, JSON)


_ID: Final = Parameter(name="id", place="path", type=int, description="The key's id.", required=True)
OPERATIONS: Final = (
    Operation(
        method="POST",
        path=PATH,
        endpoint=create,
        summary="Make an API key",
        description="The answer holds the key's text, which is shown this once; only its hash is stored.",
        tag="keys",
        scope="admin",
        body={JSON: KeyCreate},
        answers={201: Answer(description="Made.", type=KeyCreated)},
        errors=(400, 408, 409, 413, 415, 422),
    ),
    Operation(
        method="GET",
        path=PATH,
        endpoint=list_keys,
        summary="List the API keys",
        description="Oldest first, revoked and expired ones too.",
        tag="keys",
        scope="admin",
        answers={200: Answer(description="The keys.", type=list[ApiKey])},
        errors=(422,),
    ),
    Operation(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        endpoint=revoke,
        summary="Revoke an API key",
        description="Every collector refuses it within 5 s.",
        tag="keys",
        scope="admin",
        parameters=(_ID,),
        answers={204: Answer(description="Revoked, now or before.")},
        errors=(404, 422),
    ),
)
