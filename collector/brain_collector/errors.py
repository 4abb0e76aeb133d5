"""Every error the collector raises, and how each looks over HTTP (RFC 9457, `application/problem+json`).

CollectorError
├── SettingsError               the command ends with this one line, as with MigrationError, ClientError, DemoError
│                               and the EmbeddedErrors, which stand beside what raises them
└── Problem                     an answer; `code` is stable, `detail` says what happened, the value, and what to do
    ├── RequestMalformed   400  request_malformed
    ├── BodyUndecodable    400  body_undecodable
    ├── IdempotencyKeyMalformed       400  idempotency_key_malformed
    ├── HostRefused        400  host_refused
    ├── Unauthorized       401  unauthorized
    ├── Forbidden          403  forbidden
    ├── OriginRefused      403  origin_refused
    ├── EventNotFound      404  event_not_found
    ├── ApiKeyNotFound     404  api_key_not_found
    ├── TooManyApiKeys     409  too_many_api_keys
    ├── HeadTooSlow        408  head_too_slow
    ├── BodyTooSlow        408  body_too_slow
    ├── PreconditionFailed 412  precondition_failed
    ├── BodyTooLarge       413  body_too_large
    ├── UnsupportedMedia   415  unsupported_media_type
    ├── EventInvalid       422  event_invalid
    ├── BatchInvalid       422  batch_invalid
    ├── ApiKeyInvalid      422  api_key_invalid
    ├── IdempotencyKeyReused          422  idempotency_key_reused
    ├── BatchTooOld        422  batch_too_old
    ├── ParameterInvalid   422  parameter_invalid
    ├── CursorMismatch     422  cursor_mismatch
    ├── QueryTooBroad      422  query_too_broad
    ├── UpgradeRequired    426  upgrade_required
    ├── RateLimited        429  rate_limited, with Retry-After
    ├── HeadTooLarge       431  head_too_large
    └── Unavailable        503  unavailable, with Retry-After
"""

from typing import ClassVar

import msgspec


class CollectorError(Exception):
    """The root of the tree."""

    exit_code: ClassVar[int] = 1
    """What the command line ends with."""


class SettingsError(CollectorError):
    """A setting is missing, malformed or out of range."""


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one field: a JSON pointer (RFC 6901) into the body, a stable code, a sentence."""

    pointer: str
    code: str
    detail: str


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The body of every error answer (RFC 9457): `code` is stable, `errors` names the fields at fault.

    `request_id` is the answer's X-Request-ID; the collector's log has it too.
    """

    title: str
    status: int
    code: str
    detail: str
    type: str = "about:blank"
    errors: list[FieldError] = []
    request_id: str = ""


class Problem(CollectorError):  # noqa: N818 - RFC 9457's word
    """An error with an HTTP answer of its own."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    answer_after_s: float = 0.0
    """How long the answer is held back: who does not heed `Retry-After` shall not be faster than who does."""

    def __init__(
        self, detail: str, *, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}

    @property
    def body(self) -> ProblemBody:
        """The answer's body."""
        return ProblemBody(title=self.title, status=self.status, code=self.code, detail=self.detail, errors=self.errors)


class RequestMalformed(Problem):
    """What came is no HTTP/1.1, or could be understood in two ways.

    Mend the client or the proxy that sent it; `detail` names what is wrong.
    """

    status, code, title = 400, "request_malformed", "The request is malformed"


class BodyUndecodable(Problem):
    """The body as a whole is no JSON, no NDJSON or no gzip.

    Send valid JSON, a JSON array or NDJSON, compressed as `Content-Encoding` says.
    """

    status, code, title = 400, "body_undecodable", "The body cannot be decoded"


class IdempotencyKeyMalformed(Problem):
    """The Idempotency-Key is no UUID.

    Send a UUID (version 7 is best), or no key.
    """

    status, code, title = 400, "idempotency_key_malformed", "The Idempotency-Key is no UUID"


class HostRefused(Problem):
    """The Host header names a host this collector does not answer to (guards against DNS rebinding).

    Use a name it answers to, or add yours to `BRAIN_COLLECTOR_ALLOWED_HOSTS`.
    """

    status, code, title = 400, "host_refused", "This collector does not answer to that host name"


class Unauthorized(Problem):
    """No key, or a wrong one.

    Send `Authorization: Bearer <key>`. Keep the events: they are welcome once the key is right.
    """

    status, code, title = 401, "unauthorized", "A valid key is needed"


class Forbidden(Problem):
    """The key is good, but lacks the scope.

    Use a key with the scope that `detail` names. Keep the events.
    """

    status, code, title = 403, "forbidden", "The key does not have the scope"


class OriginRefused(Problem):
    """The request has a browser's session, or opens a WebSocket, but is not from the collector's own page.

    Send `Authorization: Bearer <key>`; a proxy has to pass the Host header as the browser sent it.
    """

    status, code, title = 403, "origin_refused", "The request is not from the collector's own page"


class EventNotFound(Problem):
    """There is no event of this id.

    It was deleted, or never stored.
    """

    status, code, title = 404, "event_not_found", "No such event"


class ApiKeyNotFound(Problem):
    """There is no API key of this id.

    It was revoked, or never made; `GET /api/keys` lists those there are.
    """

    status, code, title = 404, "api_key_not_found", "No such API key"


class TooManyApiKeys(Problem):
    """There are as many live API keys as there may be.

    Revoke keys that nobody uses.
    """

    status, code, title = 409, "too_many_api_keys", "There are too many API keys"


class HeadTooSlow(Problem):
    """The request line and headers did not arrive in time.

    Send it again on a new connection.
    """

    status, code, title = 408, "head_too_slow", "The request did not arrive in time"


class BodyTooSlow(Problem):
    """The body did not arrive in time; what is left of it is not waited for.

    Send it again, in smaller batches if the line is slow.
    """

    status, code, title = 408, "body_too_slow", "The body did not arrive in time"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class BodyTooLarge(Problem):
    """The body is over a limit, as it travels or inflated.

    Halve the batch, or shorten the event; `detail` names the limit.
    """

    status, code, title = 413, "body_too_large", "The body is too large"


class PreconditionFailed(Problem):
    """The event is not, or no longer, the one that the request's If-Match or If-None-Match speaks of.

    Get the event, and decide again with its present `ETag`.
    """

    status, code, title = 412, "precondition_failed", "The event is another than expected"


class UnsupportedMedia(Problem):
    """The Content-Type or Content-Encoding is not one this endpoint takes.

    Use `application/json` or `application/x-ndjson`, and `gzip` or no encoding.
    """

    status, code, title = 415, "unsupported_media_type", "The media type is not supported"


class EventInvalid(Problem):
    """The event is malformed; `errors` says where.

    Correct the fields that `errors` points at.
    """

    status, code, title = 422, "event_invalid", "The event is not valid"


class BatchInvalid(Problem):
    """Nothing in the batch was valid; `errors` says where.

    Correct the events that `errors` points at.
    """

    status, code, title = 422, "batch_invalid", "No event of the batch is valid"


class ApiKeyInvalid(Problem):
    """What is asked for cannot be an API key; `errors` says where.

    Correct the fields that `errors` points at.
    """

    status, code, title = 422, "api_key_invalid", "The API key is not valid"


class IdempotencyKeyReused(Problem):
    """The Idempotency-Key was used before, with another body.

    Use a new key for another body; the same key is for the same bytes alone.
    """

    status, code, title = 422, "idempotency_key_reused", "The Idempotency-Key was used with another body"


class BatchTooOld(Problem):
    """The Idempotency-Key is so old that it may have been stored and forgotten since.

    Look whether its events are stored; send those that are not under a new key.
    """

    status, code, title = 422, "batch_too_old", "The Idempotency-Key is too old"


class ParameterInvalid(Problem):
    """A path or query parameter is malformed or out of range.

    Correct the parameter that `detail` names.
    """

    status, code, title = 422, "parameter_invalid", "A parameter is not valid"


class CursorMismatch(Problem):
    """The cursor was made for another filter than the request's.

    Begin at the first page of the new filter.
    """

    status, code, title = 422, "cursor_mismatch", "The cursor does not fit the filter"


class QueryTooBroad(Problem):
    """The query ran into the statement time-out.

    Narrow it with `from` and `to`, or with `event_type`.
    """

    status, code, title = 422, "query_too_broad", "The query is too broad"


class UpgradeRequired(Problem):
    """The path is a WebSocket, and the request asks for none, or not as RFC 6455 has it.

    Use a WebSocket client, or `/api/events/stream`.
    """

    status, code, title = 426, "upgrade_required", "A WebSocket is to be had here"


class RateLimited(Problem):
    """The caller has sent more than its share; nothing of the request was taken.

    Send it again after `Retry-After`, with the same `Idempotency-Key`.
    """

    status, code, title = 429, "rate_limited", "Too much in too short a time"


class HeadTooLarge(Problem):
    """The request line and headers are over a limit.

    Send fewer or shorter headers; `detail` names the limit.
    """

    status, code, title = 431, "head_too_large", "The request's headers are too large"


class Unavailable(Problem):
    """The database is away, full or overloaded; nothing was promised, the client tries again.

    Send it again after `Retry-After`, with the same `Idempotency-Key`.
    """

    status, code, title = 503, "unavailable", "The collector cannot do this now"

    def __init__(self, detail: str, *, retry_after_s: int, answer_after_s: float = 0.0) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})
        self.answer_after_s = answer_after_s

    @classmethod
    def send_again(cls, reason: str, retry_after_s: int, *, answer_after_s: float = 0.0) -> "Unavailable":
        """Return the refusal of a request that stores events: nothing of it is stored, a retry is safe."""
        detail = f"{reason}; send the request again in {retry_after_s} s, with the same Idempotency-Key"
        return cls(detail, retry_after_s=retry_after_s, answer_after_s=answer_after_s)
