"""Starlette. Sends `system_startup`, `http_request`, `error`, `websocket`, `system_shutdown` and its own `greeting`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 uvicorn --app-dir examples starlette_app:app
"""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

import brain_events


async def greet(request: Request) -> PlainTextResponse:
    name = request.path_params["name"]
    brain_events.log_system_event("greeting", "info", f"hello {name}", {"name": name})  # carries the request's id
    return PlainTextResponse(f"hello {name}")


async def fail(_: Request) -> PlainTextResponse:
    raise RuntimeError("this route always fails")


async def livez(_: Request) -> PlainTextResponse:
    return PlainTextResponse("alive")


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


brain_events.init(source="example-starlette")
app = Starlette(
    routes=[Route("/hello/{name}", greet), Route("/fail", fail), Route("/livez", livez), WebSocketRoute("/echo", echo)],
    middleware=[Middleware(brain_events.EventsMiddleware, exclude=["/livez"])],
)
