"""Postgres: connections, tables, migrations, partitions, ranges of ids, the search index, renumbering.

May import the ground floor and the drivers only. Must not know requests, nor the meaning of events.
"""
