"""The command as its users type it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from brain_collector.storage import schema_version
from tests.support.engines import scratch_dir
from tests.support.process import CollectorProcess, collector_process
from tests.support.waiting import PATIENCE_S, wait_until

COMMAND = [sys.executable, "-m", "brain_collector"]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, **environ},
        check=False,
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[CollectorProcess]:
    """A collector for the tests that leave it as it is."""
    with scratch_dir() as path, collector_process(path / "data") as found:
        yield found


def engine_pids(collector: CollectorProcess) -> list[int]:
    return [collector.engine_pid("postgres"), collector.engine_pid("valkey")]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_collector_and_its_engines_and_the_next_start_has_the_data(number: int) -> None:
    with scratch_dir() as path, collector_process(path / "data") as collector:
        created = httpx.post(
            collector.url + "/api/events",
            json={"event_type": "kept", "severity": "info", "message": "m"},
            timeout=PATIENCE_S,
        )
        pids = engine_pids(collector)
        os.kill(collector.pid, number)
        code = collector.wait()

        assert (code, [alive(pid) for pid in pids]) == (0, [False, False])
        collector.start()
        assert collector.get(created.headers["Location"]) == created.json()
        own = {event["event_type"] for event in collector.get("/api/events?source=collector")}
        assert {"system_startup", "system_shutdown"} <= own


def test_no_engine_survives_kill_9_and_the_next_start_recovers(collector: CollectorProcess) -> None:
    created = httpx.post(
        collector.url + "/api/events",
        json={"event_type": "kept", "severity": "info", "message": "m"},
        timeout=PATIENCE_S,
    )
    pids = engine_pids(collector)
    collector.kill()
    wait_until(lambda: not any(map(alive, pids)), "the engines are gone")
    collector.start()

    assert collector.get(created.headers["Location"]) == created.json()


def test_a_second_collector_on_the_same_data_is_told_what_to_do(shared: CollectorProcess) -> None:
    second = run("serve", "--port", "0", "--data-dir", str(shared.data_dir))

    assert second.returncode == 1
    assert f"{shared.data_dir} is in use" in second.stderr
    assert "--data-dir" in second.stderr


def test_a_taken_port_is_told_at_once(shared: CollectorProcess) -> None:
    port = shared.url.rpartition(":")[2]
    second = run("serve", "--port", port, "--data-dir", str(shared.data_dir) + "-other")

    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert not Path(str(shared.data_dir) + "-other").exists()


def test_a_public_address_without_a_key_is_refused() -> None:
    refused = run("serve", "--host", "0.0.0.0", "--port", "0")

    assert refused.returncode == 1
    assert "BRAIN_COLLECTOR_API_KEY" in refused.stderr


def test_with_urls_given_nothing_embedded_is_imported_or_started(shared: CollectorProcess, tmp_path: Path) -> None:
    """Python itself says what it imports, on stderr."""
    with (
        (tmp_path / "imports").open("w+") as imports,
        collector_process(
            Path("/nonexistent"),
            stderr=imports,
            BRAIN_COLLECTOR_DATABASE_URL=shared.database_url,
            BRAIN_COLLECTOR_REDIS_URL="none",
            PYTHONPROFILEIMPORTTIME="1",
        ) as second,
    ):
        health = second.get("/health")
        children = Path(f"/proc/{second.pid}/task/{second.pid}/children").read_text()
        listed = second.get("/api/events")
        imported = Path(imports.name).read_text()

    assert (health["engines"], children) == ([], "")
    assert "collector" in {event["source"] for event in listed}
    assert "brain_collector.server.serve" in imported
    assert "brain_collector.embedded" not in imported


def test_send_stores_one_event_and_prints_it(shared: CollectorProcess) -> None:
    sent = run("send", "deployment", "info", "1.4.2 is live", "--details", '{"version": "1.4.2"}', "--url", shared.url)

    assert (sent.returncode, sent.stderr) == (0, "")
    printed = json.loads(sent.stdout)
    assert printed == shared.get(f"/api/events/{printed['id']}")
    assert printed["details"] == {"version": "1.4.2"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deployment", "loud", "m"], "'loud' is not one of"),
        (["deployment", "info", "m", "--details", "[1]"], "must be a JSON object"),
        (["x" * 51, "info", "m"], "event_type has 51 characters, the maximum is 50"),
    ],
)
def test_send_says_what_is_wrong(shared: CollectorProcess, arguments: list[str], said: str) -> None:
    sent = run("send", *arguments, "--url", shared.url)

    assert sent.returncode != 0
    assert said in sent.stderr


def test_send_gives_up_on_a_collector_that_is_not_there() -> None:
    sent = run("send", "deployment", "info", "m", "--url", "http://127.0.0.1:9", "--timeout-s", "1")

    assert sent.returncode == 5
    assert "no connection" in sent.stderr


def test_a_ctrl_c_ends_with_its_own_exit_code_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [*COMMAND, "send", "deployment", "info", "m", "--url", url], stderr=subprocess.PIPE, text=True
        )
        asked, _ = silent.accept()
        with asked:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE_S)

    assert (process.returncode, said.strip()) == (130, "")


def test_tail_goes_on_where_it_was_when_the_collector_was_killed(collector: CollectorProcess, tmp_path: Path) -> None:
    def send(number: int) -> None:
        event = {"event_type": "numbered", "severity": "info", "message": f"m{number}"}
        httpx.post(collector.url + "/api/events", json=event, timeout=PATIENCE_S).raise_for_status()

    shown = ("--type", "numbered", "--fields", "message", "--url", collector.url)
    with (tmp_path / "out").open("w+") as out, (tmp_path / "said").open("w") as said:
        process = subprocess.Popen([*COMMAND, "tail", "-f", *shown], stdout=out, stderr=said)
        send(0)
        wait_until(lambda: "m0" in (tmp_path / "out").read_text(), "tail has begun")
        for number in (1, 3):
            collector.kill()
            collector.start()
            send(number)
            send(number + 1)
            wait_until(lambda last=number + 1: f"m{last}" in (tmp_path / "out").read_text(), "it continues")
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)

    assert (code, (tmp_path / "out").read_text().split()) == (130, ["m0", "m1", "m2", "m3", "m4"])
    assert "connected again" in (tmp_path / "said").read_text()


def test_a_reader_that_leaves_is_no_error_to_tell() -> None:
    process = subprocess.Popen(
        [*COMMAND, "migrate", "--sql"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        process.stdout.close()
        said = process.stderr.read()

    assert (process.wait(PATIENCE_S), said) == (141, "")


def test_migrate_shows_upgrades_and_downgrades_the_embedded_database() -> None:
    with scratch_dir() as path:
        where = ("--data-dir", str(path / "data"))
        steps = [
            run("migrate", "current", *where),
            run("migrate", *where),
            run("migrate", "downgrade", "base", "--yes", *where),
            run("migrate", "upgrade", *where),
        ]

    assert [step.returncode for step in steps] == [0, 0, 0, 0], [step.stderr for step in steps]
    assert [step.stdout.split(" (")[0] for step in steps] == [
        "the schema is at none",
        f"the schema is at {schema_version.HEAD}",
        "the schema is at none",
        f"the schema is at {schema_version.HEAD}",
    ]


def test_migrate_prints_its_sql() -> None:
    printed = run("migrate", "--sql")

    assert printed.returncode == 0
    assert "CREATE TABLE system_events" in printed.stdout


def test_the_demo_shows_that_every_event_arrived_once() -> None:
    shown = run("demo", "--exit", "--port", "0", "--visits", "50")

    assert shown.returncode == 0, shown.stderr
    assert "http_request" in shown.stdout
    assert "Statistics:" in shown.stdout


def test_a_key_guards_the_collector_and_send_carries_it() -> None:
    with scratch_dir() as path:
        key_file = path / "key"
        key_file.write_text("s3cret\n")
        with collector_process(path / "data", BRAIN_COLLECTOR_API_KEY_FILE=str(key_file)) as collector:
            without = run("send", "deployment", "info", "m", "--url", collector.url)
            with_key = run("send", "deployment", "info", "m", "--url", collector.url, BRAIN_EVENTS_API_KEY="s3cret")

    assert (without.returncode, with_key.returncode) == (4, 0)
    assert "401" in without.stderr
