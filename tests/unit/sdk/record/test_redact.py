"""Secrets in texts: a corpus that must never travel, what must stay as it is, what scrubbing may not do to a line."""

import json
import logging
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brain_collector.access import keyring
from brain_events import Client, Config, bound
from brain_events._record.limits import Limits
from brain_events._record.redact import scrub
from brain_events._record.sanitize import SCRUBBED, is_secret
from brain_events._record.secret_shapes import NAME_SIGNS, scrub_text
from brain_events.testing import MemoryTransport
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SOURCE_MAX_CHARS, Event
from tests.support.effort import times
from tests.support.sdk import fast_client
from tests.support.waiting import PATIENCE_S

LIMITS = Limits(4096)
CANARY = "c4n4ry"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ{CANARY}In0.s1gn4tur3_{CANARY}"
GITHUB = f"ghp_{CANARY}{'A1b2' * 8}"
CORPUS = [
    f"postgres://app:{CANARY}@db.example.com:5432/shop",
    f"redis://:{CANARY}@cache:6379/0",
    f"cannot connect to amqp://guest:p@ss/{CANARY}@mq, retrying",
    f"git clone https://{GITHUB}@github.com",
    f"https://user:{CANARY}%20x@host/?q=1",
    f"Authorization: Bearer {CANARY}",
    f"authorization: Basic {CANARY}==",
    f"Bearer {CANARY}abc.def-123",
    f"sent 'bearer {CANARY}abcdefgh'",
    JWT,
    f"cookie is {JWT}; Path=/",
    f"AKIA{'C4N4RYC4N4RYC4N4'} and more",
    GITHUB,
    f"github_pat_{CANARY}_11AAAAAAA0123456789abcdef",
    f"glpat-{CANARY}-20-characters-long",
    f"AIza{CANARY}{'x' * 29}",
    f"xoxb-{CANARY}-1234567890",
    f"sk_live_{CANARY}1234",
    f"be_{CANARY}00_{'0123456789abcdef' * 4}",
    f"cut in the mid be_{CANARY}00_0123456789",
    f"-----BEGIN RSA PRIVATE KEY-----\nMII{CANARY}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PRIVATE KEY-----\nMII{CANARY} cut in the mid",
    f"password={CANARY}",
    f"PASSWORD = {CANARY}",
    f"login failed, password: {CANARY}, retrying",
    f"password:{CANARY} user=ann",
    f"first line\npassword={CANARY}",
    f"\tdb_password='{CANARY} with space'",
    f'secret="{CANARY}\\"{CANARY}"',
    f"{{'user': 'ann', 'password': '{CANARY}'}}",
    f'{{"user":"ann","api_key":"{CANARY}"}}',
    f'{{\\"api-key\\": \\"{CANARY}\\"}}',
    f"https://example.com/cb?code=1&access_token={CANARY}&state=2",
    f"GET /reset?token={CANARY} 200",
    f"https://s3.example.com/a?X-Amz-Signature={CANARY}&X-Amz-Date=1",
    f"Cookie: theme=dark; sid={CANARY}; a=b",
    f"set-cookie: sid={CANARY}; HttpOnly",
    f"[(b'host', b'x'), (b'cookie', b'sid={CANARY}'), (b'x-api-key', b'{CANARY}')]",
    f"X-Api-Key: {CANARY}",
    f"command '['mysql', '--password', '{CANARY}']' failed",
    f"mysql --password {CANARY} --batch",
    f"mysql --password={CANARY}",
    f"<login><password>{CANARY}</password></login>",
    f"client_secret => {CANARY}",
    f"AWS_SECRET_ACCESS_KEY={CANARY}",
    f"password=ünï{CANARY}☃",
]
HARMLESS = [
    "GET /users/{id} 200",
    "KeyError: 'password'",
    "invalid password for user ann",
    "input_tokens: 12, token_count=3",
    "see http://host:8080/path?mail=ann@example.com",
    "ssh://git@github.com/a/b",
    "bearer of bad news",
    "password_set=True password=None",
    "def login(password: str) -> None:",
    "token = get_token()",
    "a light in the high night",
    "the API key be_abcd1234 expired",
    "to be_or_not maybe_somebody_ be_lighted_by",
    f"password={SCRUBBED} and postgres://app:{SCRUBBED}@db",
    "key=value session=1 author: ann",
]


def test_a_key_that_a_collector_makes_is_known_as_a_secret() -> None:
    for _ in range(100):
        key = keyring.generate()
        assert scrub_text(f"is {key.text} known?", frozenset()) == f"is {SCRUBBED} known?"
        assert scrub_text(f"be_{key.prefix}", frozenset()) == f"be_{key.prefix}"


def hidden(text: str) -> bool:
    return CANARY not in text and CANARY.upper() not in text


def line_of(**fields: Any) -> bytes:
    return msgspec.json.encode(Event(**({"event_type": "t", "severity": "info", "message": "m"} | fields)))


@pytest.mark.parametrize("secret", CORPUS)
def test_a_secret_never_travels_wherever_it_stands(client: Client, memory: Any, secret: str) -> None:
    def fail() -> None:
        raise ValueError(secret)

    try:
        fail()
    except ValueError as error:
        failure = error
    for text in (secret, f"before {secret} after", f"{'x' * 300} {secret}"):
        client.log("t", "info", text)
        client.log("t", "info", "", {"a": text, "b": {"c": [text, {"d": text}]}, text: 1})
        client.log("t", "info", "", exc_info=failure)
        with bound(what=text):
            client.log("t", "info", "")
        client.log("t", "info", "", source=secret)
    assert client.flush(PATIENCE_S)
    assert len(memory.events) == 15
    for event in memory.events:
        text = msgspec.json.encode(event).decode()
        assert hidden(text), text
        assert SCRUBBED in text


@pytest.mark.parametrize("secret", CORPUS)
def test_scrubbing_twice_changes_nothing_more(secret: str) -> None:
    once = scrub(line_of(message=secret), LIMITS)
    assert scrub(once, LIMITS) == once


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub_text(text, frozenset()) == text
    line = line_of(message=text, details={"a": [text], text: 1})
    assert scrub(line, LIMITS) is line


def test_what_stands_around_a_secret_stays() -> None:
    text = "user=ann password=hunter2, port=5432 url=postgres://app:hunter2@db:5432/shop?ssl=1"
    assert scrub_text(text, frozenset()) == (
        f"user=ann password={SCRUBBED}, port=5432 url=postgres://app:{SCRUBBED}@db:5432/shop?ssl=1"
    )


@pytest.mark.parametrize("durable", [True, False])
def test_a_secret_reaches_no_disk(tmp_path: Path, *, durable: bool) -> None:
    """Neither the journal of durable mode, which is written before `log` returns, nor a spooled batch."""
    refusing = MemoryTransport(*[OSError("away")] * 100)
    with fast_client(transport=refusing, spool_dir=tmp_path, durable=durable, interval_s=3600) as client:
        for secret in CORPUS:
            client.log("t", "info", secret, {"password": CANARY, "a": [secret]})
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert (b"[scrubbed]" in written) is durable
        client.close(timeout_s=0.1)
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    plain = b"".join(files) + b"".join(zlib.decompress(gz(data), 31) for data in files if gz(data))
    assert plain.count(b"[scrubbed]") >= len(CORPUS)
    assert hidden(plain.decode(errors="replace"))


def gz(data: bytes) -> bytes:
    """Return the compressed body of a file of the outbox."""
    return data[data.index(b"\x1f\x8b") :] if b"\x1f\x8b" in data else b""


def test_secrets_are_no_part_of_diagnostics(caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> Event:
        raise ValueError(event.message)

    from brain_events._record.before_send import Hook

    with caplog.at_level(logging.DEBUG):
        Hook(fail, LIMITS)(Event("t", "info", f"password={CANARY}"))
    assert "ValueError" in caplog.text
    assert hidden(caplog.text)


def test_an_allowed_key_is_kept_as_a_key_and_in_a_text() -> None:
    allowed = frozenset({"page_token"})
    line = line_of(message="page_token=abc token=xyz", details={"page_token": "abc", "url": "a://b:c@d"})
    event = msgspec.json.decode(scrub(line, Limits(4096, allowed)), type=Event)
    assert event.message == f"page_token=abc token={SCRUBBED}"
    assert event.details == {"page_token": "abc", "url": f"a://b:{SCRUBBED}@d"}


pieces = st.sampled_from([*CORPUS, *HARMLESS, "=", ":", "'", '"', "\\", "\n", " ", "\u2028", "é", "=x token"])
texts = st.lists(pieces | st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=6).map("".join)
values = st.recursive(
    texts | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner)
)


def without_markers(value: Any, original: Any) -> bool:
    """Tell whether `value` is `original` but for texts that hold a marker."""
    if isinstance(original, str):
        return value == original or SCRUBBED in value
    if isinstance(original, list):
        return len(value) == len(original) and all(map(without_markers, value, original))
    if isinstance(original, dict):
        if len(value) != len(original):  # two keys that differed in a secret only
            return SCRUBBED in json.dumps(value)
        return all(map(without_markers, [*value, *value.values()], [*original, *original.values()]))
    return bool(value == original)


@settings(max_examples=times(200))
@given(texts, texts, values)
@example("password=x" * 5, "token=y" * 15, "secret=z " * 400)
def test_a_scrubbed_line_is_valid_and_the_same_but_for_markers(event_type: str, source: str, value: Any) -> None:
    original = Event(event_type[:EVENT_TYPE_MAX_CHARS].strip() or "t", "info", "m", {"it": value}, source[:100] or None)
    line = msgspec.json.encode(original)
    scrubbed = scrub(line, Limits(1024 * 1024))
    event = msgspec.json.decode(scrubbed, type=Event)
    assert len(event.event_type) <= EVENT_TYPE_MAX_CHARS
    assert len(event.source or "") <= SOURCE_MAX_CHARS
    assert (event.severity, event.message) == ("info", "m")
    assert scrubbed is line or without_markers(event.details, msgspec.json.decode(line)["details"])
    assert b"\n" not in scrubbed


def test_markers_do_not_make_a_line_longer_than_it_may_be() -> None:
    line = line_of(message="token=x " * 100, details={"a": "token=x " * 100})
    assert len(line) < 2048 < len(scrub(line, LIMITS))
    assert len(scrub(line, Limits(2048))) <= 2048


@given(st.text(max_size=20), st.sampled_from(["Password", "PWD", "_csrf", "JWT", "x-api-key", "auth", "Signature"]))
def test_every_secret_name_has_a_sign(prefix: str, name: str) -> None:
    for key in (prefix, name, prefix + name):
        if is_secret(key):
            assert any(sign in key.lower() for sign in NAME_SIGNS)


@pytest.mark.timeout(20)  # linear: milliseconds; quadratic: minutes
@pytest.mark.parametrize(
    "piece", ["token=", "passw", "'password': '", "eyJ", "eyJaaaaaaaa.", "://a:", "Cookie: ", "earer ", "\\", "key"]
)
def test_no_text_takes_quadratic_time(piece: str) -> None:
    text = piece * (500_000 // len(piece))
    for whole in (text, f"@{text}", f"{text}@ ://"):
        assert len(scrub_text(whole, frozenset())) > 0


def test_a_key_that_is_very_long_is_judged_but_not_remembered() -> None:
    from brain_events._record.sanitize import _is_secret

    before = _is_secret.cache_info().currsize
    assert is_secret("x" * 100_000 + "password")
    assert _is_secret.cache_info().currsize == before


@pytest.mark.parametrize("given", ["page_token", ["page_token"], None])
def test_allowed_keys_that_are_no_set_are_refused(given: Any) -> None:
    from brain_events import ConfigError

    with pytest.raises(ConfigError, match="allowed_keys"):
        Config(url="http://127.0.0.1:8001", allowed_keys=given)
