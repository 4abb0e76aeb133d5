"""From a sealed batch to the collector's receipt: the worker thread, HTTP, verdicts, retries, reports.

May import `_queue` and the public modules below the client. Must not run on the caller's thread.
"""
