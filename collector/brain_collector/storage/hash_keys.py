"""The secret keys of keyed hashes: random values that all collectors of a database share."""

import secrets
from hashlib import blake2b
from typing import Final, Literal

from asyncpg import Connection

KEY_BYTES: Final = 32

_READ: Final = "SELECT value FROM hash_keys WHERE name = $1"
_CREATE: Final = "INSERT INTO hash_keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING"

_PLACE: Final = """
    SELECT format('%s %s', identifier, oid) FROM database_identity(), pg_database WHERE datname = current_database()
"""


async def hash_key(connection: Connection, name: Literal["requests", "cache"]) -> bytes:
    """Return the key with this name; the first collector that asks creates it."""
    value: bytes | None = await connection.fetchval(_READ, name)
    if value is None:
        await connection.execute(_CREATE, name, secrets.token_bytes(KEY_BYTES))
        value = await connection.fetchval(_READ, name)
        assert value is not None
    return value


async def database_id(connection: Connection) -> str:
    """Return an id that another database does not have, nor one that is restored from a dump; a failover keeps it."""
    key = await hash_key(connection, "cache")
    place: str = await connection.fetchval(_PLACE)
    return blake2b(place.encode(), key=key, digest_size=12).hexdigest()
