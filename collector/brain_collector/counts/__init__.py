"""Exact numbers of events: the journal of counts, its fold, totals and histogram buckets.

A transaction that changes events writes the differences to the journal (`journal`). A reader adds the journal to the
folded counts in one statement (`totals`, `overall`, `buckets`; `legs` is what they share, `spans` divides time ranges).
`leading` returns the most frequent values and the rest, `tally` adds up those of several parts.
May import `query`, `storage` and the shared files. Must not know who asks, nor how events are written.
"""
