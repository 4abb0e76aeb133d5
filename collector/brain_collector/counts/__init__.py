"""Exact numbers of events: the journal of counts, its fold, totals and histogram buckets.

A transaction that changes events writes the differences to the journal. A reader adds the journal to the folded counts
in one statement. May import `query`, `storage` and the ground floor. Must not know the caller, nor how events are
written.
"""
