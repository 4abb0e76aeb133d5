"""The HTTP API: parameters in, a call to a lower wing, a response out.

Most files are one endpoint, or the few of one resource: an `Operation` each, from which routes, scopes and OpenAPI are
made. The others are shared by endpoints: `operation`, `parameters`, `paging`, `resources`, `ingest_request`,
`idempotency`, `preconditions`, `static_files`, `openapi`.
May import every wing below it. Must not know a database or cache driver, nor how the application is put together.
"""
