"""FastAPI. Sends `system_startup`, `http_request`, `error`, `system_shutdown` and its own `item_sold`.

BRAIN_EVENTS_URL=http://127.0.0.1:8001 uvicorn --app-dir examples fastapi_app:app
"""

from fastapi import FastAPI, HTTPException

import brain_events

STOCK = {1: "lamp", 2: "chair"}

brain_events.init(source="example-fastapi")
app = FastAPI()
app.add_middleware(brain_events.EventsMiddleware, exclude=["/livez", "/docs*"])  # added last, so it is outermost


@app.get("/items/{item_id}")
async def read_item(item_id: int) -> dict[str, str]:
    if item_id not in STOCK:
        raise HTTPException(404)
    return {"item": STOCK[item_id]}


@app.post("/items/{item_id}/sold")
async def sell_item(item_id: int) -> dict[str, str]:
    item = STOCK[item_id]  # an unknown item is a KeyError: status 500 and an `error` event
    brain_events.log_system_event("item_sold", "info", f"sold a {item}", {"item_id": item_id})
    return {"sold": item}


@app.get("/livez")
async def livez() -> str:
    return "alive"
