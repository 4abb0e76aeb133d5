"""Words of a server in the SDK's log and in its doctor: they cannot begin a line, or control a terminal."""

import io
import json
import logging
import sys

import pytest

from brain_collector import printable as printable_of_collector
from brain_events import _printable
from brain_events.doctor import run
from tests.support.sdk import fast_client
from tests.support.sink import serve
from tests.support.waiting import PATIENCE_S, wait_until

ATTACK = "no\nCRITICAL forged: all is lost\x1b]0;PWN\x07\x9b31m\u202e"
PROBLEM = {"Content-Type": "application/problem+json"}


@pytest.mark.parametrize("status", [503, 422, 401])
def test_a_line_break_in_an_answer_does_not_begin_a_line_of_the_log(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brain_events")
    with serve() as sink:
        sink.always = (status, PROBLEM, json.dumps({"code": f"event_invalid{ATTACK}", "detail": ATTACK}).encode())
        client = fast_client(sink.url)
        client.log("a", "info", "m")
        wait_until(lambda: caplog.messages, "the failure is logged")
        sink.always = None
        client.close(PATIENCE_S)

    assert "forged" in caplog.messages[0]
    assert caplog.messages == [_printable.one_line(message) for message in caplog.messages]


def test_the_doctor_prints_no_control_character_of_a_server() -> None:
    with serve() as sink:
        sink.always = (400, PROBLEM, json.dumps({"code": "host_refused", "detail": ATTACK}).encode())
        shown = {}
        for as_json in (False, True):
            out = io.StringIO()
            run({"BRAIN_EVENTS_URL": sink.url}, {"spool_dir": "none"}, out, timeout_s=PATIENCE_S, as_json=as_json)
            shown[as_json] = out.getvalue()

    for text in shown.values():
        assert "forged" in text
        assert not [line for line in text.splitlines() if line != _printable.one_line(line)]
    findings = json.loads(shown[True])["findings"]
    assert any(finding["what"].endswith(ATTACK) for finding in findings)


def test_sdk_and_collector_escape_the_same_characters() -> None:
    every = [chr(number) for number in range(sys.maxunicode + 1)]

    assert [one for one in every if _printable.one_line(one) != printable_of_collector.one_line(one)] == []
