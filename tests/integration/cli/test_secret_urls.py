"""Commands print and log the URLs of databases and caches without their passwords, or parts of them."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.collector import collector_process
from tests.support.engines import scratch_dir
from tests.support.waiting import PATIENCE_S, wait_until

PIECES = ("Zq7x", "Wk3v")
DATABASES = [
    "postgresql://owner:Zq7xWk3v@127.0.0.1:1/db",
    "postgresql://owner:Zq7x:Wk3v@127.0.0.1:1/db",
    "postgresql://owner:Zq7x%40Wk3v@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?user=owner&password=Zq7xWk3v&sslpassword=Wk3v",
    "postgresql://owner:Zq7x@Wk3v@127.0.0.1:1/db",
    "postgresql://owner:Zq7x/Wk3v@127.0.0.1:1/db",
    "postgresql://owner:Zq7x?Wk3v@127.0.0.1:1/db",
    "postgresql://owner:Zq7x#Wk3v@127.0.0.1:1/db",
    "postgresql://owner:p@Zq7x/w:rd?#Wk3v@127.0.0.1:1/db",
    "postgresql://owner:Zq7x:Wk3v/db",
    "postgresql://owner%3AZq7x@127.0.0.1:1/db",
    "postgresql://Zq7x@127.0.0.1:1/db",
    "postgresql://127.0.0.1:1/db?password=Zq7x#Wk3v",
    "host=127.0.0.1 password=Zq7x",
    "Zq7x:Wk3v@127.0.0.1:1/db",
]
CACHES = [
    "redis://:Zq7xWk3v@127.0.0.1:1",
    "redis://:Zq7x@Wk3v@127.0.0.1:1",
    "redis://Zq7x@127.0.0.1:1",
    "redis://:Zq7x/Wk3v@127.0.0.1:1",
    "redis://127.0.0.1:1?password=Zq7xWk3v",
    "redis+sentinel://:Zq7x@127.0.0.1:1",
    "redis://:Zq7xWk3v",
    "Zq7x",
]
COMMANDS = [
    ["config", "show"], ["config", "show", "--json"], ["migrate"], ["migrate", "current"],
    ["doctor", "--deep"], ["doctor", "--deep", "--json"],
]  # fmt: skip
PRINT_ALL = """
import json, sys
from click.testing import CliRunner
from brain_collector.cli.main import cli

databases, caches, commands = json.load(sys.stdin)
shown = []
for url in databases + caches:
    name = "BRAIN_COLLECTOR_DATABASE_URL" if url in databases else "BRAIN_COLLECTOR_REDIS_URL"
    other = {"BRAIN_COLLECTOR_DATABASE_URL": "postgresql://127.0.0.1:1/db"} if url in caches else {}
    for command in commands:
        done = CliRunner().invoke(cli, command, env={**other, name: url})
        shown.append([url, command, done.output, repr(done.exception)])
json.dump(shown, sys.stdout)
"""


@pytest.fixture(scope="module")
def shown() -> list[tuple[str, list[str], str, str]]:
    """What each command prints for each URL: all in one process, since each would take a second to start."""
    done = subprocess.run(
        [sys.executable, "-c", PRINT_ALL],
        input=json.dumps([DATABASES, CACHES, COMMANDS]),
        capture_output=True, text=True, timeout=PATIENCE_S, check=True, env={**os.environ, "HOME": "/nonexistent"},
    )  # fmt: skip
    assert not [piece for piece in PIECES if piece in done.stderr]
    return [(url, command, output, exception) for url, command, output, exception in json.loads(done.stdout)]


@pytest.mark.parametrize("url", [*DATABASES, *CACHES])
def test_no_command_shows_a_piece_of_a_password(shown: list[tuple[str, list[str], str, str]], url: str) -> None:
    of_url = [(command, output) for each, command, output, _ in shown if each == url]

    assert len(of_url) == len(COMMANDS)
    assert [(command, output) for command, output in of_url if any(piece in output for piece in PIECES)] == []


def test_no_url_is_a_traceback(shown: list[tuple[str, list[str], str, str]]) -> None:
    assert {exception.partition("(")[0] for *_, exception in shown} <= {"None", "SystemExit"}


def test_a_collector_that_cannot_reach_its_servers_shows_and_logs_no_piece_of_a_password() -> None:
    with scratch_dir() as path:
        log = path / "log"
        database = "postgresql://127.0.0.1:1/db?user=u&password=Zq7x&sslpassword=Wk3v"
        urls = ("--database-url", database, "--redis-url", "redis://:Zq7xWk3v@127.0.0.1:1")
        with collector_process(*urls, log=str(log)) as collector:
            wait_until(lambda: "database is not available" in log.read_text(), "the database is missed")
            wait_until(lambda: "cache is not available" in log.read_text(), "the cache is missed")
        printed = "".join(collector.lines) + log.read_text()

    assert "postgresql://127.0.0.1:1/db?user=***&password=***" in printed
    assert not [piece for piece in PIECES if piece in printed]


@pytest.mark.parametrize("url", ["postgresql://owner:Zq7x/Wk3v@127.0.0.1:1/db", "postgresql://owner:Zq7x:Wk3v/db"])
def test_a_collector_that_does_not_start_shows_no_piece_of_a_password(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "brain_collector", "serve"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, "BRAIN_COLLECTOR_DATABASE_URL": url},
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: BRAIN_COLLECTOR_DATABASE_URL has ")
    assert not [piece for piece in PIECES if piece in done.stderr]
