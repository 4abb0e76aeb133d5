"""The middleware, called as a server calls it, around bare, Starlette and FastAPI applications."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from brain_events import Client, EventsMiddleware
from brain_events._adapters.asgi_exchange import UNMATCHED
from brain_events._delivery.transport import Response as BatchResponse
from brain_events._queue.batch import Batch
from brain_events.context import BOUND
from brain_events.testing import MemoryTransport
from brain_events.wire import Event
from tests.support.sdk import fast_client
from tests.support.waiting import PATIENCE_S

Message = dict[str, Any]
REQUEST: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]


def scope_of(path: str, kind: str = "http", method: str = "GET", headers: tuple[tuple[bytes, bytes], ...] = ()) -> Any:
    return {
        "type": kind,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"test"), *headers],
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "subprotocols": [],
        "extensions": {},
    }


async def call(app: Any, scope: Any, received: list[Message] = REQUEST) -> list[Message]:
    """Call `app` as a server does; once `received` is used up, the client has left."""
    left = list(received)
    sent: list[Message] = []

    async def receive() -> Message:
        kind = scope["type"].removesuffix("socket")
        return left.pop(0) if left else {"type": f"{'websocket' if kind == 'web' else kind}.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def get(app: Any, path: str = "/", **scope: Any) -> list[Message]:
    return asyncio.run(call(app, scope_of(path, **scope)))


def sent(client: Client, memory: MemoryTransport) -> list[Event]:
    assert client.flush(PATIENCE_S)
    return memory.events


def facts(event: Event) -> dict[str, Any]:
    """Return the details without what differs from run to run."""
    assert event.details is not None
    assert event.details["duration_ms"] >= 0
    assert event.details["request_id"]
    return {name: value for name, value in event.details.items() if name not in {"duration_ms", "request_id"}}


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})  # more_body is absent: it is the last


async def silent(scope: Any, receive: Any, send: Any) -> None:
    """Answers nothing."""


def test_one_event_tells_of_a_request(client: Client, memory: MemoryTransport) -> None:
    get(EventsMiddleware(hello, client=client), "/anything", method="PUT")
    (event,) = sent(client, memory)
    assert (event.event_type, event.severity, event.message) == ("http_request", "info", f"PUT {UNMATCHED} 200")
    assert facts(event) == {"method": "PUT", "route": UNMATCHED, "status": 200}


def test_a_head_request_is_told_as_what_it_is(client: Client, memory: MemoryTransport) -> None:
    get(EventsMiddleware(hello, client=client), method="HEAD")
    (event,) = sent(client, memory)
    assert facts(event) == {"method": "HEAD", "route": UNMATCHED, "status": 200}


def test_messages_pass_unchanged_but_for_the_request_id(client: Client) -> None:
    start, body = get(EventsMiddleware(hello, client=client))
    assert start["headers"][0][0] == b"x-request-id"
    assert body == {"type": "http.response.body", "body": b"hello"}


@pytest.mark.parametrize(
    ("given", "kept"), [(b"abc-DEF_0123.4", True), (b"short", False), (b"a" * 200, False), (b"evil\nline 1", False)]
)
def test_a_sound_request_id_is_kept_bound_and_sent_back(
    client: Client, memory: MemoryTransport, given: bytes, *, kept: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        client.log("inside", "info", "")
        await hello(scope, receive, send)

    start, _ = get(EventsMiddleware(app, client=client), headers=((b"x-request-id", given),))
    inside, request = sent(client, memory)
    assert inside.details is not None
    assert request.details is not None
    request_id = dict(start["headers"])[b"x-request-id"].decode()
    assert inside.details["request_id"] == request.details["request_id"] == request_id
    assert (request_id == given.decode()) is kept
    assert re.fullmatch(r"[A-Za-z0-9_.-]{8,128}", request_id)


def test_what_was_bound_before_is_bound_again_after(client: Client) -> None:
    async def run() -> Any:
        BOUND.set({"before": 1})
        await call(EventsMiddleware(hello, client=client), scope_of("/"))
        return BOUND.get()

    assert asyncio.run(run()) == {"before": 1}


def test_an_exception_is_logged_with_its_traceback_and_raised_on(client: Client, memory: MemoryTransport) -> None:
    failure = ZeroDivisionError("boom")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise failure

    with pytest.raises(ZeroDivisionError) as raised:
        get(EventsMiddleware(app, client=client))
    assert raised.value is failure
    assert failure.__cause__ is None
    error, request = sent(client, memory)
    assert (error.event_type, error.severity) == ("error", "error")
    assert error.details is not None
    assert "ZeroDivisionError: boom" in error.details["exception"]["traceback"]
    assert (request.severity, facts(request)["status"]) == ("error", 500)


def test_an_exception_after_the_start_keeps_the_status_that_was_sent(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        get(EventsMiddleware(app, client=client))
    assert [event.event_type for event in sent(client, memory)] == ["error", "http_request"]
    assert (memory.events[1].severity, facts(memory.events[1])["status"]) == ("error", 200)


def test_an_application_that_gives_up_after_a_disconnect_counts_as_499(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    get(EventsMiddleware(app, client=client))
    assert facts(sent(client, memory)[0])["status"] == 499


def test_an_application_that_answers_nothing_to_a_client_still_there_counts_as_500(
    client: Client, memory: MemoryTransport
) -> None:
    get(EventsMiddleware(silent, client=client))
    assert facts(sent(client, memory)[0])["status"] == 500


def test_a_cancelled_request_counts_as_499_and_stays_cancelled(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(call(EventsMiddleware(app, client=client), scope_of("/")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    (event,) = sent(client, memory)
    assert (event.event_type, facts(event)["status"]) == ("http_request", 499)


def test_a_send_to_a_client_that_left_is_no_error_of_the_application(client: Client, memory: MemoryTransport) -> None:
    async def gone(_: Message) -> None:
        raise BrokenPipeError

    async def receive() -> Message:
        return REQUEST[0]

    with pytest.raises(BrokenPipeError):
        asyncio.run(EventsMiddleware(hello, client=client)(scope_of("/"), receive, gone))  # type: ignore[arg-type]
    (event,) = sent(client, memory)
    assert facts(event)["status"] == 499


def test_bodies_are_not_read(client: Client) -> None:
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        return REQUEST[0]

    async def send(_: Message) -> None: ...

    asyncio.run(EventsMiddleware(hello, client=client)(scope_of("/"), receive, send))  # type: ignore[arg-type]
    assert asked == 0


def test_a_thousand_requests_at_once_do_not_mix(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": int(scope["path"][1:])})
        await asyncio.sleep(0)
        client.log("inside", "info", scope["path"])
        await send({"type": "http.response.body"})

    async def run() -> None:
        middleware = EventsMiddleware(app, client=client)
        await asyncio.gather(*(call(middleware, scope_of(f"/{n}")) for n in range(200, 1200)))

    asyncio.run(run())
    requests = {facts(e)["status"]: e.details for e in sent(client, memory) if e.event_type == "http_request"}
    assert sorted(requests) == list(range(200, 1200))
    inside = [e for e in memory.events if e.event_type == "inside"]
    assert len({(e.details or {})["request_id"] for e in inside}) == 1000
    for event in inside:
        assert (requests[int(event.message[1:])] or {})["request_id"] == (event.details or {})["request_id"]


@pytest.mark.parametrize(
    ("path", "excluded"),
    [("/livez", True), ("/livez/", False), ("/static/a.js", True), ("/static", False), ("/", False)],
)
def test_excluded_paths_leave_no_event(client: Client, memory: MemoryTransport, path: str, *, excluded: bool) -> None:
    start, _ = get(EventsMiddleware(hello, client=client, exclude=("/livez", "/static/*")), path)
    assert (start["headers"] == []) is excluded
    assert (sent(client, memory) == []) is excluded


def lifespan(app: Any, received: list[str]) -> list[Message]:
    return asyncio.run(call(app, {"type": "lifespan"}, [{"type": kind} for kind in received]))


def test_start_and_stop_of_an_application_are_logged_and_delivered(client: Client, memory: MemoryTransport) -> None:
    app = EventsMiddleware(Starlette(), client=client)
    messages = lifespan(app, ["lifespan.startup", "lifespan.shutdown"])
    assert [message["type"] for message in messages] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert [event.event_type for event in memory.events] == ["system_startup", "system_shutdown"]


def test_a_start_that_fails_is_critical(client: Client, memory: MemoryTransport) -> None:
    async def broken(_: Starlette) -> AsyncIterator[None]:
        raise ZeroDivisionError
        yield

    from contextlib import asynccontextmanager

    with pytest.raises(ZeroDivisionError):
        lifespan(EventsMiddleware(Starlette(lifespan=asynccontextmanager(broken)), client=client), ["lifespan.startup"])
    (event,) = sent(client, memory)
    assert (event.event_type, event.severity) == ("system_startup", "critical")
    assert "ZeroDivisionError" in (event.details or {})["reason"]


def test_an_application_without_a_lifespan_leaves_no_event_and_raises_as_it_does(
    client: Client, memory: MemoryTransport
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(scope["type"])

    with pytest.raises(AssertionError, match="lifespan"):
        lifespan(EventsMiddleware(app, client=client), ["lifespan.startup"])
    assert sent(client, memory) == []


def test_other_scopes_pass(client: Client, memory: MemoryTransport) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "something.new"}
    asyncio.run(call(EventsMiddleware(app, client=client), scope))
    assert seen == [scope]
    assert sent(client, memory) == []


async def user(request: Request) -> Response:
    return PlainTextResponse(str(request.path_params["id"]))


async def fail(request: Request) -> Response:
    raise ZeroDivisionError


async def stream(request: Request) -> Response:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    return StreamingResponse(parts())


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive_text()
    await websocket.close(4000)


async def broken_chat(websocket: WebSocket) -> None:
    await websocket.accept()
    raise ZeroDivisionError


def starlette(client: Client, *others: Middleware) -> Starlette:
    return Starlette(
        routes=[
            Route("/users/{id:int}", user),
            Route("/fail", fail),
            Route("/stream", stream),
            Mount("/admin", routes=[Route("/users/{id}", user), Mount("/files", app=hello)]),
            WebSocketRoute("/chat/{room}", chat),
            WebSocketRoute("/broken", broken_chat),
        ],
        middleware=[Middleware(EventsMiddleware, client=client), *others],
    )


@pytest.mark.parametrize(
    ("path", "route", "status"),
    [
        ("/users/7", "/users/{id}", 200),
        ("/stream", "/stream", 200),
        ("/admin/users/7", "/admin/users/{id}", 200),
        ("/admin/files/a/b", "/admin/files/{path}", 200),
        ("/nowhere", UNMATCHED, 404),
    ],
)
def test_the_route_of_starlette_is_its_template(
    client: Client, memory: MemoryTransport, path: str, route: str, status: int
) -> None:
    get(starlette(client), path)
    (event,) = sent(client, memory)
    assert facts(event) == {"method": "GET", "route": route, "status": status}
    assert event.severity == ("info" if status < 400 else "warning")


def test_an_exception_in_starlette_is_logged_once(client: Client, memory: MemoryTransport) -> None:
    with pytest.raises(ZeroDivisionError):
        get(starlette(client), "/fail")
    assert [(e.event_type, facts(e)["route"]) for e in sent(client, memory)] == [
        ("error", "/fail"),
        ("http_request", "/fail"),
    ]


def test_around_a_whole_application_it_sees_the_answer_to_an_exception_too(
    client: Client, memory: MemoryTransport
) -> None:
    sent_messages: list[Message] = []

    async def receive() -> Message:
        return REQUEST[0]

    async def send(message: Message) -> None:
        sent_messages.append(message)

    app = EventsMiddleware(Starlette(routes=[Route("/fail", fail)]), client=client)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(app(scope_of("/fail"), receive, send))  # type: ignore[arg-type]
    assert [event.event_type for event in sent(client, memory)] == ["http_request", "error"]
    assert facts(memory.events[0])["status"] == sent_messages[0]["status"] == 500
    assert b"x-request-id" in dict(sent_messages[0]["headers"])


def test_a_base_http_middleware_below_changes_nothing(client: Client, memory: MemoryTransport) -> None:
    async def dispatch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        client.log("inside", "info", "")
        return await call_next(request)

    get(starlette(client, Middleware(BaseHTTPMiddleware, dispatch=dispatch)), "/users/7")
    inside, request = sent(client, memory)
    assert (inside.details or {})["request_id"] == (request.details or {})["request_id"]
    assert facts(request)["route"] == "/users/{id}"


def test_a_request_is_over_before_its_background_task_which_may_still_fail(
    client: Client, memory: MemoryTransport
) -> None:
    async def later() -> None:
        client.log("inside", "info", "")
        raise ZeroDivisionError

    async def endpoint(_: Request) -> Response:
        return PlainTextResponse("", background=BackgroundTask(later))

    app = EventsMiddleware(Starlette(routes=[Route("/", endpoint)]), client=client)
    with pytest.raises(ZeroDivisionError):
        get(app)
    assert [(e.event_type, e.severity) for e in sent(client, memory)] == [
        ("http_request", "info"),
        ("inside", "info"),
        ("error", "error"),
    ]


def test_the_route_of_fastapi_is_its_template(client: Client, memory: MemoryTransport) -> None:
    router = APIRouter(prefix="/users")

    @router.get("/{id}")
    async def read(id: int) -> int:
        if id == 0:
            raise HTTPException(418)
        return 1 // (id + 1)

    app = FastAPI()
    app.get("/direct/{id}")(read)
    app.include_router(router, prefix="/v1")
    app.add_middleware(EventsMiddleware, client=client)
    for path in ("/v1/users/7", "/v1/users/0", "/v1/users/x", "/direct/7"):
        get(app, path)
    with pytest.raises(ZeroDivisionError):
        get(app, "/v1/users/-1")
    assert [
        (facts(e)["route"], facts(e)["status"]) for e in sent(client, memory) if e.event_type == "http_request"
    ] == [
        ("/v1/users/{id}", 200),
        ("/v1/users/{id}", 418),
        ("/v1/users/{id}", 422),
        ("/direct/{id}", 200),
        ("/v1/users/{id}", 500),
    ]


def socket(app: Any, path: str, *received: Message) -> list[Message]:
    return asyncio.run(call(app, scope_of(path, "websocket"), [{"type": "websocket.connect"}, *received]))


def test_one_event_tells_of_a_websocket(client: Client, memory: MemoryTransport) -> None:
    socket(starlette(client), "/chat/42", {"type": "websocket.receive", "text": "hi"})
    (event,) = sent(client, memory)
    assert (event.event_type, event.severity) == ("websocket", "info")
    assert facts(event) == {"route": "/chat/{room}", "accepted": True, "code": 4000}


def test_a_websocket_that_was_never_accepted_says_so(client: Client, memory: MemoryTransport) -> None:
    socket(starlette(client), "/nowhere")
    assert facts(sent(client, memory)[0]) == {"route": UNMATCHED, "accepted": False, "code": 1000}


def test_an_exception_in_a_websocket_is_logged_and_raised_on(client: Client, memory: MemoryTransport) -> None:
    with pytest.raises(ZeroDivisionError):
        socket(starlette(client), "/broken")
    assert [(e.event_type, e.severity) for e in sent(client, memory)] == [("error", "error"), ("websocket", "error")]


TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01".encode()


def test_a_traceparent_is_bound_for_the_request(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        client.log("inside", "info", "")
        await hello(scope, receive, send)

    get(EventsMiddleware(app, client=client), headers=((b"traceparent", TRACEPARENT),))
    for event in sent(client, memory):
        assert event.details is not None
        assert (event.details["trace_id"], event.details["span_id"]) == (TRACE_ID, SPAN_ID)


@pytest.mark.parametrize("headers", [((b"traceparent", b"junk"),), ((b"traceparent", TRACEPARENT),) * 2, ()])
def test_a_traceparent_that_is_invalid_or_there_twice_is_ignored(
    client: Client, memory: MemoryTransport, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    get(EventsMiddleware(hello, client=client), headers=headers)
    assert facts(sent(client, memory)[0]) == {"method": "GET", "route": UNMATCHED, "status": 200}


@pytest.mark.parametrize(("slow_ms", "is_slow"), [(0, True), (60_000, False), (None, False)])
def test_a_slow_request_is_a_warning_that_says_so(
    client: Client, memory: MemoryTransport, slow_ms: float | None, *, is_slow: bool
) -> None:
    get(EventsMiddleware(hello, client=client, slow_ms=slow_ms))
    (event,) = sent(client, memory)
    assert event.severity == ("warning" if is_slow else "info")
    assert facts(event).get("slow", False) is is_slow


def test_a_slow_request_that_failed_is_still_an_error(client: Client, memory: MemoryTransport) -> None:
    get(EventsMiddleware(silent, client=client, slow_ms=0))
    (event,) = sent(client, memory)
    assert (event.severity, facts(event)["slow"]) == ("error", True)


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan"])
def test_of_two_installs_only_the_outer_one_tells(client: Client, memory: MemoryTransport, kind: str) -> None:
    app = EventsMiddleware(starlette(client), client=client, exclude=["/stream"])
    if kind == "http":
        start, _ = get(app, "/users/7")
        assert [name for name, _ in start["headers"]].count(b"x-request-id") == 1
        get(app, "/stream")  # excluded outside only
        assert [event.event_type for event in sent(client, memory)] == ["http_request", "http_request"]
    elif kind == "websocket":
        socket(app, "/chat/42", {"type": "websocket.receive", "text": "hi"})
        assert [event.event_type for event in sent(client, memory)] == ["websocket"]
    else:
        lifespan(app, ["lifespan.startup", "lifespan.shutdown"])
        assert [event.event_type for event in memory.events] == ["system_startup", "system_shutdown"]


def test_an_answer_that_the_client_did_not_wait_for_says_so(client: Client, memory: MemoryTransport) -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    get(EventsMiddleware(endless, client=client))
    (event,) = sent(client, memory)
    assert event.severity == "info"
    assert facts(event) == {"method": "GET", "route": UNMATCHED, "status": 200, "disconnected": True}


def test_a_client_that_leaves_after_the_answer_has_had_it(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        await receive()
        await receive()

    get(EventsMiddleware(app, client=client))
    assert facts(sent(client, memory)[0]) == {"method": "GET", "route": UNMATCHED, "status": 200}


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b"a", "more_body": True}, {"type": "http.response.body"}],
        [{"type": "http.response.pathsend", "path": "/etc/hostname"}],
        [{"type": "http.response.zerocopysend", "file": 0}],
        [{"type": "http.response.body", "body": b""}],  # as for HEAD
    ],
)
def test_a_request_is_over_with_the_last_message_of_its_answer(
    client: Client, memory: MemoryTransport, messages: list[Message]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for message in messages:
            assert client.stats().logged == 0
            await send(message)
        assert client.stats().logged == 1

    get(EventsMiddleware(app, client=client), method="HEAD")
    assert facts(sent(client, memory)[0])["status"] == 200


def test_with_trailers_a_request_is_over_after_them(client: Client, memory: MemoryTransport) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"a"})
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": True})
        assert client.stats().logged == 0
        await send({"type": "http.response.trailers", "headers": []})
        assert client.stats().logged == 1

    messages = get(EventsMiddleware(app, client=client))
    assert [message["type"] for message in messages].count("http.response.trailers") == 2
    assert [event.event_type for event in sent(client, memory)] == ["http_request"]


@pytest.mark.parametrize(
    ("kinds", "logged"),
    [
        ([ZeroDivisionError], ["error", "http_request"]),
        ([asyncio.CancelledError, ZeroDivisionError], ["error", "http_request"]),
        ([asyncio.CancelledError], ["http_request"]),
    ],
)
def test_a_group_is_an_error_if_an_exception_is_in_it(
    client: Client, memory: MemoryTransport, kinds: list[type[BaseException]], logged: list[str]
) -> None:
    group = BaseExceptionGroup("g", [kind() for kind in kinds])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise group

    with pytest.raises(BaseExceptionGroup) as raised:
        get(EventsMiddleware(app, client=client))
    assert raised.value is group
    assert [event.event_type for event in sent(client, memory)] == logged


def test_the_route_below_a_host_is_its_template(client: Client, memory: MemoryTransport) -> None:
    api = Starlette(routes=[Route("/users/{id}", user)])
    app = Starlette(routes=[Host("test", app=api)], middleware=[Middleware(EventsMiddleware, client=client)])
    get(app, "/users/7")
    assert facts(sent(client, memory)[0]) == {"method": "GET", "route": "/users/{id}", "status": 200}


def test_a_base_http_middleware_above_changes_nothing(client: Client, memory: MemoryTransport) -> None:
    async def dispatch(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)

    app = Starlette(
        routes=[Route("/users/{id}", user), Route("/stream", stream), Route("/fail", fail)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch), Middleware(EventsMiddleware, client=client)],
    )
    for path in ("/users/7", "/stream"):
        start, *_ = get(app, path)
        assert b"x-request-id" in dict(start["headers"])
    with pytest.raises(ZeroDivisionError):
        get(app, "/fail")
    requests = [event for event in sent(client, memory) if event.event_type == "http_request"]
    assert [(facts(e)["route"], facts(e)["status"]) for e in requests] == [
        ("/users/{id}", 200),
        ("/stream", 200),
        ("/fail", 500),
    ]


def test_at_shutdown_the_event_loop_goes_on_while_events_are_delivered() -> None:
    """A collector that is slow, or away, must not hold up what else the loop does."""
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    class Slow(MemoryTransport):
        def send(self, batch: Batch, timeout_s: float) -> BatchResponse:
            time.sleep(0.2)
            return super().send(batch, timeout_s)

    async def run(app: Any) -> None:
        ticking = asyncio.create_task(tick())
        await call(app, {"type": "lifespan"}, [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        ticking.cancel()

    memory = Slow()
    with fast_client(transport=memory) as client:
        asyncio.run(run(EventsMiddleware(Starlette(), client=client)))
        assert [event.event_type for event in memory.events] == ["system_startup", "system_shutdown"]
    assert turns > 20


def test_a_websocket_send_to_a_client_that_left_is_no_error_of_the_application(
    client: Client, memory: MemoryTransport
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "to nobody"})

    async def send(message: Any) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def run() -> None:
        with pytest.raises(ConnectionResetError):
            await EventsMiddleware(app, client=client)(scope_of("/", "websocket"), receive, send)

    asyncio.run(run())
    (event,) = sent(client, memory)
    assert (event.event_type, event.severity) == ("websocket", "info")
