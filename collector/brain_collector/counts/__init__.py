"""Exact numbers of events: the journal of deltas, its fold, totals and histogram buckets.

A transaction that changes events journals the difference; a reader adds journal and folded counts in one statement.
May import `query`, `storage` and the ground floor. Must not know who asks, nor how events are written.
"""
