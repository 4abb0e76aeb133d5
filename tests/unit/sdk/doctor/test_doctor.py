"""The doctor: each thing that keeps events from arriving is found and named, with a remedy, and no secret is shown."""

import io
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from brain_events import config, doctor
from brain_events.__main__ import main
from brain_events._queue import batch_file
from brain_events._queue.batch import seal
from brain_events._queue.notices import Notices
from brain_events._queue.outbox import MAX_AGE_S, Outbox
from brain_events.doctor import settings
from brain_events.testing import MemoryTransport
from brain_events.testing.faulty import FaultyCollector
from tests.support.sdk import fast_client, run_script
from tests.support.waiting import PATIENCE_S, wait_until

KEY = "s3cret-key"
LINE = b'{"event_type":"a","severity":"info","message":"m"}'


def diagnose(url: str | None, spool: Path | str = "none", timeout_s: float = 5.0, **environ: str) -> dict[str, Any]:
    """Run the doctor; return its report, with the findings by check, and the exit code."""
    out = io.StringIO()
    flags = {"url": url, "spool_dir": str(spool)}
    environ.setdefault("BRAIN_EVENTS_JOURNAL_DIR", os.environ["BRAIN_EVENTS_JOURNAL_DIR"])
    code = doctor.run(environ, flags, out, timeout_s=timeout_s, as_json=True)
    report: dict[str, Any] = json.loads(out.getvalue())
    assert report["ok"] == (code == 0)
    assert all(finding["do"] for finding in report["findings"] if finding["level"] == "wrong")
    return report | {"code": code, "by": {finding["check"]: finding for finding in report["findings"]}}


def levels(report: dict[str, Any]) -> dict[str, str]:
    return {check: finding["level"] for check, finding in report["by"].items()}


@pytest.fixture
def collector() -> Iterator[FaultyCollector]:
    with FaultyCollector() as collector:
        yield collector


def write_batch(
    spool: Path, destination: str, age_s: float = 0.0, count: int = 3, name: str = "00000000-99999-abc"
) -> Path:
    """Leave a batch behind as a process does that has ended."""
    batch = seal([LINE] * count)
    directory = spool / name
    directory.mkdir(parents=True, exist_ok=True)
    spool.chmod(0o700)
    (directory / "lock").touch()
    path = directory / f"{batch.key}.batch"
    path.write_bytes(batch_file.encode_sealed(batch, destination, time.time() - age_s))
    return path


def test_all_is_well_where_all_is_well(collector: FaultyCollector, tmp_path: Path) -> None:
    report = diagnose(collector.url, tmp_path / "spool", BRAIN_EVENTS_API_KEY=KEY)
    wanted = ["settings", "tcp", "livez", "readyz", "key", "clock", "spool", "space", "journal"]
    assert levels(report) == dict.fromkeys(wanted, "ok")
    assert report["code"] == 0
    assert not (tmp_path / "spool").exists()
    assert collector.batches == 0


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("refuse", "tcp", "no process listens there"),
        ("hang", "http", "may hang, or another service"),
        ("drip", "http", "may hang, or another service"),
        ("cut", "http", "may hang, or another service"),
        ("garbage", "http", "may hang, or another service"),
        ("page", "livez", "another service or a proxy"),
        ("error", "livez", "another service or a proxy"),
    ],
)
def test_each_fault_of_a_collector_is_named(fault: str, check: str, says: str) -> None:
    with FaultyCollector(fault) as collector:
        report = diagnose(collector.url, timeout_s=0.5)
    assert report["by"][check]["level"] == "wrong"
    assert says in report["by"][check]["do"]
    assert report["code"] == 1


class Refusing(BaseHTTPRequestHandler):
    """A collector that is alive, not ready, wants another key, and whose clock is an hour slow."""

    def do_GET(self) -> None:
        answers = {"/livez": (200, b'{"status":"alive"}'), "/readyz": (503, b'{"reasons":["no database"]}')}
        status, body = answers.get(self.path, (401, b'{"code":"unauthorized"}'))
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string(time.time() - 3600))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class Quiet(HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us leaves."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    server = Quiet(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_wrong_key_a_collector_that_is_not_ready_and_a_wrong_clock_are_named() -> None:
    with serving(Refusing) as port:
        report = diagnose(f"http://127.0.0.1:{port}", BRAIN_EVENTS_API_KEY=KEY)
    assert "no database" in report["by"]["readyz"]["what"]
    assert "refuses the API key (HTTP 401)" in report["by"]["key"]["what"]
    assert "s ahead of the server's" in report["by"]["clock"]["what"]
    assert abs(report["by"]["clock"]["value"] - 3600) < 60
    assert KEY not in json.dumps(report)


def test_a_port_that_speaks_no_tls_and_a_bundle_that_is_none_are_named(
    collector: FaultyCollector, tmp_path: Path
) -> None:
    address = collector.url.replace("http:", "https:")
    assert "may speak http:// only" in diagnose(address)["by"]["tls"]["do"]
    (tmp_path / "bundle.pem").write_text("no certificate")
    report = diagnose(address, BRAIN_EVENTS_CA_BUNDLE=str(tmp_path / "bundle.pem"))
    assert "BRAIN_EVENTS_CA_BUNDLE" in report["by"]["tls"]["do"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made by openssl")
def test_a_certificate_is_trusted_only_with_its_authority_and_told_when_it_expires_soon(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trust.load_cert_chain(certificate, key)
    with serving(Refusing, trust) as port:
        unknown = diagnose(f"https://localhost:{port}")
        known = diagnose(f"https://localhost:{port}", BRAIN_EVENTS_CA_BUNDLE=certificate)
    assert "BRAIN_EVENTS_CA_BUNDLE" in unknown["by"]["tls"]["do"]
    assert (known["by"]["tls"]["level"], known["by"]["tls"]["do"]) == (
        "info",
        "renew it: once it has expired, nothing is sent",
    )
    assert known["by"]["livez"]["level"] == "ok"


@pytest.mark.parametrize("host", ["collector.invalid", "a" * 70])
def test_a_host_that_is_not_known_is_named(host: str) -> None:
    assert "host name cannot be resolved" in diagnose(f"http://{host}")["by"]["tcp"]["do"]


def test_without_a_url_it_says_that_nothing_is_sent() -> None:
    report = diagnose(None)
    assert report["findings"][0]["what"] == "no url is set: nothing is sent"
    assert report["settings"]["url"] == {"value": None, "origin": "not set"}
    assert report["code"] == 1


def test_each_setting_has_its_origin_and_no_secret_is_shown() -> None:
    report = diagnose("http://127.0.0.1:9", BRAIN_EVENTS_API_KEY=KEY, BRAIN_EVENTS_SOURCE="shop")
    shown = report["settings"]
    assert list(shown) == sorted(config.Config.__struct_fields__)
    assert shown["url"]["origin"] == "flag --url"
    assert shown["api_key"] == {"value": "(set, not shown)", "origin": "environment variable BRAIN_EVENTS_API_KEY"}
    assert shown["source"] == {"value": "shop", "origin": "environment variable BRAIN_EVENTS_SOURCE"}
    assert shown["interval_s"] == {"value": config.DEFAULT_INTERVAL_S, "origin": "default"}
    assert KEY not in json.dumps(report)


@pytest.mark.parametrize("url", ["user:hunter2@host", "http://user:hunter2@host", "ftp://user:hunter2@host"])
def test_a_password_in_a_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    report = diagnose(url)
    assert report["by"]["settings"]["level"] == "wrong"
    assert "hunter2" not in json.dumps(report)


def test_a_password_of_a_proxy_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:hunter2@127.0.0.1:9")
    report = diagnose("http://collector.invalid")
    assert report["settings"]["proxy"]["origin"] == "environment variable HTTP_PROXY or HTTPS_PROXY"
    assert "the proxy 127.0.0.1:9" in report["by"]["tcp"]["what"]
    assert "hunter2" not in json.dumps(report)


def test_a_variable_that_is_no_setting_is_named_with_the_one_that_is_meant() -> None:
    report = diagnose("http://127.0.0.1:9", BRAIN_EVENTS_SPOOLDIR="/x")
    assert report["findings"][0]["do"] == "did you mean BRAIN_EVENTS_SPOOL_DIR?"


def test_it_knows_the_variables_that_the_sdk_reads() -> None:
    read = set(re.findall(r"BRAIN_EVENTS_[A-Z_]+", Path(config.__file__).read_text()))
    assert {f"BRAIN_EVENTS_{name.upper()}" for name in settings.FROM_ENVIRONMENT} == read


def test_batches_of_a_process_that_has_ended_are_counted_for_their_destination(tmp_path: Path) -> None:
    write_batch(tmp_path, "http://127.0.0.1:9", age_s=7200)
    write_batch(tmp_path, "http://127.0.0.1:9", count=4)
    report = diagnose("http://127.0.0.1:9/", tmp_path)
    waiting = report["by"]["waiting"]
    assert waiting["level"] == "info"
    assert (waiting["value"]["batches"], waiting["value"]["events"]) == (2, 7)
    assert waiting["value"]["state"] == "ended"
    assert "the oldest for 2 h" in waiting["what"]
    assert "adopts them" in waiting["do"]


def test_batches_for_another_destination_and_old_ones_are_named(tmp_path: Path) -> None:
    write_batch(tmp_path, "http://gone.invalid", age_s=MAX_AGE_S + 60)
    waiting = diagnose("http://127.0.0.1:9", tmp_path)["by"]["waiting"]
    assert waiting["level"] == "wrong"
    assert "older than 5 days" in waiting["do"]
    assert "only a process whose url is http://gone.invalid" in waiting["do"]


def test_batches_of_a_running_process_are_told_from_those_of_a_dead_one_and_stay_untouched(tmp_path: Path) -> None:
    memory = MemoryTransport(*[OSError()] * 100_000)
    client = fast_client("http://127.0.0.1:9", memory, spool_dir=str(tmp_path), durable=True, interval_s=3600.0)
    client.log("a", "info", "waits")
    before = sorted(tmp_path.rglob("*"))
    waiting = diagnose("http://127.0.0.1:9", tmp_path)["by"]["waiting"]
    assert (waiting["value"]["state"], waiting["value"]["events"]) == ("alive", 1)
    assert waiting["value"]["pids"] == [str(os.getpid())]
    assert sorted(tmp_path.rglob("*")) == before
    client.close(0)


def test_an_adopter_finds_what_the_doctor_has_looked_at(tmp_path: Path) -> None:
    probe = Outbox(str(tmp_path), "http://collector.invalid", Notices(), max_bytes=10**6)
    assert probe.store(seal([LINE])) is not None
    probe.release()
    assert diagnose("http://collector.invalid", tmp_path)["by"]["waiting"]["value"]["state"] == "ended"
    memory = MemoryTransport()
    with fast_client("http://collector.invalid", memory, spool_dir=str(tmp_path)) as client:
        client.log("a", "info", "mine")
        wait_until(lambda: len(memory.events) == 2)


def test_the_journal_and_what_a_killed_process_has_left_in_it_are_shown(tmp_path: Path) -> None:
    script = """
        import os, brain_events
        brain_events.init("http://127.0.0.1:9", spool_dir=os.environ["SPOOL"], interval_s=3600)
        for n in range(3): brain_events.log_system_event("a", "info", "")
        os._exit(9)
    """
    assert run_script(script, SPOOL=str(tmp_path)).returncode == 9
    journal = diagnose("http://127.0.0.1:9", tmp_path)["by"]["journal"]
    assert (journal["level"], journal["value"]) == ("info", 3)
    assert "3 events of 1 ended processes wait in" in journal["what"]
    assert diagnose("http://127.0.0.1:10", tmp_path)["by"]["journal"]["level"] == "ok"
    assert diagnose("http://127.0.0.1:9", tmp_path / "other")["by"]["journal"]["level"] == "ok"


def test_without_a_journal_the_doctor_says_why(tmp_path: Path) -> None:
    no_tmpfs = diagnose("http://127.0.0.1:9", tmp_path, BRAIN_EVENTS_JOURNAL_DIR="/proc")["by"]["journal"]
    assert (no_tmpfs["level"], no_tmpfs["value"]) == ("info", "/proc")
    assert "is not on tmpfs" in no_tmpfs["what"] or "is not a writable directory" in no_tmpfs["what"]
    assert "there is no journal" in diagnose("http://127.0.0.1:9")["by"]["journal"]["what"]
    assert "journal" not in diagnose("http://127.0.0.1:9", tmp_path, BRAIN_EVENTS_DURABLE="1")["by"]


def test_damaged_and_rejected_files_are_named(tmp_path: Path) -> None:
    write_batch(tmp_path, "http://127.0.0.1:9").write_bytes(b"torn")
    (tmp_path / "rejected").mkdir()
    (tmp_path / "rejected" / "x.batch").write_bytes(b"x")
    report = diagnose("http://127.0.0.1:9", tmp_path)
    assert "1 files cannot be read as batches" in report["by"]["damaged"]["what"]
    assert "1 files (1 bytes)" in report["by"]["rejected"]["what"]


def test_files_of_a_later_version_are_named_and_not_as_damaged(tmp_path: Path) -> None:
    path = write_batch(tmp_path, "http://127.0.0.1:9")
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":3'))
    report = diagnose("http://127.0.0.1:9", tmp_path)
    assert report["by"]["waiting"]["what"] == f"1 files were written by a later version of this package: {path}"
    assert "damaged" not in report["by"]


def test_a_spool_that_others_can_see_and_one_that_is_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    assert "chmod 700" in diagnose("http://127.0.0.1:9", tmp_path / "open")["by"]["permissions"]["do"]
    (tmp_path / "open").chmod(0o775)
    shared = diagnose("http://127.0.0.1:9", tmp_path / "open")["by"]["permissions"]
    assert shared["level"] == "wrong"
    assert "has mode 0775, but only this user" in shared["what"]
    (tmp_path / "file").touch()
    assert diagnose("http://127.0.0.1:9", tmp_path / "file")["by"]["spool"]["level"] == "wrong"
    assert diagnose("http://127.0.0.1:9", tmp_path / "file" / "below")["by"]["spool"]["level"] == "wrong"


def test_the_command_prints_everything_and_ends_with_the_code(collector: FaultyCollector, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "brain_events", "doctor", "--spool-dir", str(tmp_path / "spool")]
    environ = {"PATH": os.environ["PATH"], "BRAIN_EVENTS_URL": collector.url, "BRAIN_EVENTS_API_KEY": KEY}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("\nall is well\n")
    assert "environment variable BRAIN_EVENTS_URL" in done.stdout
    assert KEY not in done.stdout + done.stderr
    collector.fault = "refuse"
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert "WRONG tcp" in done.stdout
    assert "-> no process listens there" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["cure"], ["doctor", "--nonsense"], ["doctor", "--timeout-s", "-1"]])
def test_a_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_importing_the_package_imports_none_of_it() -> None:
    done = run_script("""
        import sys, brain_events
        print(sorted(name for name in sys.modules if "doctor" in name or "faulty" in name or "testing" in name))
    """)
    assert done.stdout == "[]\n", done.stderr
