"""The application of a connection beyond the connection limit: it responds to probes and refuses everything else."""

from collections.abc import Container

from starlette.types import ASGIApp, Receive, Scope, Send

from brain_collector.errors import Unavailable
from brain_collector.http.connection_limit import ConnectionLimit
from brain_collector.http.problem import response
from brain_collector.http.request_log import RequestLog


def limit_reached(limit: ConnectionLimit, retry_after_s: int) -> Unavailable:
    """Return the refusal of a connection beyond the limit."""
    return Unavailable(
        f"the connection limit ({limit.max_connections:,}, BRAIN_COLLECTOR_MAX_CONNECTIONS) is reached; "
        f"try again in {retry_after_s} s",
        retry_after_s=retry_after_s,
    )


class ProbesOnly:
    """ASGI application that passes requests for `paths` to the collector's, and refuses others with a 503."""

    def __init__(self, app: ASGIApp, *, paths: Container[str], limit: ConnectionLimit, retry_after_s: int) -> None:
        self._app = app
        self._paths = paths
        self._limit = limit
        self._retry_after_s = retry_after_s
        self._refusal = RequestLog(self._refuse, metrics=limit.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse."""
        if scope["path"] in self._paths:
            await self._app(scope, receive, send)
        else:
            self._limit.count_refusal("crowded")
            await self._refusal(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        await response(limit_reached(self._limit, self._retry_after_s))(scope, receive, send)
