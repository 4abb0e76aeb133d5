"""Probes: is the process alive, should it get traffic, what does it work with."""

import time
from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector import VERSION
from brain_collector.access.guard import is_trusted
from brain_collector.api.operation import JSON, Answer, Operation
from brain_collector.api.resources import Resources, resources_of
from brain_collector.errors import CollectorError
from brain_collector.http.draining import is_draining
from brain_collector.schema import DatabaseHealth, Health, Liveness, Readiness


async def health(request: Request) -> Response:
    """Tell what is up; who may not see more gets the status alone."""
    resources = resources_of(request)
    up = resources.availability.database == resources.availability.cache == "up"
    status: Literal["ok", "degraded"] = "ok" if up else "degraded"
    resources.own_events.check("health_check", "info", f"Health was checked: {status}", status=status)
    if not is_trusted(request):
        return _json(Health(status))
    return _json(
        Health(
            status=status,
            version=VERSION,
            database=resources.availability.database,
            cache=resources.availability.cache,
            engines=resources.availability.engines,
        )
    )


async def database_health(request: Request) -> Response:
    """Ask the database; 503 when it does not answer."""
    resources = resources_of(request)
    latency_ms = await _ping(resources)
    if latency_ms is None:
        resources.own_events.check("db_health_check", "error", "The database does not answer")
        after = {"Retry-After": str(resources.settings.retry_after_s)}
        return _json(DatabaseHealth("down", None), status=503, headers=after)
    resources.own_events.check("db_health_check", "info", "The database answers", latency_ms=latency_ms)
    return _json(DatabaseHealth("ok", latency_ms))


async def livez(_request: Request) -> Response:
    """The process answers; nothing else is asked."""
    return _json(Liveness())


async def readyz(request: Request) -> Response:
    """Tell whether this collector should get traffic."""
    resources = resources_of(request)
    reasons = ["the collector is stopping"] if is_draining(request) else []
    reasons += resources.availability.problems(answers=await _ping(resources) is not None)
    if not reasons and resources.keys.is_away:
        reasons.append("the API keys could not be read yet")
    if reasons:
        after = {"Retry-After": str(resources.settings.retry_after_s)}
        return _json(Readiness("not_ready", reasons if is_trusted(request) else []), status=503, headers=after)
    return _json(Readiness("ready", []))


async def _ping(resources: Resources) -> float | None:
    """Return how long the database took to answer, in ms; None when it does not."""
    began_s = time.perf_counter()
    try:
        await resources.store.ping()
    except CollectorError:
        return None
    return round((time.perf_counter() - began_s) * 1000, 3)


def _json(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, headers=headers, media_type=JSON)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/health",
        endpoint=health,
        summary="What is up",
        description="Without the key, only the status.",
        tag="health",
        answers={200: Answer(description="The collector runs.", type=Health)},
        scope=None,
    ),
    Operation(
        method="GET",
        path="/health/db",
        endpoint=database_health,
        summary="Whether the database answers",
        tag="health",
        answers={
            200: Answer(description="It does.", type=DatabaseHealth),
            503: Answer(description="It does not.", type=DatabaseHealth),
        },
        scope=None,
    ),
    Operation(
        method="GET",
        path="/livez",
        endpoint=livez,
        summary="Whether the process is alive",
        tag="health",
        answers={200: Answer(description="It is.", type=Liveness)},
        scope=None,
    ),
    Operation(
        method="GET",
        path="/readyz",
        endpoint=readyz,
        summary="Whether this collector should get traffic",
        description="Without the key, no reasons.",
        tag="health",
        answers={
            200: Answer(description="It should.", type=Readiness),
            503: Answer(description="It should not, for the reasons given.", type=Readiness),
        },
        scope=None,
    ),
)
