"""Reads from the database: single events, pages, searches, histograms, facets, exports, rejected lines.

Statements have deadlines and use a connection pool of their own, so that reads cannot block writes.
May import `counts`, `query`, `storage` and the ground floor. Must not know HTTP or the cache.
"""
