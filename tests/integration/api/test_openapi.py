"""The OpenAPI document: valid, complete, and true of a running collector."""

import re
from collections.abc import Iterable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis import GenerationMode, checks
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks as openapi_checks
from starlette.routing import Route, WebSocketRoute

from brain_collector.api.openapi import document
from brain_collector.api.operation import Operation
from brain_collector.metrics import Metrics
from brain_collector.server.app import OPERATIONS, create_app
from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, KEY_HEADER
from tests.support.collector import collector_process, event, ndjson, new_database
from tests.support.effort import times
from tests.support.engines import SuiteEngines
from tests.support.waiting import PATIENCE_S

UUID_SHAPE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BEARER = {"Authorization": "Bearer s3cret-key"}
UNDESCRIBED = {"/", "/assets/{name}", "/openapi.json", "/docs", "/manual", "/manual/{name:path}"}
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
]
"""Without the checks that need several requests or an API key: test_events and test_access have those."""


def test_the_document_is_valid_openapi_3_1() -> None:
    described = document(OPERATIONS)

    validate(described)
    assert described["openapi"] == "3.1.0"


def test_document_operations_and_routes_are_the_same() -> None:
    described = {
        (method.upper(), path) for path, methods in document(OPERATIONS)["paths"].items() for method in methods
    }
    every = create_app(Settings(), Metrics()).routes
    routes = [route for route in every if isinstance(route, Route)]
    sockets = {route.path for route in every if isinstance(route, WebSocketRoute)}
    routed = {
        (method, route.path)
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
        if route.path not in UNDESCRIBED
    }

    assert described == {(operation.method, operation.path) for operation in OPERATIONS} == routed
    assert {route.path for route in routes} >= UNDESCRIBED
    assert sockets == {operation.path for operation in OPERATIONS if operation.socket}
    assert len(routes) + len(sockets) == len(every)


def test_every_operation_has_a_summary_an_id_of_its_own_and_describes_its_parameters() -> None:
    operations = [found for methods in document(OPERATIONS)["paths"].values() for found in methods.values()]

    assert len({found["operationId"] for found in operations}) == len(operations)
    assert all(found["summary"] for found in operations)
    assert all(parameter["description"] for found in operations for parameter in found.get("parameters", []))


@pytest.fixture(scope="module")
def url(engines: SuiteEngines) -> Iterator[str]:
    """A collector with some events, for requests from outside any loop."""
    with (
        new_database(engines, template="migrated") as dsn,
        collector_process(
            "--database-url", dsn, "--redis-url", engines.redis_url, BRAIN_COLLECTOR_API_KEY="s3cret-key"
        ) as process,
    ):
        body = ndjson(*(event(message=str(n), details={"n": n}, source="s") for n in range(50)))
        answer = httpx.post(
            f"{process.url}/api/events/batch",
            content=body,
            headers=BEARER | {"Content-Type": "application/x-ndjson"},
            timeout=PATIENCE_S,
        )
        assert answer.status_code == 200
        yield process.url


def without_security(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document as if no key were needed: keys are test_access's and test_keys'."""
    described = document(operations)
    for methods in described["paths"].values():
        for found in methods.values():
            found["security"] = []
    return described


FIRST_MESSAGE_ONLY = SchemathesisConfig.from_dict({"max-stream-events": 1})
"""Otherwise the event stream would not end."""


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: f"{operation.method} {operation.path}")
def test_whatever_is_asked_the_answer_is_as_described(url: str, operation: Operation) -> None:
    loaded = schemathesis.openapi.from_dict(without_security(OPERATIONS), config=FIRST_MESSAGE_ONLY)
    described = loaded[operation.path][operation.method]
    wanted = list(CHECKS)
    if operation.method == "POST":  # elsewhere a cursor of another filter, or a timestamp that moves, is refused
        wanted.append(openapi_checks.positive_data_acceptance)
    if operation.path != BATCH_PATH:  # there, one good event among bad ones is taken
        wanted.append(openapi_checks.negative_data_rejection)
    modes = [GenerationMode.POSITIVE]
    if operation.parameters or operation.body:
        modes.append(GenerationMode.NEGATIVE)

    with requests.Session() as session:
        session.headers.update(BEARER)

        @given(case=st.one_of(*(described.as_strategy(generation_mode=mode) for mode in modes)))
        @hypothesis_settings(
            max_examples=times(25),
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: "schemathesis.Case[Any]") -> None:
            if case.headers and UUID_SHAPE.fullmatch(case.headers.get(KEY_HEADER, "")):
                case.headers[KEY_HEADER] = str(uuid4())  # one that came before with another body is refused, rightly
            case.call_and_validate(base_url=url, session=session, checks=wanted)

        ask()


def test_the_document_is_served(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json", headers=BEARER, timeout=PATIENCE_S).json() == document(OPERATIONS)
