"""What every test can ask for: engines, one a run; a migrated database, one a test; a collector that serves."""

import asyncio
import os
import re
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import uvicorn
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from brain_collector.api import dashboard, manual
from brain_collector.server.serve import configured
from brain_collector.settings import Settings
from brain_collector.storage import migrate, partitions
from tests.support.collector import BEGUN_HERE
from tests.support.engines import SuiteEngines, running_engines, scratch_dir
from tests.support.signals import undo_inherited
from tests.support.waiting import DEADLINES, PATIENCE_S

_numbers = count(1)
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that use no TLS: reading those of the machine takes longer than a test's requests."""

undo_inherited()  # before any test, fixture or process of the run

# No test asserts a time: how long an example, or its making, takes says how busy the machine is. Where a fixture serves
# all examples of a test (one collector, one database), the test tells them apart.
hypothesis_settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
hypothesis_settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _no_environment() -> None:
    """A developer's own settings must not decide a test, nor those of a client of Postgres or the machine's proxy."""
    ours = r"BRAIN_(EVENTS|COLLECTOR|CLI)_\w+|PG[A-Z]+|(http|all|HTTP|ALL)_(proxy|PROXY)"  # pip uses that of https
    for name in [name for name in os.environ if re.fullmatch(ours, name)]:
        del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _own_journals(_no_environment: None) -> Iterator[None]:
    """Killed processes leave their journals: not beside those of the machine's applications."""
    with scratch_dir() as path:
        os.environ["BRAIN_EVENTS_JOURNAL_DIR"] = str(path)
        yield
        del os.environ["BRAIN_EVENTS_JOURNAL_DIR"]


@pytest.fixture
def anyio_backend() -> str:
    """Asyncpg ties us to asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def engines() -> Iterator[SuiteEngines]:
    """One PostgreSQL and one Valkey for the run, with two templates: `migrated`, and `with_days`, its partitions."""
    with running_engines() as found:
        asyncio.run(_execute(found.maintenance_url, "CREATE DATABASE migrated"))
        migrate.upgrade(found.database_url("migrated"))
        asyncio.run(_execute(found.maintenance_url, "CREATE DATABASE with_days TEMPLATE migrated"))
        asyncio.run(_make_days(found.database_url("with_days")))
        yield found


async def _make_days(dsn: str) -> None:
    """Make the partitions of today and of the days ahead, which are most of the work of a collector's first start."""
    connection = await asyncpg.connect(dsn)
    try:
        await partitions.ensure(connection, Settings())
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def database_url(engines: SuiteEngines) -> Iterator[str]:
    """A migrated database of the test's own, with its partitions."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _in_thread(_execute(engines.maintenance_url, f"CREATE DATABASE {name} TEMPLATE with_days STRATEGY file_copy"))
    _in_thread(_execute(engines.database_url(name), BEGUN_HERE))
    yield engines.database_url(name)
    _in_thread(_execute(engines.maintenance_url, f"DROP DATABASE {name} WITH (FORCE)"))


def _in_thread(work: Any) -> None:
    """Run a coroutine whether or not this thread has a running loop."""
    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()


@pytest.fixture
def settings(engines: SuiteEngines, database_url: str) -> Settings:
    """Settings of a collector on the test's database, with a Redis database number of its own.

    A busy machine is not a fault: it waits long, and adds no health check of its own in the middle of a test.
    """
    return Settings(
        port=0,
        database_url=database_url,
        redis_url=f"{engines.redis_url}?db={next(_numbers) % 15 + 1}",
        retry_after_s=1,
        health_interval_s=3600.0,
        canary_interval_s=3600.0,
        **DEADLINES,
    )


Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def serve() -> Serve:
    """Serve a collector in this process, on a real socket; yields a client of it."""
    return _serving


@asynccontextmanager
async def _serving(
    settings: Settings,
    *,
    page_directory: Path = dashboard.DIRECTORY,
    manual_directory: Path = manual.DIRECTORY,
    **changes: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    config = configured(
        msgspec.structs.replace(settings, **changes), page_directory=page_directory, manual_directory=manual_directory
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), serving
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, verify=_NO_CERTIFICATES) as client:
            yield client
    finally:
        server.should_exit = True
        await serving


@pytest.fixture
async def collector(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a collector that serves the test's database."""
    async with serve(settings) as client:
        yield client
