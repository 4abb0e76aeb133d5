"""The demo's application: a shop that uses every adapter of the SDK, in its own process.

It serves until its standard input ends, then prints the statistics of its events as JSON.
"""

import asyncio
import logging
import random
import socket
import sys

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import brain_events
from brain_events import bound, log_system_event

ITEMS = {1: "lamp", 2: "chair", 3: "desk"}

stock = logging.getLogger("shop.stock")
payments = structlog.get_logger()


async def show(request: Request) -> JSONResponse:
    """Show an item; the middleware records the request."""
    item = ITEMS.get(int(request.path_params["id"]))
    return JSONResponse({"item": item}, status_code=200 if item else 404)


async def buy(request: Request) -> JSONResponse:
    """Sell an item, and record an event through each adapter."""
    item = ITEMS[int(request.path_params["id"])]
    with bound(customer=f"c-{random.randrange(20)}"):  # noqa: S311 - a made-up customer
        log_system_event("order_placed", "info", f"a {item} was ordered", {"item": item})
        if random.random() < 0.3:  # noqa: S311 - chance
            stock.warning("only %d of %s left", 2, item, extra={"event_type": "stock_low", "item": item})
        payments.info("paid", event_type="order_paid", item=item, amount_eur=49.9)
    return JSONResponse({"bought": item})


async def crash(_request: Request) -> PlainTextResponse:
    """Fail; the middleware records an `error` event with the traceback, and the exception propagates."""
    raise RuntimeError("the payment provider does not respond")


async def serve() -> None:
    """Serve until standard input ends."""
    app = Starlette(
        routes=[
            Route("/items/{id:int}", show),
            Route("/items/{id:int}/buy", buy, methods=["POST"]),
            Route("/crash", crash),
        ],
        middleware=[Middleware(brain_events.EventsMiddleware)],
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


def main() -> None:
    """Send events through every adapter; at the end, print their statistics."""
    brain_events.init(source="demo-shop")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            brain_events.EventsProcessor(),
            structlog.processors.KeyValueRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[logging.NullHandler(), brain_events.EventsHandler()])
    log_system_event("deployment", "info", "the shop 1.4.2 is live", {"version": "1.4.2", "environment": "demo"})
    asyncio.run(serve())
    brain_events.close(10)
    sys.stdout.write(msgspec.json.encode(brain_events.stats()).decode() + "\n")


if __name__ == "__main__":
    main()
