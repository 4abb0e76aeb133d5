"""`/api/keys`: create, list and revoke API keys. For callers with the scope `admin`."""

import re
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.access import keyring
from brain_collector.access.guard import caller_of
from brain_collector.api import parameters
from brain_collector.api.operation import JSON, Operation, Parameter, ResponseSpec
from brain_collector.api.resources import resources_of
from brain_collector.errors import ApiKeyInvalid, ApiKeyNotFound, BodyUndecodable, EventNotFound, FieldError
from brain_collector.http.body import body_of, media_type
from brain_collector.http.scope import context_of
from brain_collector.schema import ApiKey, KeyCreate, KeyCreated

PATH: Final = "/api/keys"
T = TypeVar("T")


async def create(request: Request) -> Response:
    """Create an API key. Its secret is in this response and nowhere else."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    media_type(request, JSON)
    with resources.budget.reserve(caller_of(request.scope)) as reservation:
        body = await body_of(request, resources.settings, reservation, resources.body_threads)
        description = decode(body, KeyCreate)
    caller = context_of(request.scope).caller
    if caller == keyring.OPEN and "admin" not in description.scopes:
        raise _invalid("scopes", "lack `admin`: once this key exists, a key with that scope is needed to create others")
    secret = keyring.generate()
    api_key = await resources.keys.create(description, secret, caller)
    message = f"The API key be_{api_key.prefix} ({api_key.name}) was created"
    details = {"prefix": api_key.prefix, "name": api_key.name, "scopes": api_key.scopes, "by": caller.name}
    resources.own_events.log("api_key_created", "info", message, **details)
    return _json(KeyCreated(**msgspec.structs.asdict(api_key), key=secret.text), status=201)


async def list_keys(request: Request) -> Response:
    """Return every API key without its secret, which is not stored."""
    parameters.refuse_unknown(request)
    return _json(await resources_of(request).keys.all())


async def revoke(request: Request) -> Response:
    """Revoke an API key; one that is revoked already is left unchanged."""
    resources = resources_of(request)
    parameters.refuse_unknown(request)
    caller = context_of(request.scope).caller
    api_key, is_newly_revoked = await resources.keys.revoke(_key_id(request), caller)
    if is_newly_revoked:
        message = f"The API key be_{api_key.prefix} ({api_key.name}) was revoked"
        details = {"prefix": api_key.prefix, "name": api_key.name, "by": caller.name}
        resources.own_events.log("api_key_revoked", "warning", message, **details)
    return Response(status_code=204)


def decode(body: bytes, type: type[T]) -> T:
    """Decode a body that may contain an API key; the message of an error quotes nothing of it.

    Raises:
        ApiKeyInvalid: the body does not match the type.
        BodyUndecodable: the body is not valid JSON.
    """
    try:
        return msgspec.json.decode(body, type=type)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$.")
        field = re.match(r"\w+", path) or re.search(r"(?<=field `)\w+", reason)
        raise _invalid(field[0] if field else "", f"cannot be used: {reason}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BodyUndecodable(f"the body is not valid JSON: {error}") from None


def _invalid(field: str, problem: str) -> ApiKeyInvalid:
    detail = f"{field or 'the body'} {problem}"
    return ApiKeyInvalid(detail, errors=[FieldError(f"/{field}" if field else "", "api_key_invalid", detail)])


def _key_id(request: Request) -> int:
    try:
        return parameters.event_id(request)
    except EventNotFound:  # outside the range of ids
        raise ApiKeyNotFound(f"there is no API key {request.path_params['id'][:30]}; GET {PATH} lists them") from None


def _json(content: Any, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, {"Cache-Control": "no-store"}, JSON)


_ID: Final = Parameter(name="id", location="path", type=int, description="The id of the API key.", required=True)
OPERATIONS: Final = (
    Operation(
        method="POST",
        path=PATH,
        endpoint=create,
        summary="Create an API key",
        description="The response has the secret, which is shown only once: the collector stores its hash.",
        tag="keys",
        scope="admin",
        body={JSON: KeyCreate},
        responses={201: ResponseSpec(description="The API key is created.", type=KeyCreated)},
        errors=(400, 408, 409, 413, 415, 422),
    ),
    Operation(
        method="GET",
        path=PATH,
        endpoint=list_keys,
        summary="List API keys",
        description="Oldest first, including revoked and expired ones.",
        tag="keys",
        scope="admin",
        responses={200: ResponseSpec(description="The API keys.", type=list[ApiKey])},
        errors=(422,),
    ),
    Operation(
        method="DELETE",
        path=f"{PATH}/{{id}}",
        endpoint=revoke,
        summary="Revoke an API key",
        description="Every collector refuses the API key within 5 s.",
        tag="keys",
        scope="admin",
        parameters=(_ID,),
        responses={204: ResponseSpec(description="The API key is revoked, by this request or an earlier one.")},
        errors=(404, 422),
    ),
)
