"""Opens connections to the first host of an address that can serve, with a time-out for each host.

asyncpg tries several hosts too, but its time-out covers all of them together. A frozen host accepts connections and
sends nothing; it would use up the time-out, and the next host would never be tried.
"""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import uuid4

import asyncpg

from brain_collector.addresses.database_url import connect_arguments
from brain_collector.addresses.masking import without_secrets

_TRY_NEXT: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # also: it accepts no writes
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it starts, stops or recovers
    asyncpg.InsufficientResourcesError,
)
"""Errors of one host, after which the next one is tried. Others, such as a wrong password, are raised at once."""


_ARRAYS: Final = {
    1001: ("bytea", 17),
    1007: ("int4", 23),
    1015: ("varchar", 1043),
    1016: ("int8", 20),
    1185: ("timestamptz", 1184),
    2951: ("uuid", 2950),
    3807: ("jsonb", 3802),
}
"""Array types, with the name and number of the type of their elements, which asyncpg knows.

Postgres assigns these numbers in its source (`pg_type.dat`), and never changes them.
"""


class _Executed(NamedTuple):
    """The statement that asyncpg expects with the types; its name says that no unnamed statement was replaced."""

    name: str


class Connection(asyncpg.Connection):
    """A connection with statement names of its own, and with built-in array types.

    Its prepared statements have names that no other connection uses. A pooler that exchanges the server connections of
    processes can then lose a statement, but not execute another's.

    It knows the array types of the collector. asyncpg would read them from the catalogue, on each connection again:
    5 to 10 ms of Postgres for each statement with a new one. Meanwhile it turns `jit` off for the session, which behind
    a pooler may be another's by then.
    """

    def _get_unique_id(self, prefix: str) -> str:
        return f"__brain_{prefix}_{uuid4().hex}__"

    async def _introspect_types(self, typeoids: Collection[int], timeout_s: float | None) -> tuple[Any, Any]:
        if _ARRAYS.keys() >= set(typeoids):
            return [_array_type(oid) for oid in typeoids], _Executed("none")
        parent: Any = super()
        types, statement = await parent._introspect_types(typeoids, timeout_s)  # noqa: SLF001 - the stubs do not have it
        return types, statement


def _array_type(oid: int) -> dict[str, object]:
    """Return what asyncpg would have read of an array type."""
    name, element = _ARRAYS[oid]
    of_other_kinds = dict.fromkeys(("range_subtype", "attrtypoids", "basetype"))
    return {
        "oid": oid,
        "ns": "pg_catalog",
        "name": f"_{name}",
        "elemtype": element,
        "elemdelim": b",",
        **of_other_kinds,
    }


class NoHostServes(OSError):  # noqa: N818 - a state, not a mistake
    """None of several hosts can serve."""


class Address(NamedTuple):
    """A host name, an IP address or a directory of sockets, and a port; None: the default."""

    host: str
    port: int | None

    def __str__(self) -> str:
        """Return it for people."""
        return self.host if self.port is None else f"{self.host}:{self.port}"


async def connect(dsn: str, server_settings: Mapping[str, str], *, timeout_s: float) -> asyncpg.Connection:
    """Open a connection within `timeout_s`, which the hosts of the address share equally; the last good one is first.

    With several hosts, only one that accepts writes will do, unless the address says otherwise.

    Raises:
        NoHostServes: none of several hosts can serve.
    """
    return await _hosts_of(dsn).connect(server_settings, timeout_s)


class Hosts:
    """The hosts of an address, in the order in which they are tried."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        arguments = connect_arguments(dsn)
        names = arguments.get("host", [])
        self._addresses = list(map(Address, names, arguments.get("port", [None] * len(names))))

    async def connect(self, server_settings: Mapping[str, str], timeout_s: float) -> asyncpg.Connection:
        """See the function `connect`."""
        arguments = connect_arguments(self._dsn, server_settings)
        if len(self._addresses) <= 1:
            return await self._connect(**arguments, timeout=timeout_s)
        arguments.setdefault("target_session_attrs", "read-write")
        problems = []
        for address in tuple(self._addresses):
            its_own = {"host": address.host, "port": address.port, "timeout": timeout_s / len(self._addresses)}
            try:
                connection = await self._connect(**(arguments | its_own))
            except _TRY_NEXT as error:
                problems.append(f"{address} {_reason(error)}")
            else:
                self._prefer(address)
                return connection
        raise NoHostServes(f"none of its hosts can serve: {'; '.join(problems)}")

    async def _connect(self, **arguments: Any) -> asyncpg.Connection:
        """Open a connection. A server may quote the password that it is sent, so no error has it."""
        try:
            connection: asyncpg.Connection = await asyncpg.connect(**arguments, connection_class=Connection)
        except Exception as error:
            error.args = tuple(map(self._masked, error.args))
            vars(error).update({name: self._masked(value) for name, value in vars(error).items()})
            raise
        return connection

    def _masked(self, value: object) -> object:
        return without_secrets(value, self._dsn) if isinstance(value, str) else value

    def _prefer(self, good: Address) -> None:
        self._addresses.sort(key=lambda address: address != good)


_hosts_of: Final = cache(Hosts)
"""One `Hosts` per address, so that every connection of the process knows the last good host."""


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "does not respond in time"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "is a standby, or read-only"
    return f"failed ({' '.join(str(error).split()) or type(error).__name__})"
