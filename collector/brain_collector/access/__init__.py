"""Decide who may make a request: API keys, browser sessions, scopes, rate limits.

`guard` decides from the head of a request, before any of its body is received, and again while a long response is
being sent (`api.stream` and `api.export` call it). `keyring` holds the API keys in memory; `key_table` reads and
changes their table, `session_table` that of browser sessions.
May import `http`, `storage` and the shared files. Must not know what an endpoint does: the guard is given rules.
"""
