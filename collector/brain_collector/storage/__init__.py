"""Postgres: `connection`, `hosts`, `pooler`, `durability`, `epochs`, `tables`, `schema_version`, `migrate`, and more.

May import the shared files, the drivers and Alembic. Must not know requests, nor what an event means to anyone.
"""
