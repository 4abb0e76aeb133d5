"""Every error that the collector raises, and its representation over HTTP (RFC 9457, `application/problem+json`).

CollectorError
├── SettingsError    the command line prints it as one line and exits; so do MigrationError, ClientError,
│                    DemoError and EmbeddedError, which are defined beside the code that raises them
└── Problem          an error response: `code` is stable; `detail` names the value and the remedy
    ├── RequestMalformed         400  request_malformed
    ├── BodyUndecodable          400  body_undecodable
    ├── IdempotencyKeyMalformed  400  idempotency_key_malformed
    ├── HostRefused              400  host_refused
    ├── Unauthorized             401  unauthorized
    ├── Forbidden                403  forbidden
    ├── OriginRefused            403  origin_refused
    ├── EventNotFound            404  event_not_found
    ├── ApiKeyNotFound           404  api_key_not_found
    ├── HeadTooSlow              408  head_too_slow
    ├── BodyTooSlow              408  body_too_slow
    ├── TooManyApiKeys           409  too_many_api_keys
    ├── EventDeleted             410  event_deleted
    ├── PreconditionFailed       412  precondition_failed
    ├── BodyTooLarge             413  body_too_large
    ├── UnsupportedMedia         415  unsupported_media_type
    ├── EventInvalid             422  event_invalid
    ├── BatchInvalid             422  batch_invalid
    ├── ApiKeyInvalid            422  api_key_invalid
    ├── IdempotencyKeyReused     422  idempotency_key_reused
    ├── BatchTooOld              422  batch_too_old
    ├── ParameterInvalid         422  parameter_invalid
    ├── CursorMismatch           422  cursor_mismatch
    ├── QueryTooBroad            422  query_too_broad
    ├── UpgradeRequired          426  upgrade_required
    ├── RateLimited              429  rate_limited, with Retry-After
    ├── HeadTooLarge             431  head_too_large
    └── Unavailable              503  unavailable, with Retry-After
"""

from typing import ClassVar

import msgspec


class CollectorError(Exception):
    """The base class of all errors of the collector."""

    exit_code: ClassVar[int] = 1
    """The exit code of the command line."""


class SettingsError(CollectorError):
    """A setting is missing, malformed or out of range."""


class FieldError(msgspec.Struct, frozen=True):
    """An error in one field: a JSON pointer (RFC 6901) into the request body, a stable code and a sentence."""

    pointer: str
    code: str
    detail: str


class ProblemBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The body of every error response (RFC 9457). `code` is stable; `errors` lists the fields at fault.

    `request_id` is the X-Request-ID of the response, which the collector's log contains too.
    """

    title: str
    status: int
    code: str
    detail: str
    type: str = "about:blank"
    errors: list[FieldError] = []
    request_id: str = ""


class Problem(CollectorError):  # noqa: N818 - RFC 9457's word
    """An error with its own HTTP response."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    answer_after_s: float = 0.0
    """Seconds by which the response is delayed, so that a client gains nothing by ignoring `Retry-After`."""

    def __init__(
        self, detail: str, *, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []
        self.headers = headers or {}

    @property
    def body(self) -> ProblemBody:
        """The body of the response."""
        return ProblemBody(title=self.title, status=self.status, code=self.code, detail=self.detail, errors=self.errors)


class RequestMalformed(Problem):
    """The request is not valid HTTP/1.1, or is ambiguous.

    Fix the client or proxy that sent it; `detail` says what is wrong.
    """

    status, code, title = 400, "request_malformed", "The request is malformed"


class BodyUndecodable(Problem):
    """The body is not valid JSON, NDJSON or gzip, or is incomplete.

    Send valid JSON, a JSON array or NDJSON, compressed as `Content-Encoding` declares.
    """

    status, code, title = 400, "body_undecodable", "The body cannot be decoded"


class IdempotencyKeyMalformed(Problem):
    """The `Idempotency-Key` is not a UUID.

    Send a UUID (preferably version 7), or omit the header.
    """

    status, code, title = 400, "idempotency_key_malformed", "The Idempotency-Key is not a UUID"


class HostRefused(Problem):
    """The `Host` header names a host that this collector does not serve (protection against DNS rebinding).

    Use a host name that it serves, or add yours to `BRAIN_COLLECTOR_ALLOWED_HOSTS`.
    """

    status, code, title = 400, "host_refused", "The collector does not serve this host name"


class Unauthorized(Problem):
    """The API key is missing or invalid.

    Send `Authorization: Bearer <key>` with a valid API key. Keep the events and send them again then.
    """

    status, code, title = 401, "unauthorized", "A valid API key is required"


class Forbidden(Problem):
    """The API key is valid but lacks the required scope.

    Use an API key with the scope that `detail` names. Keep the events and send them again then.
    """

    status, code, title = 403, "forbidden", "The API key lacks the required scope"


class OriginRefused(Problem):
    """The request uses a browser session or opens a WebSocket, but comes from another origin than the collector's own.

    Send `Authorization: Bearer <key>`, or make the proxy pass the `Host` header unchanged.
    """

    status, code, title = 403, "origin_refused", "The request comes from another origin"


class EventNotFound(Problem):
    """No event has this id: it was deleted, or never stored.

    Check the id.
    """

    status, code, title = 404, "event_not_found", "Event not found"


class ApiKeyNotFound(Problem):
    """No API key has this id: it was revoked, or never created.

    Look for the id in `GET /api/keys`.
    """

    status, code, title = 404, "api_key_not_found", "API key not found"


class TooManyApiKeys(Problem):
    """The maximum number of live API keys is reached.

    Revoke API keys that are no longer used, or raise `BRAIN_COLLECTOR_MAX_API_KEYS`.
    """

    status, code, title = 409, "too_many_api_keys", "Too many API keys"


class EventDeleted(Problem):
    """An earlier request with the same `Idempotency-Key` stored the event, and it has been deleted since.

    Do not send the event again.
    """

    status, code, title = 410, "event_deleted", "The event was stored and has been deleted"


class HeadTooSlow(Problem):
    """The request line and headers did not arrive within the deadline.

    Send the request again on a new connection.
    """

    status, code, title = 408, "head_too_slow", "The request headers did not arrive in time"


class BodyTooSlow(Problem):
    """The body did not arrive within the deadline; the connection is closed.

    Send the request again; on a slow network, in smaller batches.
    """

    status, code, title = 408, "body_too_slow", "The body did not arrive in time"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, headers={"Connection": "close"})


class BodyTooLarge(Problem):
    """The body exceeds a limit, as transmitted or after decompression, or takes too long to decode.

    Halve the batch or shorten the event; `detail` names the limit.
    """

    status, code, title = 413, "body_too_large", "The body is too large"


class PreconditionFailed(Problem):
    """The current state of the event does not satisfy the request's `If-Match` or `If-None-Match`.

    Get the event again, and decide with its current `ETag`.
    """

    status, code, title = 412, "precondition_failed", "The precondition is not met"


class UnsupportedMedia(Problem):
    """The endpoint does not accept this `Content-Type` or `Content-Encoding`.

    Use `application/json`, or for a batch `application/x-ndjson`; and `gzip` or no encoding.
    """

    status, code, title = 415, "unsupported_media_type", "The media type is not supported"


class EventInvalid(Problem):
    """The event is invalid; `errors` lists the fields.

    Correct the fields that `errors` lists.
    """

    status, code, title = 422, "event_invalid", "The event is invalid"


class BatchInvalid(Problem):
    """No event of the batch is valid; `errors` lists the reasons.

    Correct the events that `errors` lists.
    """

    status, code, title = 422, "batch_invalid", "No event of the batch is valid"


class ApiKeyInvalid(Problem):
    """The description of the API key to create is invalid; `errors` lists the fields.

    Correct the fields that `errors` lists.
    """

    status, code, title = 422, "api_key_invalid", "The API key is invalid"


class IdempotencyKeyReused(Problem):
    """The caller has already used the `Idempotency-Key` with a different body.

    Use a new idempotency key for a different body.
    """

    status, code, title = 422, "idempotency_key_reused", "The Idempotency-Key was used with a different body"


class BatchTooOld(Problem):
    """The `Idempotency-Key` is so old that the collector may have stored the batch and forgotten it.

    Check whether the events are stored, and send the missing ones with a new idempotency key.
    """

    status, code, title = 422, "batch_too_old", "The Idempotency-Key is too old"


class ParameterInvalid(Problem):
    """A path or query parameter is malformed or out of range.

    Correct the parameter that `detail` names.
    """

    status, code, title = 422, "parameter_invalid", "A parameter is invalid"


class CursorMismatch(Problem):
    """The cursor belongs to a different filter than the request's.

    Start at the first page of the new filter.
    """

    status, code, title = 422, "cursor_mismatch", "The cursor does not match the filter"


class QueryTooBroad(Problem):
    """The query exceeded its time limit, or would return too many groups.

    Narrow it with `from` and `to`, or with `event_type`.
    """

    status, code, title = 422, "query_too_broad", "The query is too broad"


class UpgradeRequired(Problem):
    """The path is a WebSocket, and the request is not a valid upgrade (RFC 6455).

    Use a WebSocket client, or `GET /api/events/stream`.
    """

    status, code, title = 426, "upgrade_required", "WebSocket upgrade required"


class RateLimited(Problem):
    """The caller exceeded its rate limit; nothing of the request was stored.

    Send the request again after `Retry-After`, with the same `Idempotency-Key`.
    """

    status, code, title = 429, "rate_limited", "Rate limit exceeded"


class HeadTooLarge(Problem):
    """The request line and headers exceed a limit.

    Send fewer or shorter headers; `detail` names the limit.
    """

    status, code, title = 431, "head_too_large", "The request headers are too large"


class Unavailable(Problem):
    """The database is unavailable or full, or the collector is overloaded or shutting down.

    Send the request again after `Retry-After`, with the same `Idempotency-Key`.
    """

    status, code, title = 503, "unavailable", "The collector is temporarily unavailable"

    def __init__(self, detail: str, *, retry_after_s: int, answer_after_s: float = 0.0) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)})
        self.answer_after_s = answer_after_s

    @classmethod
    def send_again(cls, reason: str, retry_after_s: int, *, answer_after_s: float = 0.0) -> "Unavailable":
        """Return the refusal of a request that stores events: nothing of it is stored, a retry is safe."""
        detail = f"{reason}; send the request again in {retry_after_s} s, with the same Idempotency-Key"
        return cls(detail, retry_after_s=retry_after_s, answer_after_s=answer_after_s)
