"""OpenAPI 3.1, made from the operations and from the structs that decode requests and encode responses."""

from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brain_collector import VERSION
from brain_collector.api.operation import JSON, Operation, Parameter, ResponseSpec
from brain_collector.errors import ProblemBody
from brain_collector.http.problem import MEDIA_TYPE
from brain_collector.settings import Settings

REF: Final = "#/components/schemas/{name}"
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait before the next attempt.", "schema": {"type": "integer"}}
}


def routes(operations: Iterable[Operation], settings: Settings, requires_key: Callable[[], bool]) -> list[Route]:
    """Return the route of `/openapi.json`, which makes the document when it is first asked for."""

    @cache
    def encoded(requires_key: bool) -> bytes:  # noqa: FBT001 - the argument of a cache
        return msgspec.json.encode(document(operations, settings, requires_key=requires_key))

    async def openapi(_request: Request) -> Response:
        return Response(encoded(requires_key()), media_type=JSON)

    return [Route("/openapi.json", openapi)]


def document(operations: Iterable[Operation], settings: Settings, *, requires_key: bool = True) -> dict[str, Any]:
    """Return the OpenAPI document of the API, as it is with these settings, and with or without a required API key.

    OpenAPI cannot describe a WebSocket; the description of the event stream names it.
    """
    all_operations = [operation for operation in operations if operation.socket is None]
    types = [type for operation in all_operations for type in _types(operation)]
    schemas, components = msgspec.json.schema_components([*types, ProblemBody], ref_template=REF)
    # The types are not hashable in every case, so their schemas are looked up by repr.
    schema_of = dict(zip(map(repr, [*types, ProblemBody]), schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in all_operations:
        described = _operation(operation, schema_of)
        if operation.parameters:
            described["parameters"] = [_parameter(each, schema_of, settings) for each in operation.parameters]
        described["security"] = [{"key": [operation.scope]}] if requires_key and operation.scope else []
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "brain-events collector",
            "version": VERSION,
            "description": "Stores system events in Postgres, and serves queries about them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "externalDocs": {"description": "The manual, as served by this collector.", "url": "manual/"},
        "paths": paths,
        "components": {
            "schemas": {name: _closed(schema) for name, schema in components.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The collector's API key."}},
        },
        "security": [{"key": []}] if requires_key else [],
    }


def _types(operation: Operation) -> list[Any]:
    responses = [response.type for response in operation.responses.values() if response.type is not None]
    return [*operation.body.values(), *(parameter.type for parameter in operation.parameters), *responses]


def _operation(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{operation.path.translate({47: '_', 123: '', 125: ''})}",
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            **{str(status): _response(response, schema_of) for status, response in operation.responses.items()},
            **{str(status): _problem(status, schema_of) for status in _problem_statuses(operation)},
        },
    }
    if operation.description:
        described["description"] = operation.description
    if operation.body:
        content = {media_type: {"schema": schema_of[repr(type)]} for media_type, type in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _problem_statuses(operation: Operation) -> list[int]:
    """Return the statuses of errors.

    Any request may have a wrong Host. With a scope, the API key or its scope may be missing, or the database may be
    unavailable.
    """
    shared = {400} if operation.scope is None else {400, 401, 403, 503}
    return sorted((shared | set(operation.errors)) - set(operation.responses))


def _parameter(parameter: Parameter, schema_of: dict[str, Any], settings: Settings) -> dict[str, Any]:
    schema = schema_of[repr(parameter.type)]
    if parameter.maximum:
        bound = "maxItems" if schema["type"] == "array" else "maximum"
        schema = {**schema, bound: getattr(settings, parameter.maximum)}
    return {
        "name": parameter.name,
        "in": parameter.location,
        "required": parameter.required,
        "description": parameter.description,
        "schema": schema,
    }


def _response(response: ResponseSpec, schema_of: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": response.description}
    content = {} if response.type is None else {response.media_type: {"schema": schema_of[repr(response.type)]}}
    if content := content | {media_type: {} for media_type in response.other_media}:
        described["content"] = content
    if response.headers:
        described["headers"] = {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in response.headers.items()
        }
    return described


def _problem(status: int, schema_of: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema_of[repr(ProblemBody)]}},
    }
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        described["headers"] = _RETRY_AFTER
    return described


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Forbid undescribed fields in what the collector sends; in events that it receives, they are ignored."""
    return schema if schema["title"] in {"EventCreate", "EventUpdate"} else {**schema, "additionalProperties": False}
