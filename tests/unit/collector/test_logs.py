"""The log on stderr: one record a line, whatever a client put into it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
from structlog.contextvars import bound_contextvars

from brain_collector import logs

FORGED = "x\r\n2026-01-01T00:00:00Z [critical ] all is lost\x1b[2J\u2028\x85 end"


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(log_format: logs.LogFormat) -> str:
    """Return what a message, an extra and an exception look like, all three of them a client's text."""
    out = io.StringIO()
    logs.configure(log_format, "info", out)
    logger = logging.getLogger("test")
    with bound_contextvars(request_id="r-1"):
        logger.info("asked for %s", FORGED, extra={"path": FORGED})
        try:
            int(FORGED)
        except ValueError:
            logger.exception("failed")
    return out.getvalue()


def test_json_has_one_object_a_line_with_the_id_of_the_request() -> None:
    first, second = [json.loads(line) for line in written("json").splitlines()]

    assert first["event"] == f"asked for {FORGED}"
    assert first["path"] == FORGED
    assert (first["level"], first["logger"], first["request_id"]) == ("info", "test", "r-1")
    assert "timestamp" in first
    assert second["exception"].startswith("Traceback")
    assert second["request_id"] == "r-1"


def test_no_text_of_a_client_begins_a_line_or_reaches_the_terminal_as_a_control_character() -> None:
    text = written("text")

    assert not set("\r\x1b\u2028\x85") & set(text)
    heads = [line for line in text.split("\n") if line and not line.startswith("    ")]
    assert len(heads) == 2
    assert all("r-1" in line for line in heads)
    assert r"\r\n2026-01-01" in heads[0]


def test_auto_is_json_where_there_is_no_terminal() -> None:
    assert [json.loads(line)["level"] for line in written("auto").splitlines()] == ["info", "error"]


def test_configured_again_it_writes_each_record_once() -> None:
    out = io.StringIO()
    logs.configure("json", "info", io.StringIO())
    logs.configure("json", "error", out)
    logging.getLogger("test").info("not shown")
    logging.getLogger("test").error("shown")

    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["shown"]
