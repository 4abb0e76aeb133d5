"""From the arguments of a call to one encoded line: forgiving conversion, exceptions, traces, redaction.

Pure functions on the caller's path (redaction of texts and `before_send` run on the worker).
May import `wire` and the standard library. Must not raise, wait, or know what happens to the line.
"""
