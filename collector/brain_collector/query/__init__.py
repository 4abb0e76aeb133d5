"""What is asked for: filters, search terms, cursors; parsed, compared and turned into SQL conditions.

May import the ground floor and SQLAlchemy's expression language. Must not run a statement, nor know where the
parameters came from.
"""
