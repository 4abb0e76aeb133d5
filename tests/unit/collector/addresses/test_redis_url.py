"""Cache URLs: the schemes of Redis and Valkey, and one sentence for what is not supported."""

import pytest

from brain_collector.addresses.redis_url import connection_url
from brain_collector.errors import SettingsError


def refusal(url: str) -> str:
    with pytest.raises(SettingsError) as refused:
        connection_url(url)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("redis://:pw@h:6379/0", "redis://:pw@h:6379/0"),
        ("redis://:p@w:x@h", "redis://:p@w:x@h"),
        ("rediss://default:pw@[::1]:6380?ssl_ca_certs=/ca", "rediss://default:pw@[::1]:6380?ssl_ca_certs=/ca"),
        ("valkey://h", "redis://h"),
        ("valkeys://u:pw@h:6379/1", "rediss://u:pw@h:6379/1"),
        ("unix:///run/valkey.sock?db=3&password=x", "unix:///run/valkey.sock?db=3&password=x"),
    ],
)
def test_each_scheme_becomes_one_that_the_library_knows(url: str, known: str) -> None:
    assert connection_url(url) == known


@pytest.mark.parametrize(
    "scheme", ["redis+sentinel", "redis-sentinel", "rediss+sentinel", "sentinel", "valkey+sentinel"]
)
def test_sentinel_is_refused_in_one_sentence(scheme: str) -> None:
    assert refusal(f"{scheme}://h:26379/mymaster") == (
        "--redis-url: Sentinel is not supported; name the primary, or an address that leads to it, with redis://"
    )


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://h", "must begin with redis://, rediss://, valkey://, valkeys://, unix://"),
        ("redis+socket:///x", "must begin with"),
        ("redis://a:1,b:2", "several hosts"),
        ("redis://:pw", "names no host"),
        ("redis://h/cache", "not the number of a database"),
        ("redis://h?db=x", "db, which must be a whole number"),
        ("redis://h?family=0", "the parameter family, which is not supported"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "must be required or optional or none"),
        ("redis://h?x", "malformed parameter"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(url: str, remedy: str) -> None:
    assert remedy in refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:Zq/7x@h",
        "redis://:Zq?7x@h",
        "redis://:Zq#7x@h",
        "redis://:Zq7x",
        "redis://h?Zq7x",
        "redis://h?Zq7x=1",
        "Zq7x",
    ],
)
def test_an_error_quotes_nothing_that_could_be_of_a_password(url: str) -> None:
    assert not [piece for piece in ("Zq", "7x") if piece in refusal(url)]
