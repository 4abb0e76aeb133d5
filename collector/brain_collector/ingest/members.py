"""Details as JSON text: members are added without decoding it, because numbers would not survive that unchanged."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def add_members(details: str | None, members: Mapping[str, str]) -> str:
    """Return details with these members, whose values are JSON text; of two members with one name, the last counts."""
    inner = details.strip()[1:-1].strip() if details else ""
    parts = [inner] if inner else []
    parts += [f"{_quoted(name)}:{value}" for name, value in members.items()]
    return f"{{{','.join(parts)}}}"


def add_note(details: str | None, name: str, text: str) -> str:
    """Return details with a text under this name, which replaces a member of that name."""
    return add_members(details, {name: _quoted(text)})


def add_fields(details: str | None, fields: Iterable[tuple[str, str]]) -> str:
    """Return details with these members; `_` is put before a name until the details have no member of that name."""
    taken = set(_members.decode(details)) if details else set()
    members: dict[str, str] = {}
    for name, value in fields:
        free = name
        while free in taken:
            free = f"_{free}"
        taken.add(free)
        members[free] = value
    return add_members(details, members)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
