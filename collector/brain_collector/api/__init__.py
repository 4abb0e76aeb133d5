"""The HTTP API, one file per endpoint: parameters in, a call to a lower wing, a response out.

Each endpoint is an `Operation`; routes, scopes and OpenAPI are made from that one list.
May import every wing below it. Must not know a database or cache driver, nor how the application is put together.
"""
