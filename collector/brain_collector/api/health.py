"""Health probes: whether the process is alive, whether it should receive traffic, and the state of its parts."""

from typing import Final, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from brain_collector import VERSION
from brain_collector.access.guard import is_trusted
from brain_collector.api.operation import JSON, Operation, ResponseSpec
from brain_collector.api.resources import resources_of
from brain_collector.http.draining import is_draining
from brain_collector.schema import DatabaseHealth, Health, Liveness, Readiness


async def health(request: Request) -> Response:
    """Return the state of the parts; a caller without read access gets the status only."""
    resources = resources_of(request)
    is_up = resources.availability.database == resources.availability.cache == "up"
    status: Literal["ok", "degraded"] = "ok" if is_up else "degraded"
    resources.own_events.check("health_check", "info", f"Health was checked: {status}", status=status)
    if not is_trusted(request):
        return _json(Health(status))
    survey = resources.availability.survey
    return _json(
        Health(
            status=status,
            version=VERSION,
            database=resources.availability.database,
            cache=resources.availability.cache,
            engines=resources.availability.engines,
            failing_jobs=resources.job_states.failing,
            unindexable_events=survey.unindexable_events if survey is not None else None,
        )
    )


async def database_health(request: Request) -> Response:
    """Send a query to the database; respond with 503 if it does not respond."""
    resources = resources_of(request)
    latency_ms = await resources.ping.latency_ms()
    if latency_ms is None:
        resources.own_events.check("db_health_check", "error", "The database does not respond")
        headers = {"Retry-After": str(resources.settings.retry_after_s)}
        return _json(DatabaseHealth("down", None), status=503, headers=headers)
    resources.own_events.check("db_health_check", "info", "The database responds", latency_ms=latency_ms)
    return _json(DatabaseHealth("ok", latency_ms))


async def livez(_request: Request) -> Response:
    """Respond, without asking anything else."""
    return _json(Liveness())


async def readyz(request: Request) -> Response:
    """Return whether this collector should receive traffic."""
    resources = resources_of(request)
    reasons = ["the collector is shutting down"] if is_draining(request) else []
    reasons += resources.availability.problems(is_responding=await resources.ping.latency_ms() is not None)
    if not reasons and resources.keys.is_unavailable:
        reasons.append("the API keys have not been read yet")
    if reasons:
        headers = {"Retry-After": str(resources.settings.retry_after_s)}
        return _json(Readiness("not_ready", reasons if is_trusted(request) else []), status=503, headers=headers)
    return _json(Readiness("ready", []))


def _json(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, headers=headers, media_type=JSON)


OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/health",
        endpoint=health,
        summary="State of the collector and its parts",
        description="Without read access, the response has the status only.",
        tag="health",
        responses={200: ResponseSpec(description="The collector is running.", type=Health)},
        scope=None,
    ),
    Operation(
        method="GET",
        path="/health/db",
        endpoint=database_health,
        summary="Whether the database responds",
        tag="health",
        responses={
            200: ResponseSpec(description="The database responds.", type=DatabaseHealth),
            503: ResponseSpec(description="The database does not respond.", type=DatabaseHealth),
        },
        scope=None,
    ),
    Operation(
        method="GET",
        path="/livez",
        endpoint=livez,
        summary="Liveness probe",
        tag="health",
        responses={200: ResponseSpec(description="The process is alive.", type=Liveness)},
        scope=None,
    ),
    Operation(
        method="GET",
        path="/readyz",
        endpoint=readyz,
        summary="Readiness probe: whether this collector should receive traffic",
        description="Without read access, the response has no reasons.",
        tag="health",
        responses={
            200: ResponseSpec(description="The collector is ready.", type=Readiness),
            503: ResponseSpec(description="The collector is not ready; `reasons` says why.", type=Readiness),
        },
        scope=None,
    ),
)
