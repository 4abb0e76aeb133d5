"""Secrets in texts: a corpus that must never travel, what must stay as it is, what scrubbing may not do to a line."""

import json
import logging
import time
import timeit
import zlib
from base64 import b64encode
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
    f"xapp-1-{CANARY}-1234567890",
    f"https://hooks.slack.com/services/T0000/B0000/{CANARY}{'x' * 12}",
    f"https://hooks.slack.com/workflows/T0000/A0000/12345678/{CANARY}",
    f"https://discord.com/api/webhooks/1234567890/{CANARY}-{'x' * 20}",
    f"ya29.a0{CANARY}{'x' * 20}",
    f"GOCSPX-{CANARY}{'x' * 20}",
    f"glrt-{CANARY}{'x' * 20}",
    f"sk_test_{CANARY}1234",
    f"whsec_{CANARY}{'x' * 20}",
    f"SG.{CANARY}{'x' * 12}.{CANARY}{'x' * 30}",
    f"sk-{CANARY}{'a1B2' * 10}",
    f"sk-proj-{CANARY}{'a1B2' * 10}",
    f"sk-ant-api03-{CANARY}{'a1_2' * 10}{'a1B2' * 4}",
    f"hf_{CANARY}{'x' * 28}",
    f"npm_{CANARY}{'x' * 30}",
    f"pypi-AgEIcHlwaS5vcmc{CANARY}{'x' * 20}",
    f"dop_v1_{'0123456789abcdef' * 4}",
    f"hvs.{CANARY}{'x' * 20}",
    f"shpat_{'0123456789abcdef' * 2}",
    f"bot of Telegram 123456789:AA{CANARY}{'x' * 30}",
    f"https://api.telegram.org/bot123456789:AA{CANARY}{'x' * 30}/sendMessage",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nMII{CANARY}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"AGE-SECRET-KEY-1{CANARY.upper()}{'Q' * 40}",
    f"refused Basic {b64encode(f'ann:{CANARY}'.encode()).decode()} of ann",
    f"basic {b64encode(f'ann:{CANARY}!'.encode()).decode().rstrip('=')}",
    f"pass={CANARY}",
    f"db_pass: {CANARY}",
    f"pw={CANARY} user=ann",
    f"pin={CANARY}",
    f"otp: {CANARY}",
    f"https://a.blob.core.windows.net/b?sv=2024-01-01&sig={CANARY}%3D&se=1",
    f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={CANARY}==;EndpointSuffix=x",
    f"master_key={CANARY}",
    f"ssh_key='{CANARY}'",
    f"passcode: {CANARY}",
    f"x-functions-key: {CANARY}",
    f"Ocp-Apim-Subscription-Key: {CANARY}",
    f"connect.sid={CANARY}",
    f"auth_header='{CANARY}'",
    f"cvv={CANARY}",
    f"password=hun,{CANARY}",
    f"password=hun;{CANARY}",
    f"password=hun&{CANARY}",
    f"password=hun){CANARY}",
    f'{{"password": ["{CANARY}"]}}',
    f'{{"user": "ann", "password": {{"v": ["{CANARY}"], "w": "{CANARY}"}}}}',
    f"{{'password': {{'v': '{CANARY}'",
    f'{{"pass\\u0077ord": "{CANARY}"}}',
    f"%7B%22user%22%3A%22ann%22%2C%22password%22%3A%22{CANARY}%22%7D",
    f"curl -u ann:{CANARY} https://example.com",
    f"curl -s --user 'ann:{CANARY}' https://example.com",
    f"mysql -u root -p{CANARY} shop",
    f"mysqldump --host db -p{CANARY} shop",
    f"sshpass -p {CANARY} ssh host",
    f"user: ann\npassword:\n  {CANARY}\nport: 1",
    f"user: ann\npassword: |\n  {CANARY}\nport: 1",
    f"mysql -u root -p'{CANARY}' shop",
    f"['mysql', '-u', 'root', '-p{CANARY}'] failed",
    f"['curl', '-u', 'ann:{CANARY}', 'x'] failed",
    f"['sshpass', '-p', '{CANARY}'] failed",
    f"curl -sSu ann:{CANARY} https://example.com",
    f'{{"secrets": [{{"name": "db", "value": "{CANARY}"}}]}}',
    f'{{"password": {{"v": "x}}y", "w": "{CANARY}"}}}}',
    f'{{"credentials": [[1, "{CANARY}"]]}}',
    f"PASSWORD:{CANARY}",
    f"API_KEY:{CANARY}",
    f"db_pass:{CANARY}",
    f"session_id:{CANARY}",
    f"postgres%3A%2F%2Fapp%3A{CANARY}%40db",
    f"--password {CANARY}",
    f"Bearer\t{CANARY}abcdefgh",
    f"REDISCLI_AUTH={CANARY}",
    f"X-Auth-Key: {CANARY}",
    f"refused Basic {b64encode(f'é:{CANARY}'.encode()).decode()}",
    f"eyJhbGciOiJkaXIi{CANARY}..{CANARY}.{CANARY}abc.tag",
    f"map[user:ann password:{CANARY}]",
    f"login of ann failed with password:{CANARY}",
    f"<password><![CDATA[{CANARY}]]></password>",
    f"CREATE ROLE ann LOGIN PASSWORD '{CANARY}'",
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
    "sk-authentication-service-2 is a host, task-0123456789abcdef0123 a job",
    "basic information about the HTTP basic access",
    "passed=3 bypass=1 ping: 12 spin=2 signal=9 shipping: 3 signature",
    "docker run -u 1000:1000 https://example.com/curling",
    "see https://example.com/x; docker run -u 1000:1000 app",
    "global-notification-service singleton-thread-pool-executor-1 glance-api-7d9f8b6c5d-x2x4q",
    "network_test_completed benchmark_test_duration_ms",
    "pass: 12, fail: 3, first_pass=12 low-pass: 40 sig=15 storage_key: uploads/a.png host_key_algorithms: rsa",
    "mysql -u root -h db shop",
    "see /api/webhooks/ and hooks.slack.com/services/",
    "SyntaxError: unexpected token '}'",
    "100%3A1 and 5%22",
    "invalid password in line 3, column 4",
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


AROUND = {
    "user=ann password=hunter2, port=5432 url=postgres://app:hunter2@db:5432/shop?ssl=1": (
        f"user=ann password={SCRUBBED}, port=5432 url=postgres://app:{SCRUBBED}@db:5432/shop?ssl=1"
    ),
    "password=hun,ter2,user=ann;a=1": f"password={SCRUBBED},user=ann;a=1",
    "connect(password=hun)ter2)": f"connect(password={SCRUBBED})",
    "a?token=hunter2&state=2": f"a?token={SCRUBBED}&state=2",
    '{"password": ["a", {"b": "c"}], "user": "ann"}': f'{{"password": {SCRUBBED}, "user": "ann"}}',
    "password: |\n  hunter2\nuser: ann": f"password: |\n  {SCRUBBED}\nuser: ann",
    "<password><![CDATA[a]]></password>": f"<password><![CDATA[{SCRUBBED}]]></password>",
    "curl -u ann:hunter2 https://example.com": f"curl -u ann:{SCRUBBED} https://example.com",
    "mysql -pa shop": f"mysql -p{SCRUBBED} shop",
    "map[password:a user:b]": f"map[password:{SCRUBBED} user:b]",
    "PASSWORD 'it''s' VALID": f"PASSWORD '{SCRUBBED}''s' VALID",
    "%22token%22%3A%22a%22 50%25": f'"token":"{SCRUBBED}" 50%',
    "https://hooks.slack.com/services/T0000/B0000/abcdefgh 404": f"https://hooks.slack.com/{SCRUBBED} 404",
}


@pytest.mark.parametrize("text", AROUND)
def test_what_stands_around_a_secret_stays(text: str) -> None:
    assert scrub_text(text, frozenset()) == AROUND[text]


def test_a_small_count_is_no_secret(client: Client, memory: Any) -> None:
    details = {"pass": 12, "fail": 3, "sig": 15, "pin": 1234, "pairs": [["password", ["a"]], ["pin", 1234]]}
    client.log("t", "info", "", details)
    assert client.flush(PATIENCE_S)
    assert memory.events[0].details == {
        "pass": 12, "fail": 3, "sig": 15, "pin": SCRUBBED, "pairs": [["password", SCRUBBED], ["pin", SCRUBBED]]
    }  # fmt: skip


@pytest.mark.parametrize("piece", ["mariadb-", "mysql -", "http -u ", "sk-a1", 'password":["', "%22", "[{", "a:b "])
def test_the_time_for_a_text_grows_no_faster_than_the_text(piece: str) -> None:
    """Of ten times the text, at most thirty times the processor time: a quadratic search would take a hundred."""

    def seconds(n: int) -> float:
        text = piece * n
        return min(timeit.repeat(lambda: scrub_text(text, frozenset()), number=1, repeat=3, timer=time.thread_time))

    few = max(seconds(1_000), 0.002)
    assert seconds(10_000) < 30 * few


def test_a_list_of_headers_is_a_list_of_pairs(client: Client, memory: Any) -> None:
    headers = [(b"host", b"a"), (b"authorization", b"Basic YTpi"), (b"x-api-key", b"abc"), (b"cookie", b"sid=1")]
    details = {"headers": headers, "fields": ["password", "mail"], "allowed": [["page_token", "a"]]}
    client.log("t", "info", "", details)
    assert client.flush(PATIENCE_S)
    with fast_client(transport=memory, allowed_keys=frozenset({"page_token"})) as allowing:
        allowing.log("t", "info", "", details)
    strict, lenient = (event.details for event in memory.events)
    assert strict["headers"] == [
        ["host", "a"], ["authorization", SCRUBBED], ["x-api-key", SCRUBBED], ["cookie", SCRUBBED]
    ]  # fmt: skip
    assert strict["fields"] == ["password", "mail"]
    assert [each["allowed"] for each in (strict, lenient)] == [[["page_token", SCRUBBED]], [["page_token", "a"]]]


@pytest.mark.parametrize("name", ["pass", "pw", "pin", "otp", "sig", "AccountKey", "master_key", "ssh_key", "passcode"])
def test_a_short_or_compound_name_of_a_secret_is_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["passed", "bypass", "pinned", "ping", "option", "signal", "spw", "sort_key", "sid"])
def test_a_name_that_contains_a_short_one_is_no_secret(name: str) -> None:
    assert not is_secret(name)


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
