"""The types of the doctor: the examination, its bounds, and the result of one check."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import asyncpg
import msgspec

from brain_collector.settings import Settings

EVER: Final = "-infinity"

Status = Literal["ok", "warning", "problem"]


class Check(msgspec.Struct, frozen=True):
    """The result of one check: its status, what was found, and what to do unless the status is ok."""

    name: str
    status: Status
    detail: str
    advice: str = ""


class Bounds(msgspec.Struct, frozen=True):
    """The bounds of an examination: days to recount (None: all), longest statement, oldest accepted transaction."""

    days: int | None = None
    timeout_s: float = 300.0
    transaction_s: float = 60.0

    @property
    def since(self) -> str:
        """The start of the day (UTC) from which events are recounted, in the form that Postgres takes."""
        if self.days is None:
            return EVER
        return f"{datetime.now(UTC).date() - timedelta(days=self.days)}T00:00:00Z"

    @property
    def span(self) -> str:
        """The same as words for a message."""
        return "" if self.days is None else f" of the last {self.days} days"


class Examination(msgspec.Struct, frozen=True):
    """The input of the checks: a session of the doctor's, the settings, and an embedded server's `data_dir`."""

    connection: asyncpg.Connection
    settings: Settings
    bounds: Bounds
    data_dir: Path | None


def judged(name: str, status: Status, detail: str, advice: str) -> Check:
    """Return a check that includes the advice only if the status is not ok."""
    return Check(name, status, detail, "" if status == "ok" else advice)
