"""The secret keys of keyed hashes: random values that all collectors of a database share."""

import secrets
from typing import Final, Literal

from asyncpg import Connection

KEY_BYTES: Final = 32

_READ: Final = "SELECT value FROM hash_keys WHERE name = $1"
_CREATE: Final = "INSERT INTO hash_keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"


async def hash_key(connection: Connection, name: Literal["requests"]) -> bytes:
    """Return the key with this name; the first collector that asks creates it."""
    value: bytes | None = await connection.fetchval(_READ, name)
    if value is None:
        await connection.execute(_CREATE, name, secrets.token_bytes(KEY_BYTES))
        value = await connection.fetchval(_READ, name)
        assert value is not None
    return value
