"""Settings: what is accepted, what is refused and how it says so."""

from typing import Any

import pytest

from brain_events import BrainEventsError, Config, ConfigError
from brain_events.config import load


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "https://events.example.com/prefix", "http://[::1]:8001"])
def test_an_http_address_is_accepted(url: str) -> None:
    assert Config(url=url).url == url


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("url", "127.0.0.1:8001", "use the collector's address"),
        ("url", "ftp://example.com", "use the collector's address"),
        ("url", "http://", "use the collector's address"),
        ("url", "http://host:port", "use the collector's address"),
        ("url", "http://user:password@host", "pass the API key as api_key"),
        ("url", "http://user:a/password@host", "pass the API key as api_key"),
        ("url", "user:a@password@host", "pass the API key as api_key"),
        ("url", "http://user:password", "use the collector's address"),
        ("url", "http://user:password?@host", "pass the API key as api_key"),
        ("api_key", "key\n", "line break"),
        ("api_key", b"key", "use str"),
        ("max_event_bytes", 100, "use 1024 or more"),
        ("max_buffer_bytes", 2000, "use max_event_bytes or more"),
        ("interval_s", 0, "use seconds above 0"),
        ("request_timeout_s", -1, "use seconds above 0"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_a_remedy(setting: str, value: Any, says: str) -> None:
    settings: dict[str, Any] = {"url": "http://127.0.0.1:8001"} | {setting: value}
    with pytest.raises(ConfigError, match=says) as raised:
        Config(**settings)
    assert isinstance(raised.value, BrainEventsError)
    assert isinstance(raised.value, ValueError)
    assert "key\n" not in str(raised.value)
    assert "password" not in str(raised.value).replace("user name or password", "")


def test_a_repr_shows_no_key() -> None:
    assert "s3cret" not in repr(Config(url="http://127.0.0.1:8001", api_key="s3cret"))


def test_an_argument_wins_over_the_environment_and_without_a_url_there_is_no_config() -> None:
    environ = {"BRAIN_EVENTS_URL": "http://env", "BRAIN_EVENTS_API_KEY": "env-key", "BRAIN_EVENTS_SOURCE": "env"}
    config = load(environ, url="http://given", api_key=None, source="given")
    assert config == Config(url="http://given", api_key="env-key", source="given")
    assert load({}, url=None, api_key=None, source=None) is None
