"""The state of database, cache and engines, as their users observe it; every change is recorded as an own event."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from brain_collector.health.own_events import OwnEvents
from brain_collector.schema import EngineState, State


class Survey(NamedTuple):
    """The progress of background jobs when it was last measured; ages continue by this process' clock."""

    at_s: float
    folded_s_before: float
    journal_rows: int
    unindexed_events: int
    unindexable_events: int
    last_partition_ends: datetime

    @property
    def fold_lag_s(self) -> float:
        """Seconds since any collector folded the journal."""
        return self.folded_s_before + time.monotonic() - self.at_s

    @property
    def partition_ahead_s(self) -> float:
        """Seconds until the end of the last day that has a partition."""
        return (self.last_partition_ends - datetime.now(UTC)).total_seconds()


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
        self.schema_problem: str | None = "the database has not been prepared yet"

    @property
    def database(self) -> State:
        """Whether the database accepts writes, as last observed."""
        return self._states["database"]

    @property
    def cache(self) -> State:
        """Whether the cache responds, as last observed."""
        return self._states["cache"]

    @property
    def engines(self) -> list[EngineState]:
        """The embedded engines, if there are any."""
        return self._engines()

    def database_up(self, began_s: float) -> None:
        """Note that an operation that began at this time (monotonic) succeeded."""
        self._database("up", began_s)

    def database_down(self, reason: str, began_s: float) -> None:
        """Note that an operation that began at this time (monotonic) failed."""
        self._database_reason = reason
        self._database("down", began_s, reason=reason)

    def problems(self, *, is_responding: bool) -> list[str]:
        """Return the reasons why this collector cannot serve; `is_responding`: the database responded just now."""
        waiting = [
            f"{engine.name} waits to be started: {engine.waits_for}" for engine in self.engines if engine.waits_for
        ]
        if not is_responding:
            reason = f": {self._database_reason}" if self.database == "down" else ""
            return [f"the database does not respond{reason}", *waiting]
        if self.database == "down":
            return [f"the database accepts no writes: {self._database_reason}", *waiting]
        return waiting or [problem for problem in [self.schema_problem] if problem]

    def note_cache(self, state: State) -> None:
        """Note the state of the cache."""
        self._set("cache", state)

    def note_restarts(self) -> None:
        """Record engines that died and were restarted since the last call."""
        for engine in self.engines:
            known = self._restarts.get(engine.name, 0)
            if engine.restarts > known:
                self._restarts[engine.name] = engine.restarts
                message = f"{engine.name} died and was restarted"
                self._own_events.log("engine_restarted", "error", message, engine=engine.name, restarts=engine.restarts)

    def _database(self, state: State, began_s: float, **details: Any) -> None:
        if began_s >= self._since_s["database"]:  # an earlier one says nothing about the present state
            self._set("database", state, **details)

    def _set(self, part: str, state: State, **details: Any) -> None:
        if self._states[part] == state:
            return
        self._states[part] = state
        now_s = time.monotonic()
        if state == "up":
            details["away_s"] = round(now_s - self._since_s[part], 1)
        self._since_s[part] = now_s
        event_type, severity, message = (_BACK if state == "up" else _LOST)[part]
        if part == "database":  # the cache logs its own changes
            logger.warning("%s: %s", message, details.get("reason") or f"it was unavailable for {details['away_s']} s")
        self._own_events.log(event_type, severity, message, **details)  # type: ignore[arg-type]
