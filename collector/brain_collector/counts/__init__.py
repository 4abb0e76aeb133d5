"""Exact numbers of events: the journal of counts, its fold, totals and histogram buckets.

A transaction that changes events writes the differences to the journal (`journal`). A reader adds the journal to the
folded counts in one statement (`totals`, `buckets`; `legs` is what they share, `spans` takes time ranges apart).
May import `query`, `storage` and the shared files. Must not know who asks, nor how events are written.
"""
