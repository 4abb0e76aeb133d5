"""Postgres itself: connections, tables, migrations, partitions, ids, the search index, renumbering.

May import the ground floor only, and the drivers. Must not know a request, a rule or what events mean.
"""
