"""One event to a collector, from a script: sent again under the same key until it is committed or refused."""

import random
import re
import time
from http.client import CREATED
from itertools import count
from typing import Any, Final

import msgspec
import urllib3

from brain_collector.errors import CollectorError, ProblemBody
from brain_events.wire import KEY_HEADER, Event, new_key

_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ATTEMPT_TIMEOUT_S: Final = 15.0


class SendError(CollectorError):
    """The collector refused the event, or did not answer in time."""


def send(
    *,
    url: str,
    api_key: str | None,
    timeout_s: float,
    event_type: str,
    severity: str,
    message: str,
    details: dict[str, Any] | None = None,
    source: str | None = None,
) -> str:
    """Return the stored event as JSON.

    Raises:
        SendError: it was refused, or not stored within `timeout_s`.
    """
    check_address(url, api_key)
    body = msgspec.json.encode(Event(event_type, severity, message, details, source))
    headers = {"Content-Type": "application/json", KEY_HEADER: str(new_key())}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    give_up_at_s = time.monotonic() + timeout_s
    with urllib3.PoolManager(retries=False, timeout=min(timeout_s, _ATTEMPT_TIMEOUT_S)) as pool:
        for attempt in count():
            try:
                return _post(pool, f"{url.rstrip('/')}/api/events", body, headers)
            except _TryAgain as again:
                wait_s = max(again.after_s, random.uniform(0, min(5.0, 0.2 * 2**attempt)))  # noqa: S311 - jitter
                if time.monotonic() + wait_s > give_up_at_s:
                    raise SendError(f"{url}: {again}; gave up after {timeout_s:g} s") from None
            time.sleep(wait_s)
    raise AssertionError


def check_address(url: str, api_key: str | None) -> None:
    """Refuse what cannot be a collector's address or key.

    Raises:
        SendError: as said.
    """
    if not re.match(r"https?://[^/]", url):
        raise SendError(f"url is {url!r}; give the collector's address, such as http://127.0.0.1:8001")
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        raise SendError("the API key holds a space, a line break or another character that no key has")


class _TryAgain(Exception):  # noqa: N818 - an outcome
    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


def _post(pool: urllib3.PoolManager, url: str, body: bytes, headers: dict[str, str]) -> str:
    try:
        answer = pool.request("POST", url, body=body, headers=headers, redirect=False)
    except urllib3.exceptions.LocationParseError as error:
        raise SendError(f"{url} is no URL: {error}") from None
    except urllib3.exceptions.HTTPError as error:
        raise _TryAgain(f"no answer ({error})") from None
    text = answer.data.decode(errors="replace")
    if answer.status in _TEMPORARY:
        after = answer.headers.get("Retry-After", "")
        raise _TryAgain(f"answered {answer.status}: {detail_of(text)}", float(after) if after.isdecimal() else 0.0)
    if answer.status != CREATED:
        raise SendError(f"{url} answered {answer.status}: {detail_of(text)}")
    return text


def detail_of(text: str) -> str:
    """Return what a problem's body says, or the beginning of what is none."""
    try:
        return msgspec.json.decode(text, type=ProblemBody).detail
    except msgspec.MsgspecError:
        return text[:200]
