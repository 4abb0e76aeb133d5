"""Queries as values: `filter`, `search_terms`, `cursor`; parsed, compared, turned into SQL conditions.

`page_bytes` bounds a page in bytes, `matches` marks the words of a search in its events.

May import `storage.tables`, SQLAlchemy's expression language and the shared files. Must not run a statement, nor know
where the parameters came from.
"""
