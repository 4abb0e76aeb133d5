"""What the doctor looks at, how far it goes, and what one check says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import asyncpg
import msgspec

from brain_collector.settings import Settings

EVER: Final = "-infinity"

Status = Literal["ok", "warning", "problem"]


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at: what was found, and what to do if it is not good."""

    name: str
    status: Status
    detail: str
    advice: str = ""


class Bounds(msgspec.Struct, frozen=True):
    """How far the doctor goes: days that are recounted (None: all), longest statement, oldest good transaction."""

    days: int | None = None
    timeout_s: float = 300.0
    transaction_s: float = 60.0

    @property
    def since(self) -> str:
        """From when on events are recounted, the start of a day (UTC), as Postgres takes it."""
        if self.days is None:
            return EVER
        return f"{datetime.now(UTC).date() - timedelta(days=self.days)}T00:00:00Z"

    @property
    def span(self) -> str:
        """The same for people."""
        return "" if self.days is None else f" of the last {self.days} days"


class Examination(msgspec.Struct, frozen=True):
    """What is looked at: a session as a collector's, by its settings; `data_dir` is that of an embedded server."""

    connection: asyncpg.Connection
    settings: Settings
    bounds: Bounds
    data_dir: Path | None
    session: dict[str, str]


def judged(name: str, status: Status, detail: str, advice: str) -> Check:
    """Return a check whose advice is given only when it is needed."""
    return Check(name, status, detail, "" if status == "ok" else advice)
