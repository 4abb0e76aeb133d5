"""Single events, pages, searches, histograms, facets, exports and rejected lines; and changes by id.

Statements have deadlines and use a connection pool of their own, so that reads cannot block writes.
May import `counts`, `query`, `storage` and the shared files. Must not know HTTP or the cache.
"""
