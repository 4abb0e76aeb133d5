"""The head of a request: its request line and headers, as the parser finds them, counted and checked."""

from brain_collector.errors import HeadTooLarge, RequestMalformed
from brain_collector.settings import Settings


class HeadLimits:
    """What one connection's parser has found of the head at hand; trailers count with it."""

    def __init__(self, settings: Settings) -> None:
        self._max_bytes = settings.max_head_bytes
        self._max_headers = settings.max_headers
        self.begin()

    def begin(self) -> None:
        """Start anew: a request begins."""
        self._n_bytes = 0
        self._n_headers = 0
        self._unfinished_bytes = 0

    def add_url(self, n_bytes: int) -> None:
        """Count a part of the URL.

        Raises:
            HeadTooLarge: there is more than may be; so do the others.
        """
        self._add(n_bytes)

    def add_header(self, name: bytes, value: bytes) -> None:
        """Count a header, with what stands around it."""
        self._n_headers += 1
        self._add(len(name) + len(value) + 4)

    def add_unfinished(self, n_bytes: int) -> None:
        """Count bytes of which the parser has told nothing yet, and so holds them, or has dropped them."""
        self._unfinished_bytes += n_bytes
        self._check_size()

    def heard(self) -> None:
        """Know that the parser has told what it was given."""
        self._unfinished_bytes = 0

    def check(self, version: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Refuse what a proxy in front may have understood in another way (RFC 9112, sections 3.2 and 6.1).

        The parser has refused much already: a Content-Length that is odd, twice there, or beside a Transfer-Encoding.

        Raises:
            RequestMalformed: as said.
        """
        if version not in {"1.0", "1.1"}:
            raise RequestMalformed(f"the version is HTTP/{version}; send HTTP/1.1")
        hosts = sum(name == b"host" for name, _ in headers)
        if hosts > 1 or (version == "1.1" and not hosts):
            raise RequestMalformed(f"there are {hosts} Host headers; send one")
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
            raise HeadTooLarge(f"the request has over {self._max_headers:,} headers; send fewer")
        if max(self._n_bytes, self._unfinished_bytes) > self._max_bytes:
            raise HeadTooLarge(f"the request line and headers are over {self._max_bytes:,} bytes; send less")
