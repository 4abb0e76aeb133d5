"""Queries as values: filters, search terms and cursors, parsed, compared and turned into SQL conditions.

May import the ground floor, the tables and SQLAlchemy's expression language. Must not run a statement, nor know where
the parameters came from.
"""
