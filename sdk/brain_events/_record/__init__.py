"""From the arguments of a call to one encoded line: forgiving conversion, exceptions, traces, redaction.

Runs on the caller's thread; only the search for secrets in texts runs on the worker, unless the client is durable.
May import `wire`, `config`, `context` and the standard library. Must not raise, wait, or know what happens to the line.
"""
