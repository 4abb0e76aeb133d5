"""What is up and what is down, as seen by those who use it; every change becomes an own event."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from brain_collector.health.own_events import OwnEvents
from brain_collector.schema import EngineState, State


class Survey(NamedTuple):
    """What the database said about background work; ages go on from there by this process' clock."""

    at_s: float
    folded_s_before: float
    journal_rows: int
    unindexed_events: int
    last_partition_ends: datetime

    @property
    def fold_lag_s(self) -> float:
        """Seconds since a collector folded the journal."""
        return self.folded_s_before + time.monotonic() - self.at_s

    @property
    def days_ahead(self) -> int:
        """Whole days after today that have a partition."""
        return (self.last_partition_ends.date() - datetime.now(UTC).date()).days - 1


logger: Final = logging.getLogger(__name__)

_LOST: Final = {
    "database": ("database_lost", "critical", "The database is not available"),
    "cache": ("cache_lost", "warning", "The cache is not available; requests go to the database"),
}
_BACK: Final = {
    "database": ("database_back", "info", "The database is available again"),
    "cache": ("cache_back", "info", "The cache is available again"),
}


class Availability:
    """The state of the database, the cache and the embedded engines. It is the writer's `Watcher`."""

    def __init__(self, own_events: OwnEvents, engines: Callable[[], list[EngineState]]) -> None:
        self._own_events = own_events
        self._engines = engines
        self._restarts = {engine.name: engine.restarts for engine in engines()}
        self._states: dict[str, State] = {"database": "up", "cache": "up"}
        self._since_s = {"database": time.monotonic(), "cache": time.monotonic()}
        self._database_reason = ""
        self.survey: Survey | None = None
        self.schema_problem: str | None = "the database has not been reached yet"

    @property
    def database(self) -> State:
        """Whether the database takes writes, as last seen."""
        return self._states["database"]

    @property
    def cache(self) -> State:
        """Whether the cache answers, as last seen."""
        return self._states["cache"]

    @property
    def engines(self) -> list[EngineState]:
        """The embedded engines; empty where there are none."""
        return self._engines()

    def database_up(self, began_s: float) -> None:
        """Note that what began at that time (monotonic) was served by the database."""
        self._database("up", began_s)

    def database_down(self, reason: str, began_s: float) -> None:
        """Note that it was not."""
        self._database_reason = reason
        self._database("down", began_s, reason=reason)

    def problems(self, *, answers: bool) -> list[str]:
        """Return what keeps this collector from serving, in lines for people; `answers`: the database did just now."""
        waiting = [
            f"{engine.name} waits to be started: {engine.waits_for}" for engine in self.engines if engine.waits_for
        ]
        if not answers:
            return ["the database does not answer", *waiting]
        if self.database == "down":
            return [f"the database takes no writes: {self._database_reason}", *waiting]
        return waiting or [problem for problem in [self.schema_problem] if problem]

    def cache_seen(self, state: State) -> None:
        """Note the state of the cache."""
        self._set("cache", state)

    def engines_seen(self) -> None:
        """Note engines that died and came back since the last look."""
        for engine in self.engines:
            known = self._restarts.get(engine.name, 0)
            if engine.restarts > known:
                self._restarts[engine.name] = engine.restarts
                message = f"{engine.name} died and was started again"
                self._own_events.log("engine_restarted", "error", message, engine=engine.name, restarts=engine.restarts)

    def _database(self, state: State, began_s: float, **details: Any) -> None:
        if began_s >= self._since_s["database"]:  # what began before the last change says nothing about now
            self._set("database", state, **details)

    def _set(self, what: str, state: State, **details: Any) -> None:
        if self._states[what] == state:
            return
        self._states[what] = state
        now_s = time.monotonic()
        if state == "up":
            details["away_s"] = round(now_s - self._since_s[what], 1)
        self._since_s[what] = now_s
        event_type, severity, message = (_BACK if state == "up" else _LOST)[what]
        if what == "database":  # the cache says so itself
            logger.warning("%s: %s", message, details.get("reason") or f"it was away for {details['away_s']} s")
        self._own_events.log(event_type, severity, message, **details)  # type: ignore[arg-type]
