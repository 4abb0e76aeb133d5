"""The API against a model in memory: any calls in any order, with concurrent writers and an unreliable Redis.

Whatever was acknowledged shows in the next read, and nothing else does. MODEL_EXAMPLES and MODEL_SEED (printed) make
the run longer, or the same again.
"""

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, NDJSON, SEVERITIES
from tests.conftest import Serve
from tests.support.collector import ndjson
from tests.support.proxy import Proxy, proxied
from tests.support.waiting import PATIENCE_S

TYPES = ("a", "b", "c")
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "6"))
WRITERS = 4

kinds, severities = st.sampled_from(TYPES), st.sampled_from(SEVERITIES)
sources = st.sampled_from([None, "x", "y"])
details = st.sampled_from([None, {"n": 1}, {"n": "1"}, {"user": {"id": 2}}])
moments = st.sampled_from([None, "2026-01-02T12:00:00Z", "2026-01-02T12:30:00Z", "2020-02-29T23:30:00Z"])
events = st.fixed_dictionaries(
    {"event_type": kinds, "severity": severities, "source": sources, "details": details, "timestamp": moments}
)
changes = st.fixed_dictionaries(
    {}, optional={"event_type": kinds, "severity": severities, "source": sources, "details": details}
)
counted = st.fixed_dictionaries(
    {},
    optional={
        "event_type": st.lists(kinds, min_size=1, max_size=2, unique=True),
        "severity_min": severities,
        "from": st.sampled_from(["2026-01-02T12:10:00Z", "2021-01-01T00:00:00Z"]),
        "to": st.sampled_from(["2026-01-02T12:30:00Z", "2026-01-02T13:00:00Z"]),
    },
)
listed = st.builds(
    lambda one, other: one | other,
    counted,
    st.fixed_dictionaries(
        {}, optional={"source": st.just("x"), "details.n": st.just("1"), "details.user.id": st.sampled_from(["2", "3"])}
    ),
)
places = st.integers(0, 30)
states = st.sampled_from(["any", "this", "another"])


def matches(event: dict[str, Any], wanted: dict[str, Any]) -> bool:
    within = event["details"] or {}
    return (
        event["event_type"] in wanted.get("event_type", TYPES)
        and SEVERITIES.index(event["severity"]) >= SEVERITIES.index(wanted.get("severity_min", "info"))
        and moment_of(event) >= datetime.fromisoformat(wanted.get("from", "0001-01-01T00:00:00Z"))
        and moment_of(event) < datetime.fromisoformat(wanted.get("to", "9999-01-01T00:00:00Z"))
        and event["source"] == wanted.get("source", event["source"])
        and ("details.n" not in wanted or str(within.get("n")) == wanted["details.n"])
        and ("details.user.id" not in wanted or str(within.get("user", {}).get("id")) == wanted["details.user.id"])
    )


def moment_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["timestamp"])


class Api(RuleBasedStateMachine):
    """What the API must do, step by step; `model` is every event that there is, by its id."""

    client: ClassVar[httpx.Client]
    redis: ClassVar[Proxy]
    steps: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[int, dict[str, Any]] = {}
        self.gone: list[int] = []

    # -- writes

    @rule(event=events)
    def create(self, event: dict[str, Any]) -> None:
        created = self._create(event)
        self.model[created["id"]] = created

    @rule(sent=st.lists(events, min_size=1, max_size=6))
    def batch(self, sent: list[dict[str, Any]]) -> None:
        named = {str(uuid4()): event for event in sent}
        body = ndjson(*({**event, "message": name} for name, event in named.items()))
        answer = self._ask("POST", BATCH_PATH, 200, content=body, headers={"Content-Type": NDJSON})
        assert answer.json()["accepted"] == len(sent)
        new = [found for found in self._walk({"event_type": list(TYPES)}, 50) if found["id"] not in self.model]
        assert sorted(found["message"] for found in new) == sorted(named)
        assert all(found[name] == named[found["message"]][name] for found in new for name in ("severity", "details"))
        self.model |= {found["id"]: found for found in new}

    @rule(place=places, change=changes, state=states)
    def update(self, place: int, change: dict[str, Any], state: str) -> None:
        if (event_id := self._pick(place)) is not None:
            status = 412 if state == "another" else 200
            answer = self._ask("PUT", self._url(event_id), status, json=change, headers=self._if_match(event_id, state))
            if status == 200:
                self.model[event_id] |= change
                assert answer.json() == self.model[event_id]

    @rule(place=places, state=states)
    def delete(self, place: int, state: str) -> None:
        if (event_id := self._pick(place)) is not None:
            status = 412 if state == "another" else 204
            self._ask("DELETE", self._url(event_id), status, headers=self._if_match(event_id, state))
            if status == 204:
                del self.model[event_id]
                self.gone.append(event_id)

    @rule(number=st.integers(0, 2**32))
    def writers_at_once(self, number: int) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            for left in pool.map(self._write, range(number, number + WRITERS)):
                self.model |= left

    # -- reads

    @rule(place=places)
    def get(self, place: int) -> None:
        if (event_id := self._pick(place)) is not None:
            answer = self._ask("GET", self._url(event_id), 200)
            assert answer.json() == self.model[event_id]
            known = {"If-None-Match": answer.headers["etag"]}
            self._ask("GET", self._url(event_id), 304, headers=known)

    @rule()
    def get_what_is_gone(self) -> None:
        for event_id in self.gone[-3:]:
            for method in ("GET", "DELETE"):
                self._ask(method, self._url(event_id), 404)

    @rule(wanted=listed, limit=st.integers(2, 20))
    def walk(self, wanted: dict[str, Any], limit: int) -> None:
        expected = [event for event in self.model.values() if matches(event, wanted)]
        expected.sort(key=lambda event: (moment_of(event), event["id"]), reverse=True)
        assert self._walk(wanted, limit) == expected

    @rule(places=st.lists(places, min_size=1, max_size=5))
    def list_by_ids(self, places: list[int]) -> None:
        ids = {found for place in places if (found := self._pick(place)) is not None}
        if ids:
            events = self._ask("GET", "/api/events", 200, params={"id": ",".join(map(str, ids))}).json()
            assert {event["id"]: event for event in events} == {each: self.model[each] for each in ids}

    @rule(wanted=counted)
    def count(self, wanted: dict[str, Any]) -> None:
        wanted = {"event_type": list(TYPES)} | wanted  # the collector counts its own events, too
        kept = [event for event in self.model.values() if matches(event, wanted)]
        since = datetime.now(UTC) - timedelta(hours=24)
        assert self._ask("GET", "/api/events/stats", 200, params=wanted).json() == {
            "total_events": len(kept),
            "events_by_severity": dict(Counter(event["severity"] for event in kept)),
            "events_by_type": dict(Counter(event["event_type"] for event in kept)),
            "recent_events": sum(moment_of(event) >= since for event in kept),
            "last_event_timestamp": max(kept, key=moment_of)["timestamp"] if kept else None,
        }

    @rule()
    def count_everything(self) -> None:
        by_type = self._ask("GET", "/api/events/stats", 200).json()["events_by_type"]
        expected = Counter(event["event_type"] for event in self.model.values())
        assert {kind: n for kind, n in by_type.items() if kind in TYPES} == dict(expected)

    # -- trouble

    @rule(trouble=st.sampled_from(["cut", "refuse", "freeze", "restore", "restore"]))
    def redis_comes_and_goes(self, trouble: str) -> None:
        getattr(self.redis, trouble)()

    def teardown(self) -> None:
        self.redis.restore()
        self.walk({}, 20)
        for event_id in self.model:
            self._ask("DELETE", self._url(event_id), 204)
        self.model = {}
        self.walk({}, 20)

    # -- how

    def _ask(self, method: str, url: str, status: int, **arguments: Any) -> httpx.Response:
        answer = self.client.request(method, url, **arguments)
        assert answer.status_code == status, (method, url, answer.status_code, answer.text)
        self.steps[f"{method} {status}"] += 1
        return answer

    def _create(self, event: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("POST", "/api/events", 201, json={**event, "message": "m"}).json()
        return found

    def _walk(self, wanted: dict[str, Any], limit: int) -> list[dict[str, Any]]:
        walked = []
        url: httpx.URL | str = httpx.URL("/api/events", params={**wanted, "limit": limit})
        while url:
            answer = self._ask("GET", str(url), 200)
            walked += [event for event in answer.json() if event["source"] != "collector"]
            url = answer.links["next"]["url"] if "next" in answer.links else ""
        return walked

    def _write(self, number: int) -> dict[int, dict[str, Any]]:
        """Be one of several writers: each reads back its own, at once, and tells what it leaves."""
        chance, left = random.Random(number), dict[int, dict[str, Any]]()
        for _ in range(2):
            created = self._create({"event_type": chance.choice(TYPES), "severity": chance.choice(SEVERITIES)})
            url = self._url(created["id"])
            assert self._ask("GET", url, 200).json() == created
            change = {"severity": chance.choice(SEVERITIES), "source": str(number)}
            changed = self._ask("PUT", url, 200, json=change).json()
            assert changed == created | change
            assert self._ask("GET", url, 200).json() == changed
            assert changed in self._ask("GET", "/api/events", 200, params={"source": str(number)}).json()
            if chance.random() < 0.5:
                self._ask("DELETE", url, 204)
                self._ask("GET", url, 404)
            else:
                left[created["id"]] = changed
        return left

    def _pick(self, place: int) -> int | None:
        return sorted(self.model)[place % len(self.model)] if self.model else None

    def _if_match(self, event_id: int, state: str) -> dict[str, str]:
        if state == "any":
            return {}
        tag = self._ask("GET", self._url(event_id), 200).headers["etag"]
        return {"If-Match": tag if state == "this" else f'"{tag[2:]}'}

    @staticmethod
    def _url(event_id: int) -> str:
        return f"/api/events/{event_id}"


@contextmanager
def served(serve: Serve, settings: Settings) -> Iterator[str]:
    """Serve in a thread, since the machine's steps are not asynchronous; yields the address."""
    found: list[str] = []
    ready = threading.Event()

    async def run(done: asyncio.Event) -> None:
        async with serve(settings) as client:
            found.append(str(client.base_url))
            ready.set()
            await done.wait()

    with asyncio.Runner() as runner:
        loop, done = runner.get_loop(), asyncio.Event()
        thread = threading.Thread(target=runner.run, args=[run(done)])
        thread.start()
        try:
            assert ready.wait(PATIENCE_S)
            yield found[0]
        finally:
            loop.call_soon_threadsafe(done.set)
            thread.join()


@pytest.mark.timeout(120 + 20 * EXAMPLES)
def test_whatever_is_done_the_api_does_as_the_model(settings: Settings, serve: Serve) -> None:
    number = int(os.environ.get("MODEL_SEED") or random.randrange(2**32))
    print(f"MODEL_SEED={number}")
    redis_url, _, query = str(settings.redis_url).partition("?")
    with proxied(redis_url) as proxy:
        behind = msgspec.structs.replace(settings, redis_url=f"{proxy.url}?{query}")
        with served(serve, behind) as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            Api.client, Api.redis, Api.steps = client, proxy, Counter()
            run_state_machine_as_test(
                seed(number)(Api),
                settings=hypothesis_settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=30,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                ),
            )
    assert Api.steps["POST 201"] > 0
