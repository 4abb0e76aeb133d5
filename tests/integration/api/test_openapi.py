"""The OpenAPI document: valid, complete, and true of a running collector."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route, WebSocketRoute

from brain_collector.api.openapi import document
from brain_collector.metrics import Metrics
from brain_collector.server.app import OPERATIONS, create_app
from brain_collector.settings import Settings
from tests.support.collector import collector_process, event, ndjson, new_database
from tests.support.effort import times
from tests.support.engines import SuiteEngines
from tests.support.waiting import PATIENCE_S

BEARER = {"Authorization": "Bearer s3cret-key"}
UNDESCRIBED = {"/", "/assets/{name}", "/openapi.json", "/docs", "/manual", "/manual/{name:path}"}
CONFIGURATION = Path(__file__).parents[3] / "schemathesis.toml"


def test_the_document_is_valid_openapi_3_1() -> None:
    described = document(OPERATIONS, Settings())

    validate(described)
    assert described["openapi"] == "3.1.0"


def test_document_operations_and_routes_are_the_same() -> None:
    described = {
        (method.upper(), path)
        for path, methods in document(OPERATIONS, Settings())["paths"].items()
        for method in methods
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

    assert routed == {(operation.method, operation.path) for operation in OPERATIONS}
    assert described == {(operation.method, operation.path) for operation in OPERATIONS if not operation.socket}
    assert {route.path for route in routes} >= UNDESCRIBED
    assert sockets == {operation.path for operation in OPERATIONS if operation.socket}
    assert len(routes) + len(sockets) == len(every)


def test_every_operation_has_a_summary_an_id_of_its_own_and_describes_its_parameters() -> None:
    operations = [found for methods in document(OPERATIONS, Settings())["paths"].values() for found in methods.values()]

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


def test_whatever_is_sent_the_response_is_as_described(url: str, tmp_path: Path) -> None:
    """All phases and checks of schemathesis, with the exceptions that its configuration gives reasons for."""
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIGURATION, "run", f"{url}/openapi.json"),
        *("--phases", "examples,coverage,fuzzing,stateful", "--checks", "all", "--continue-on-failure"),
        *("--max-examples", str(times(2)), "--generation-deterministic", "--request-timeout", str(PATIENCE_S)),
        *("--header", f"Authorization: {BEARER['Authorization']}"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    n = sum(operation.socket is None for operation in OPERATIONS)
    assert f"{n} selected / {n} total" in ended.stdout


def test_the_document_is_served(url: str) -> None:
    assert httpx.get(f"{url}/openapi.json", headers=BEARER, timeout=PATIENCE_S).json() == document(
        OPERATIONS, Settings()
    )


def test_without_a_required_key_the_document_requires_none() -> None:
    described = document(OPERATIONS, Settings(), requires_key=False)

    validate(described)
    assert described["security"] == []
    assert not any(found["security"] for methods in described["paths"].values() for found in methods.values())
    with_key = document(OPERATIONS, Settings())["paths"]["/api/events"]
    assert with_key["get"]["security"] == [{"key": ["read"]}]


def test_limits_of_parameters_are_those_of_the_settings() -> None:
    described = document(OPERATIONS, Settings(max_list_limit=7, max_list_offset=8, max_filter_values=9))
    schemas = {each["name"]: each["schema"] for each in described["paths"]["/api/events"]["get"]["parameters"]}

    assert (schemas["limit"]["maximum"], schemas["offset"]["maximum"], schemas["event_type"]["maxItems"]) == (7, 8, 9)
