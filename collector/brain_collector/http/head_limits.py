"""Limits of the head of a request (its request line and headers), counted and checked as the parser reports it."""

from typing import Final

from brain_collector.errors import HeadTooLarge, RequestMalformed
from brain_collector.http.authority import check_authority
from brain_collector.settings import Settings

MAX_LENGTH_DIGITS: Final = 19
"""Maximum number of digits of a Content-Length; more can only be leading zeros, or a length that nobody sends."""


class HeadLimits:
    """The size of the head that a connection is receiving; trailers are counted too."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_head_bytes
        self._max_headers = settings.max_headers
        self.begin()

    def begin(self) -> None:
        """Reset the counts at the beginning of a request."""
        self._n_bytes = 0
        self._n_headers = 0
        self._unfinished_bytes = 0

    def add_url(self, n_bytes: int) -> None:
        """Count a part of the URL.

        Raises:
            HeadTooLarge: a limit is exceeded; `add_header` and `add_unfinished` raise it too.
        """
        self._add(n_bytes)

    def add_header(self, name: bytes, value: bytes) -> None:
        """Count a header with its separators."""
        self._n_headers += 1
        self._add(len(name) + len(value) + 4)

    def add_unfinished(self, n_bytes: int) -> None:
        """Count received bytes for which the parser has made no callback yet: it has buffered or dropped them."""
        self._unfinished_bytes += n_bytes
        self._check_size()

    def finish(self) -> None:
        """Note that the parser has reported the received bytes."""
        self._unfinished_bytes = 0

    def check(self, version: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        """Refuse a head that a proxy may have interpreted differently (RFC 9112, sections 3.2 and 6.1).

        The parser has already refused a malformed or repeated Content-Length, and one with a Transfer-Encoding.

        Raises:
            RequestMalformed: the version, target, Host, Authorization, length or coding is not acceptable.
        """
        if version not in {"1.0", "1.1"}:
            raise RequestMalformed(f"the version is HTTP/{version}; send HTTP/1.1")
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) > 1 or (version == "1.1" and not hosts):
            raise RequestMalformed(f"the request has {len(hosts)} Host headers; send exactly one")
        check_authority(target, hosts[0].decode("latin-1") if hosts else "")
        credentials = sum(name == b"authorization" for name, _ in headers)
        if credentials > 1:
            raise RequestMalformed(f"the request has {credentials} Authorization headers; send at most one")
        length = next((value for name, value in headers if name == b"content-length"), b"")
        if len(length) > MAX_LENGTH_DIGITS:
            raise RequestMalformed(
                f"Content-Length has {len(length):,} digits; send at most {MAX_LENGTH_DIGITS}, without leading zeros"
            )
        codings = b", ".join(value for name, value in headers if name == b"transfer-encoding")
        if codings and (version == "1.0" or codings.strip().lower() != b"chunked"):
            raise RequestMalformed(
                f"Transfer-Encoding is {codings[:40].decode('latin-1')!r} in HTTP/{version}; "
                "send chunked in HTTP/1.1, or a Content-Length"
            )

    def _add(self, n_bytes: int) -> None:
        self._n_bytes += n_bytes
        self._check_size()

    def _check_size(self) -> None:
        if self._n_headers > self._max_headers:
            raise HeadTooLarge(f"the request has more than {self._max_headers:,} headers; send fewer")
        if max(self._n_bytes, self._unfinished_bytes) > self._max_bytes:
            raise HeadTooLarge(f"the request line and headers are larger than {self._max_bytes:,} bytes; send less")
