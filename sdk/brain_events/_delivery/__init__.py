"""From a sealed batch to the collector's response: the worker thread, HTTP, verdicts, retries, reports of losses.

May import `_queue`, `_record` and the public modules below the client. Must not run on the caller's thread.
"""
