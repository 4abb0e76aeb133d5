"""The way to the collector: proxies, certificates, hosts with several addresses, deadlines."""

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from brain_events import Config, ConfigError
from brain_events._delivery.http import HTTPTransport
from brain_events._queue.batch import seal
from brain_events.config import load
from tests.support.sdk import run_script
from tests.support.sink import Sink, serve

LINE = b'{"event_type":"a","severity":"info","message":""}'
SEND = """
    import brain_events
    brain_events.init({url!r})
    brain_events.log_system_event("a", "info", "")
    print(brain_events.flush(3))
"""


@pytest.mark.parametrize(("name", "scheme"), [("HTTP_PROXY", "http://"), ("http_proxy", "http://"), ("HTTP_PROXY", "")])
def test_a_proxy_named_by_the_environment_is_asked(sink: Sink, name: str, scheme: str) -> None:
    """A proxy gets the whole address: the sink takes it for an unknown path, and says so."""
    address = scheme + sink.url.removeprefix("http://")
    done = run_script(SEND.format(url="http://collector.invalid"), BRAIN_EVENTS_SPOOL_DIR="none", **{name: address})
    assert done.stdout == "False\n"
    assert {request.path for request in sink.requests} == {"http://collector.invalid/api/events/batch"}


def test_no_proxy_and_this_machine_are_reached_without(sink: Sink) -> None:
    done = run_script(SEND.format(url=sink.url), HTTP_PROXY="http://proxy.invalid:3128")
    assert done.stdout == "True\n", done.stderr
    environ = {"HTTP_PROXY": "http://proxy.invalid:3128", "NO_PROXY": ".example.com"}
    script = """
        import os
        from brain_events.config import load
        for host in ("events.example.com", "example.org"):
            print(load(os.environ, url=f"http://{host}", api_key=None, source=None).proxy)
    """
    done = run_script(script, **environ)
    assert done.stdout == "None\nhttp://proxy.invalid:3128\n"


def test_a_proxys_password_is_sent_and_never_shown(sink: Sink) -> None:
    proxy = sink.url.replace("http://", "http://user:s3cret@")
    config = Config(url="http://collector.invalid", proxy=proxy)
    HTTPTransport(config).send(seal([LINE]), 5)
    assert sink.requests[0].headers["proxy-authorization"] == "Basic dXNlcjpzM2NyZXQ="
    assert "s3cret" not in repr(config)


def test_a_ca_bundle_that_cannot_be_read_is_refused_by_init(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", Path(__file__)):
        with pytest.raises(ConfigError, match="ca_bundle"):
            HTTPTransport(Config(url="https://collector.invalid", ca_bundle=str(path)))


def test_only_a_collector_whose_certificate_is_trusted_gets_events(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, *subject]
    subprocess.run(new, check=True, capture_output=True)
    with serve() as sink:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        sink.socket = context.wrap_socket(sink.socket, server_side=True)
        url = sink.url.replace("http://", "https://")
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            HTTPTransport(Config(url=url)).send(seal([LINE]), 5)
        assert sink.requests == []
        transport = HTTPTransport(Config(url=url, ca_bundle=str(certificate)))
        assert transport.send(seal([LINE]), 5).status == 200
        transport.close()


def test_a_server_that_accepts_and_says_nothing_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for scheme in ("http", "https"):
            transport = HTTPTransport(Config(url=f"{scheme}://127.0.0.1:{server.getsockname()[1]}"))
            with pytest.raises(Exception, match=r"timed out|in time"):
                transport.send(seal([LINE]), timeout_s=0.3)
            transport.close()


def test_all_addresses_of_a_host_are_tried(sink: Sink) -> None:
    """`localhost` is ::1, where nobody listens, and 127.0.0.1."""
    transport = HTTPTransport(Config(url=sink.url.replace("127.0.0.1", "localhost")))
    assert transport.send(seal([LINE]), 5).status == 200
    transport.close()


def test_settings_of_the_outbox_come_from_the_environment_unless_they_are_given() -> None:
    environ = {"BRAIN_EVENTS_SPOOL_DIR": "/spool", "BRAIN_EVENTS_DURABLE": "yes", "BRAIN_EVENTS_FSYNC": "0"}
    given = {"url": "http://collector", "api_key": None, "source": None}
    config = load(environ, **given)  # type: ignore[arg-type]
    assert config is not None
    assert (config.spool_dir, config.durable, config.fsync) == ("/spool", True, False)
    config = load(environ, **given, spool_dir="/given", durable=False)  # type: ignore[arg-type]
    assert config is not None
    assert (config.spool_dir, config.durable) == ("/given", False)
    for off in ("", "none", "NONE"):
        config = load({"BRAIN_EVENTS_SPOOL_DIR": off}, **given)  # type: ignore[arg-type]
        assert config is not None
        assert config.outbox_dir() is None
    with pytest.raises(ConfigError, match="BRAIN_EVENTS_DURABLE"):
        load({"BRAIN_EVENTS_DURABLE": "maybe"}, **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="durable needs a spool_dir"):
        load({}, **given, spool_dir=None, durable=True)  # type: ignore[arg-type]
