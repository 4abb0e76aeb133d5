r"""Paths into details: `user.id` is the key `id` under the key `user`; `\.` is a dot within a key, `\\` a backslash."""

import re
from typing import Final

_PATH: Final = re.compile(r"(?:[^\\]|\\[.\\])*", re.DOTALL)
_KEY: Final = re.compile(r"(?:^|\.)((?:[^.\\]|\\.)*)")


def split_path(text: str) -> tuple[str, ...] | None:
    """Return the keys of a path, which may be empty; None if a backslash precedes neither a dot nor a backslash."""
    if _PATH.fullmatch(text) is None:
        return None
    return tuple(re.sub(r"\\(.)", r"\1", key) for key in _KEY.findall(text))
