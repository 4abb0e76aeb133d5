"""Postgres: `connection`, `tables`, `migrate`, `partitions`, `search_index`, `id_ranges`, `renumber` after a restore.

May import the shared files, the drivers and Alembic. Must not know requests, nor what an event means to anyone.
"""
