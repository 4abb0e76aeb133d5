"""OpenAPI 3.1 out of the operations and the very structs that decode requests and encode answers."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from brain_collector import VERSION
from brain_collector.api.operation import JSON, Answer, Operation, Parameter
from brain_collector.errors import ProblemBody
from brain_collector.http.problem import MEDIA_TYPE

REF: Final = "#/components/schemas/{name}"
_RETRY_AFTER: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def routes(operations: Iterable[Operation]) -> list[Route]:
    """Return the route of `/openapi.json`, which describes `operations`."""
    described = msgspec.json.encode(document(operations))

    async def openapi(_request: Request) -> Response:
        return Response(described, media_type=JSON)

    return [Route("/openapi.json", openapi)]


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    listed = list(operations)
    types = [kind for operation in listed for kind in _types(operation)]
    schemas, components = msgspec.json.schema_components([*types, ProblemBody], ref_template=REF)
    # Structs are no keys of a dict, nor are lists of them: pair them by position.
    schema_of = dict(zip(map(repr, [*types, ProblemBody]), schemas, strict=True))
    paths: dict[str, Any] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "brain-events collector",
            "version": VERSION,
            "description": "Stores system events in Postgres and answers queries about them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "externalDocs": {"description": "The manual of this collector.", "url": "manual/"},
        "paths": paths,
        "components": {
            "schemas": {name: _closed(schema) for name, schema in components.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The collector's API key."}},
        },
        "security": [{"key": []}],
    }


def _types(operation: Operation) -> list[Any]:
    answers = [answer.type for answer in operation.answers.values() if answer.type is not None]
    return [*operation.body.values(), *(parameter.type for parameter in operation.parameters), *answers]


def _operation(operation: Operation, schema_of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{operation.path.translate({47: '_', 123: '', 125: ''})}",
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": {
            **{str(status): _answer(answer, schema_of) for status, answer in operation.answers.items()},
            **{str(status): _problem(status, schema_of) for status in _problem_statuses(operation)},
        },
    }
    if operation.description:
        found["description"] = operation.description
    if operation.parameters:
        found["parameters"] = [_parameter(parameter, schema_of) for parameter in operation.parameters]
    if operation.body:
        content = {media_type: {"schema": schema_of[repr(kind)]} for media_type, kind in operation.body.items()}
        found["requestBody"] = {"required": True, "content": content}
    found["security"] = [] if operation.scope is None else [{"key": [operation.scope]}]
    return found


def _problem_statuses(operation: Operation) -> list[int]:
    """Any request may name a wrong host; a guarded one lacks a key, or its scope, or finds the database away."""
    shared = {400} if operation.scope is None else {400, 401, 403, 503}
    return sorted((shared | set(operation.errors)) - set(operation.answers))


def _parameter(parameter: Parameter, schema_of: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required,
        "description": parameter.description,
        "schema": schema_of[repr(parameter.type)],
    }


def _answer(answer: Answer, schema_of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.description}
    if answer.type is not None:
        found["content"] = {answer.media_type: {"schema": schema_of[repr(answer.type)]}} | {
            media_type: {} for media_type in answer.other_media
        }
    if answer.headers:
        found["headers"] = {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in answer.headers.items()
        }
    return found


def _problem(status: int, schema_of: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": schema_of[repr(ProblemBody)]}},
    }
    if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        found["headers"] = _RETRY_AFTER
    return found


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """What we send holds nothing that is not written down; what we take may, and is ignored."""
    return schema if schema["title"] in {"EventCreate", "EventUpdate"} else {**schema, "additionalProperties": False}
