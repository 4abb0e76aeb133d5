"""Single events over HTTP: every case of the original suite."""

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def test_a_minimal_event_is_created(collector: httpx.AsyncClient) -> None:
    answer = await collector.post("/api/events", json={"event_type": "test", "severity": "info", "message": "m"})

    assert answer.status_code == 201
    assert answer.json()["details"] is None
