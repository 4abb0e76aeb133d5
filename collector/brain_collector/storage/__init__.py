"""Postgres: `connection`, `pooler`, `durability`, `tables`, `migrate`, `partitions`, `search_index`, and more.

May import the shared files, the drivers and Alembic. Must not know requests, nor what an event means to anyone.
"""
