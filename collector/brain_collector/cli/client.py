"""A collector as the commands see it, over HTTP: ask once, or go on asking until there is an answer; errors say why."""

import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import ClassVar, Final, Self
from urllib.parse import urlencode

import msgspec
import urllib3

from brain_collector.errors import CollectorError, FieldError, ProblemBody

Query = Iterable[tuple[str, str]]

_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_KEY_REFUSED: Final = frozenset({401, 403})
_ATTEMPT_TIMEOUT_S: Final = 15.0
MOST_CONNECTIONS: Final = 64
"""How many connections of one client are kept for the next request."""


class ClientError(CollectorError):
    """The collector did not do it, or did not say so."""


class KeyRefused(ClientError):  # noqa: N818 - an outcome
    """It wants another key than it got."""

    exit_code: ClassVar[int] = 4


class Unreachable(ClientError):  # noqa: N818 - an outcome
    """There was no connection: it has done nothing."""

    exit_code: ClassVar[int] = 5


class NoAnswer(Unreachable):
    """It was asked, and may have done it."""


class Refused(ClientError):  # noqa: N818 - an outcome
    """It answered that it does not; `errors` names the fields at fault."""

    def __init__(self, text: str, status: int, errors: list[FieldError], after_s: float) -> None:
        super().__init__(text)
        self.status = status
        self.errors = errors
        self.after_s = after_s

    @property
    def temporary(self) -> bool:
        """Whether the same may be done a little later."""
        return self.status in _TEMPORARY


class Client:
    """Asks one collector, with one key; a context manager.

    Raises:
        ClientError: `url` or `api_key` cannot be one.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        check_address(url, api_key)
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._pool = urllib3.PoolManager(retries=False, maxsize=MOST_CONNECTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def ask(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Ask once and return the answer, a 2xx.

        Raises:
            ClientError: there is none, or it is another.
        """
        with self._asking():
            answer = self._pool.request(
                method,
                self._address(path, query),
                body=body,
                headers=self._headers | {"Accept-Encoding": "gzip"} | dict(headers or {}),
                timeout=urllib3.Timeout(total=self.timeout_s if timeout_s is None else timeout_s),
                redirect=False,
            )
        self._check(path, answer)
        return answer

    def get(self, path: str, query: Query = ()) -> bytes:
        """Return what is there.

        Raises:
            ClientError: as `ask`.
        """
        return self.ask("GET", path, query).data

    def insist(self, path: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Post until there is an answer, `timeout_s` at most; an Idempotency-Key makes that safe.

        Raises:
            ClientError: it was refused, or there was no answer in time.
        """
        give_up_at_s = time.monotonic() + self.timeout_s
        failed: ClientError
        for wait_s in pauses():
            try:
                return self.ask(
                    "POST", path, body=body, headers=headers, timeout_s=min(self.timeout_s, _ATTEMPT_TIMEOUT_S)
                )
            except Unreachable as error:
                failed, pause_s = error, wait_s
            except Refused as error:
                if not error.temporary:
                    raise
                failed, pause_s = error, max(wait_s, error.after_s)
            if time.monotonic() + pause_s > give_up_at_s:
                failed.args = (f"{failed}; gave up after {self.timeout_s:g} s",)
                raise failed
            time.sleep(pause_s)
        raise AssertionError

    @contextmanager
    def streamed(
        self, path: str, query: Query = (), *, headers: Mapping[str, str] | None = None, silence_s: float
    ) -> Iterator[Iterator[bytes]]:
        """Yield the pieces of an answer as they arrive; it may be silent for so long.

        Raises:
            ClientError: as `ask`; within the block too, when the answer breaks off.
        """
        with self._asking():
            answer = self._pool.request(
                "GET",
                self._address(path, query),
                headers=self._headers | dict(headers or {}),
                timeout=urllib3.Timeout(connect=self.timeout_s, read=silence_s),
                redirect=False,
                preload_content=False,
            )
        try:
            with self._asking():
                self._check(path, answer)
            yield self._pieces(answer)
        finally:
            answer.close()

    def _pieces(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        with self._asking():
            yield from answer.stream(2**16, decode_content=True)

    def _address(self, path: str, query: Query) -> str:
        asked = urlencode(list(query))
        return f"{self.url}{path}?{asked}" if asked else self.url + path

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except urllib3.exceptions.LocationParseError as error:
            raise ClientError(f"{self.url} is no URL: {error}") from None
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise Unreachable(
                f"{self.url}: no connection ({_plain(error)}); does the collector run there? Give its --url"
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise NoAnswer(f"{self.url}: no answer ({_plain(error)})") from None

    def _check(self, path: str, answer: urllib3.BaseHTTPResponse) -> None:
        if 200 <= answer.status < 300:
            return
        text = answer.data.decode(errors="replace")
        problem = _problem(text)
        said = f"{self.url}{path} answered {answer.status}: {problem.detail if problem else text[:200]}"
        if answer.status in _KEY_REFUSED:
            raise KeyRefused(f"{said}; give a key by BRAIN_EVENTS_API_KEY or --api-key-file")
        after = answer.headers.get("Retry-After", "")
        raise Refused(
            said, answer.status, problem.errors if problem else [], float(after) if after.isdecimal() else 0.0
        )


def pauses(base_s: float = 0.2, cap_s: float = 5.0) -> Iterator[float]:
    """Yield how long to wait after each failure: a back-off with full jitter."""
    for attempt in count():
        yield random.uniform(0, min(cap_s, base_s * 2 ** min(attempt, 20)))  # noqa: S311 - jitter


def check_address(url: str, api_key: str | None) -> None:
    """Refuse what cannot be a collector's address or key.

    Raises:
        ClientError: as said.
    """
    if not re.match(r"https?://[^/]", url):
        raise ClientError(f"url is {url!r}; give the collector's address, such as http://127.0.0.1:8001")
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        raise ClientError("the API key holds a space, a line break or another character that no key has")


def _problem(text: str) -> ProblemBody | None:
    try:
        return msgspec.json.decode(text, type=ProblemBody)
    except msgspec.MsgspecError:
        return None


def _plain(error: Exception) -> str:
    """Return the reason without the library's names of its own objects."""
    return re.sub(r"^\w+\([^)]*\): ", "", str(error))
