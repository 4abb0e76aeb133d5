"""The HTTP client of the commands: one request, a request that is retried, a streamed response; errors say why."""

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

from brain_collector import printable
from brain_collector.errors import CollectorError, FieldError, ProblemBody

Query = Iterable[tuple[str, str]]

_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_API_KEY_REFUSED: Final = frozenset({401, 403})
_ATTEMPT_TIMEOUT_S: Final = 15.0
MAX_CONNECTIONS: Final = 64
"""Maximum number of connections that a client keeps open for further requests."""
MAX_RETRY_AFTER_S: Final = 60.0
"""Maximum pause that a server may ask a command to make."""


class ClientError(CollectorError):
    """A request failed, or its outcome is unknown."""


class ApiKeyRefused(ClientError):  # noqa: N818 - an outcome
    """The collector requires another API key."""

    exit_code: ClassVar[int] = 4


class Unreachable(ClientError):  # noqa: N818 - an outcome
    """No connection could be made: the collector has done nothing."""

    exit_code: ClassVar[int] = 5


class NoResponse(Unreachable):
    """The request was sent, but no response came: the collector may have executed it."""


class Refused(ClientError):  # noqa: N818 - an outcome
    """The collector refused the request; `errors` names the invalid fields."""

    def __init__(self, text: str, status: int, errors: list[FieldError], after_s: float) -> None:
        super().__init__(text)
        self.status = status
        self.errors = errors
        self.after_s = after_s

    @property
    def temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _TEMPORARY


class Client:
    """A client of one collector, with one API key; a context manager.

    Raises:
        ClientError: `url` or `api_key` is malformed.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        check_address(url, api_key)
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._pool = urllib3.PoolManager(retries=False, maxsize=MAX_CONNECTIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the response, whose status is 2xx.

        Raises:
            ClientError: there is no response, or its status is another one.
        """
        with self._translated_errors():
            response = self._pool.request(
                method,
                self._address(path, query),
                body=body,
                headers=self._headers | {"Accept-Encoding": "gzip"} | dict(headers or {}),
                timeout=urllib3.Timeout(total=self.timeout_s if timeout_s is None else timeout_s),
                redirect=False,
            )
        self._check(path, response)
        return response

    def get(self, path: str, query: Query = ()) -> bytes:
        """Return the body of a GET.

        Raises:
            ClientError: as `request`.
        """
        return self.request("GET", path, query).data

    def post_with_retries(self, path: str, body: bytes, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """Post until there is a response, for at most `timeout_s`; an Idempotency-Key makes that safe.

        Raises:
            ClientError: the request was refused, or there was no response in time.
        """
        give_up_at_s = time.monotonic() + self.timeout_s
        failure: ClientError
        for backoff_s in backoff():
            try:
                return self.request(
                    "POST", path, body=body, headers=headers, timeout_s=min(self.timeout_s, _ATTEMPT_TIMEOUT_S)
                )
            except Unreachable as error:
                failure, pause_s = error, backoff_s
            except Refused as error:
                if not error.temporary:
                    raise
                failure, pause_s = error, max(backoff_s, error.after_s)
            if time.monotonic() + pause_s > give_up_at_s:
                failure.args = (f"{failure}; gave up after {self.timeout_s:g} s",)
                raise failure
            time.sleep(pause_s)
        raise AssertionError

    @contextmanager
    def stream(
        self, path: str, query: Query = (), *, headers: Mapping[str, str] | None = None, silence_s: float
    ) -> Iterator[Iterator[bytes]]:
        """Yield the chunks of a response as they arrive; it fails after a silence of `silence_s`.

        Raises:
            ClientError: as `request`; also within the block, if the response breaks off.
        """
        with self._translated_errors():
            response = self._pool.request(
                "GET",
                self._address(path, query),
                headers=self._headers | dict(headers or {}),
                timeout=urllib3.Timeout(connect=self.timeout_s, read=silence_s),
                redirect=False,
                preload_content=False,
            )
        try:
            with self._translated_errors():
                self._check(path, response)
            yield self._chunks(response)
        finally:
            response.close()

    def _chunks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        with self._translated_errors():
            yield from response.stream(2**16, decode_content=True)

    def _address(self, path: str, query: Query) -> str:
        encoded = urlencode(list(query))
        return f"{self.url}{path}?{encoded}" if encoded else self.url + path

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except urllib3.exceptions.LocationParseError as error:
            raise ClientError(f"{self.url} is not a URL: {error}") from None
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError) as error:
            raise Unreachable(
                f"{self.url}: no connection ({_reason(error)}); check that the collector runs there, or name its "
                "address with --url"
            ) from None
        except urllib3.exceptions.HTTPError as error:
            raise NoResponse(f"{self.url}: no response ({_reason(error)})") from None

    def _check(self, path: str, response: urllib3.BaseHTTPResponse) -> None:
        if 200 <= response.status < 300:
            return
        text = response.data.decode(errors="replace")
        problem = _problem(text)
        detail = problem.detail if problem else text[:200]
        message = printable.one_line(f"{self.url}{path} returned {response.status}: {detail}")
        if response.status in _API_KEY_REFUSED:
            raise ApiKeyRefused(f"{message}; set the API key with BRAIN_EVENTS_API_KEY or --api-key-file")
        raise Refused(
            message, response.status, problem.errors if problem else [], _seconds(response.headers.get("Retry-After"))
        )


def backoff(base_s: float = 0.2, cap_s: float = 5.0) -> Iterator[float]:
    """Yield the pause after each failure in a row: exponential, with full jitter."""
    for attempt in count():
        yield random.uniform(0, min(cap_s, base_s * 2 ** min(attempt, 20)))  # noqa: S311 - jitter


_ADDRESS: Final = re.compile(r"https?://(?:[^/:?#\[\]]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/.*)?")


def check_address(url: str, api_key: str | None) -> None:
    """Refuse a malformed address or API key.

    Raises:
        ClientError: one of the two is malformed.
    """
    if "@" in url:  # not quoted: it may be a secret
        raise ClientError("the url contains a user name or password; give an API key instead, with --api-key-file")
    if not _ADDRESS.fullmatch(url):
        shown = re.sub(r"(//[^/]*?):[^/]*", r"\1:***", url)  # in place of a port may be a password
        raise ClientError(f"url is {shown!r}; give the collector's address, for example http://127.0.0.1:8001")
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        raise ClientError("the API key contains a space, a line break or another invalid character; copy the key again")


def _seconds(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header, within bounds; 0 if there are none."""
    return min(float(retry_after), MAX_RETRY_AFTER_S) if retry_after and retry_after.isdecimal() else 0.0


def _problem(text: str) -> ProblemBody | None:
    try:
        return msgspec.json.decode(text, type=ProblemBody)
    except msgspec.MsgspecError:
        return None


def _reason(error: Exception) -> str:
    """Return the message of an error without the library's names of its objects."""
    return printable.one_line(re.sub(r"^\w+\([^)]*\): ", "", str(error)))
