"""Returns why a cache server failed, in words that name the cause: the client library names its own classes."""

import ssl
from collections.abc import Iterator

from redis.exceptions import AuthenticationError, AuthenticationWrongNumberOfArgsError
from redis.exceptions import TimeoutError as RedisTimeoutError

from brain_collector import printable
from brain_collector.addresses.masking import without_secrets


def reason_of(error: BaseException, url: str) -> str:
    """Return the reason, without the secrets of the server's URL, as one line that is safe to print."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not trusted: {cause.verify_message}; ssl_ca_certs names its authority"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed: {cause.reason or cause}; rediss:// is for servers with TLS, redis:// for those without"
        if isinstance(cause, AuthenticationError | AuthenticationWrongNumberOfArgsError):
            return f"it refuses the user or the password: {_text(cause, url)}"
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "it does not respond in time"
    return _text(error, url) or type(error).__name__


def _text(error: BaseException, url: str) -> str:
    return printable.one_line(without_secrets(str(error), url))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
