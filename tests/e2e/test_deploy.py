"""The deploy script, run against real collectors: it rolls them, and stops at the first thing that fails."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from brain_collector.storage import schema_version
from tests.e2e.test_rolling import external
from tests.support.collector import new_database
from tests.support.engines import SuiteEngines
from tests.support.process import CollectorProcess
from tests.support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "deploy.sh"


class Site:
    """Two collectors; `restarts` is what the script's restart command noted, one URL a line."""

    def __init__(self, dsn: str, collectors: list[CollectorProcess], directory: Path) -> None:
        self.dsn = dsn
        self.collectors = collectors
        self.urls = [collector.url for collector in collectors]
        self._restarted = directory / "restarted"
        self._restarted.touch()
        self.migrate = shlex.join([sys.executable, "-m", "brain_collector", "migrate", "--database-url", dsn])
        self.restart = f"echo {{n}} {{url}} >> {self._restarted}"

    @property
    def restarted(self) -> list[str]:
        return self._restarted.read_text().splitlines()

    def deploy(self, *arguments: str, **changes: str) -> "subprocess.CompletedProcess[str]":
        options = {"migrate": self.migrate, "restart": self.restart, "wait": "120", **changes}
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        return run(*flags, *(arguments or self.urls))


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False, env=dict(os.environ))


@pytest.fixture
def site(engines: SuiteEngines, tmp_path: Path) -> Iterator[Site]:
    """Two collectors that run on a database which was never migrated."""
    with new_database(engines) as dsn, ExitStack() as stack:
        yield Site(dsn, [external(stack, engines, dsn) for _ in range(2)], tmp_path)


def test_it_migrates_and_then_restarts_and_tests_one_collector_after_the_other(site: Site) -> None:
    before = [httpx.get(f"{url}/readyz", timeout=PATIENCE_S).status_code for url in site.urls]
    found = site.deploy()

    assert before == [503, 503]
    assert found.returncode == 0, found
    assert f"the schema is at {schema_version.HEAD}" in found.stdout
    assert site.restarted == [f"1 {site.urls[0]}", f"2 {site.urls[1]}"]
    assert found.stdout.count("12 passed") == 2
    assert found.stdout.splitlines()[-1] == "== deployed to 2"


def healthy(url: str) -> bool:
    """Run the image's HEALTHCHECK as Docker does, in an environment that sends every HTTP request to a proxy."""
    (check,) = re.findall(r"^HEALTHCHECK .*\\\n *CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    _python, *arguments = json.loads(check)
    environ = {"BRAIN_COLLECTOR_PORT": url.rpartition(":")[2], "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run([sys.executable, *arguments], timeout=PATIENCE_S, check=False, env=environ).returncode == 0


def test_the_image_is_as_healthy_as_its_collector_is_ready(site: Site) -> None:
    before = [healthy(url) for url in site.urls]
    found = site.deploy(smoke="true")

    assert found.returncode == 0, found
    assert (before, [healthy(url) for url in site.urls]) == ([False, False], [True, True])


def test_a_restart_is_a_real_one(site: Site) -> None:
    """The command stops and starts a process on the same port, as a supervisor does."""
    environ = f"BRAIN_COLLECTOR_DATABASE_URL={shlex.quote(site.dsn)} BRAIN_COLLECTOR_REDIS_URL=none"
    first = site.collectors[0]
    log = site._restarted.with_name("log")
    serve = f"{shlex.quote(sys.executable)} -m brain_collector serve --port {first.url.rpartition(':')[2]}"
    pid_file = site._restarted.with_name("pid")
    restart = (
        f"kill {first.pid}; while curl --silent --output /dev/null {first.url}/livez; do sleep 0.1; done; "
        f"{environ} {serve} > {log} 2>&1 & echo $! > {pid_file}"
    )
    found = site.deploy(first.url, restart=restart)
    new_pid = int(pid_file.read_text())

    try:
        assert found.returncode == 0, (found, log.read_text())
        assert first.wait() == 0
    finally:
        os.kill(new_pid, signal.SIGTERM)


def test_a_failed_migration_restarts_nothing(site: Site) -> None:
    found = site.deploy(migrate="false")

    assert found.returncode == 1
    assert "the migration failed; no collector was restarted" in found.stderr
    assert site.restarted == []


def test_a_failed_restart_stops_it_before_the_next(site: Site) -> None:
    found = site.deploy(restart=f"{site.restart}; false")

    assert found.returncode == 1
    assert f"collector 1 of 2 ({site.urls[0]}) could not be restarted" in found.stderr
    assert site.restarted == [f"1 {site.urls[0]}"]


def test_a_collector_that_is_not_ready_stops_it(site: Site) -> None:
    found = site.deploy(migrate="true", wait="1")

    assert found.returncode == 1
    assert f"({site.urls[0]}) was not ready within 1 s: see {site.urls[0]}/readyz" in found.stderr
    assert len(site.restarted) == 1


def test_a_failed_smoke_test_stops_it(site: Site) -> None:
    found = site.deploy(smoke="echo tested; false")

    assert found.returncode == 1
    assert f"the smoke test failed on collector 1 of 2 ({site.urls[0]})" in found.stderr
    assert len(site.restarted) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--migrate and --restart are required"),
        (["--migrate", "true", "--restart", "true"], "name the URL"),
        (["--migrate"], "--migrate needs a value"),
        (["--force"], "'--force' is neither an option nor a URL"),
        (["--migrate", "true", "--restart", "true", "--wait", "soon", "http://x"], "--wait is 'soon'"),
    ],
)
def test_wrong_arguments_do_nothing_and_say_what_is_wrong(arguments: list[str], said: str) -> None:
    found = run(*arguments)

    assert (found.returncode, found.stdout) == (2, "")
    assert said in found.stderr


def test_it_explains_itself() -> None:
    found = run("--help")

    assert found.returncode == 0
    assert found.stdout.startswith("Usage: deploy.sh --migrate COMMAND")
