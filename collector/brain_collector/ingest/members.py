"""Details as JSON text: members are added without decoding it, because numbers would not survive that unchanged."""

from collections.abc import Mapping
from typing import Final

import msgspec

_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def add_members(details: str | None, members: Mapping[str, str]) -> str:
    """Return details with these members, whose values are JSON text; of two members with one name, the last counts."""
    return _joined(details, ",".join(f"{_quoted(name)}:{value}" for name, value in members.items()))


def add_note(details: str | None, name: str, text: str) -> str:
    """Return details with a text under this name, which replaces a member of that name."""
    return add_members(details, {name: _quoted(text)})


def add_fields(details: str | None, fields: Mapping[str, msgspec.Raw]) -> str:
    """Return details with these members; `_` is put before a name until the details have no member of that name."""
    taken = set(_members.decode(details)) if details else set()
    if not taken.isdisjoint(fields):
        fields = _renamed(fields, taken)
    return _joined(details, msgspec.json.encode(fields).decode()[1:-1])


def add_field(fields: Mapping[str, msgspec.Raw], name: str, value: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the fields with one more; `_` is put before its name until no other has it."""
    return {**fields, **_renamed({name: value}, set(fields))}


def _renamed(fields: Mapping[str, msgspec.Raw], taken: set[str]) -> dict[str, msgspec.Raw]:
    """Return the fields under names that are not taken; `above` leads past names that are, so each is tried once."""
    members: dict[str, msgspec.Raw] = {}
    above: dict[str, str] = {}
    for name, value in fields.items():
        tried = []
        free = name
        while free in taken:
            tried.append(free)
            free = above.get(free, f"_{free}")
        above |= dict.fromkeys(tried, free)
        taken.add(free)
        members[free] = value
    return members


def _joined(details: str | None, members: str) -> str:
    inner = details.strip()[1:-1].strip() if details else ""
    return f"{{{','.join(filter(None, (inner, members)))}}}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
