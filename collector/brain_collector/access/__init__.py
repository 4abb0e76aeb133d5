"""Decide who may make a request: API keys, browser sessions, scopes, rate limits.

Checks the head of a request before its body is received, and again while a long response is being sent.
May import `http`, `storage` and the ground floor. Must not know what an endpoint does: the guard is given rules.
"""
