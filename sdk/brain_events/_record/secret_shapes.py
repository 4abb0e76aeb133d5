"""Find secrets by their shape, and replace each with `[scrubbed]`.

Two kinds are found. *Tokens* have a recognisable form: bearer tokens, JSON Web Tokens, keys of well-known services, API
keys of a collector, private keys in PEM, a password in a URL. *Pairs* are `password=...`, `"api_key": "..."`,
`Cookie: ...` in any usual syntax, if the value of a details key of that name would be scrubbed.
"""

import re
from collections.abc import Iterator
from typing import Final

from brain_events._record.sanitize import SCRUBBED, is_secret

NAME_SIGNS: Final = (
    "passw", "passphrase", "pwd", "secret", "token", "auth", "cookie", "credential", "key", "jwt", "srf", "session",
    "signature",
)  # fmt: skip
"""Every name for which `is_secret` holds contains at least one of these, once it is in lower case."""

_TOKEN = re.compile(
    r"""
      (?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?   # JSON Web Token: `{"` in base64 (RFC 7519)
    | (?:AKIA|ASIA)[A-Z0-9]{16}                         # AWS
    | AIza[\w-]{35}                                     # Google
    | gh[pousr]_[A-Za-z0-9]{36,} | github_pat_\w{22,}   # GitHub
    | glpat-[\w-]{20,}                                  # GitLab
    | xox[abeoprs]-[\w-]{10,}                           # Slack
    | [rs]k_live_\w{8,}                                 # Stripe
    | be_[a-z][a-z0-9]{7}_[0-9a-f]{8,}                  # an API key of a collector, even a truncated one
    """,
    re.VERBOSE | re.ASCII,
)
_sign_with_g = re.compile(r"g(?:h[pousr]_|ithub_pat_|lpat-)").search  # a literal first: as fast as `in`
_sign_of_api_key = re.compile(r"be_[a-z][a-z0-9]{7}_", re.ASCII).search
_PEM = re.compile(r"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----).*?(-----END [A-Z ]{0,20}PRIVATE KEY-----|\Z)", re.DOTALL)
_BEARER = re.compile(r"(earer\s{1,4})(?=[^\s\"']*\d|[^\s\"']{20})[\w.~+/=-]{8,}", re.ASCII)  # RFC 6750
# A colon also follows a host, but then a port follows. Repeats are bounded, so that no text takes quadratic time.
_URL_PASSWORD = re.compile(r"(://[^\s/?#@:\"'<>]{0,256}:)(?!\d{1,5}(?:[/?#]|\Z))[^\s\"'<>]{1,512}@")
_URL_TOKEN = re.compile(r"(://)[^\s/?#@:\"'<>]{16,512}@")  # a token in the place of the user

_NAME_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_NAME_MAX_CHARS = 64
_NAME_END = re.compile(r"[\w-]{0,64}", re.ASCII)
# name=, name: , "name": , ('name', , <name>, and --name of a command line
_SEPARATOR = re.compile(r"\\*[\"']\s{0,8},\s{0,8}(?=b?\\*[\"'])|(?:\\*[\"'])?\s{0,8}(?:=>|:=|[=:>])\s{0,8}")
_OPTION_SEPARATOR = re.compile(r"(?:\s|=){1,8}(?!-)")
_QUOTED = re.compile(
    r"""[bfru]{0,2}(?:(["'])((?:\\.|(?!\1)[^\\]){1,4096})|(\\+["'])((?:(?!\3).){1,4096}))""", re.DOTALL | re.ASCII
)
# Neither the start of a container nor a call, as in a line of source code.
_BARE = re.compile(r"(?![\[{(](?:[\"'\s\]})\\]|scrubbed\])|[\w.]{1,64}\()([^\s,;&\"'<>)\]}|\\]+)", re.ASCII)
_REST_OF_LINE = re.compile(r"(?!\[scrubbed\])([^\r\n\"'\\]+)")
_HARMLESS = frozenset({"true", "false", "none", "null", "str", "bytes", "int", "bool", "any", "...", SCRUBBED})


def may_hold_token(text: str) -> bool:
    """Return whether `text` must be searched for tokens; `in` finds a single character fastest, so those come first."""
    return bool(
        ("@" in text and "://" in text)
        or ("J" in text and "eyJ" in text)
        or ("I" in text and ("AKIA" in text or "ASIA" in text or "AIza" in text))
        or ("x" in text and "xox" in text)
        or ("B" in text and "-----BEGIN" in text)
        or "earer " in text
        or "_live_" in text
        or _sign_with_g(text)
        or _sign_of_api_key(text)
    )


def may_hold_pair(text: str) -> bool:
    """Return whether `text` must be searched for pairs. In JSON every one of these signs but ": " is inside a text."""
    if "=" in text or "'" in text or ("<" in text and "</" in text) or "\\" in text or ": " in text or " --" in text:
        lower = text.lower()
        return any(sign in lower for sign in NAME_SIGNS)
    return False


def scrub_text(text: str, allowed_keys: frozenset[str]) -> str:
    """Return `text` without its secrets, or itself if it has none; a name in `allowed_keys` makes no secret pair."""
    if may_hold_token(text):
        text = _URL_TOKEN.sub(rf"\1{SCRUBBED}@", _URL_PASSWORD.sub(rf"\1{SCRUBBED}@", text))
        text = _TOKEN.sub(SCRUBBED, _BEARER.sub(rf"\1{SCRUBBED}", _PEM.sub(rf"\1{SCRUBBED}\2", text)))
    return _scrub_pairs(text, allowed_keys) if may_hold_pair(text) or '"' in text else text


def _scrub_pairs(text: str, allowed_keys: frozenset[str]) -> str:
    parts: list[str] = []
    position = 0
    for start, end in sorted(_secret_values(text, allowed_keys)):
        if start >= position:
            parts += text[position:start], SCRUBBED
        position = max(position, end)
    return "".join([*parts, text[position:]]) if parts else text


def _secret_values(text: str, allowed_keys: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each value whose name marks it as a secret."""
    lower = text.lower() if text.isascii() else text.encode().lower().decode()  # keeps the length: ASCII only
    for sign in NAME_SIGNS:
        sign_at = lower.find(sign)
        while sign_at >= 0:
            start, end = _name_around(text, sign_at)
            name = text[start:end]
            if is_secret(name.lstrip("-")) and name not in allowed_keys and (span := _value_after(text, name, end)):
                yield span
                end = span[1]
            sign_at = lower.find(sign, max(end, sign_at + 1))


def _name_around(text: str, at: int) -> tuple[int, int]:
    before = text[max(at - _NAME_MAX_CHARS, 0) : at]
    rest = _NAME_END.match(text, at)
    return at - len(before) + len(before.rstrip(_NAME_CHARS)), rest.end() if rest else at


def _value_after(text: str, name: str, at: int) -> tuple[int, int] | None:
    """Return start and end of the value after `name`, which ends at `at`; None if no value follows."""
    separator = _SEPARATOR.match(text, at) or (_OPTION_SEPARATOR.match(text, at) if name.startswith("--") else None)
    if separator is None:
        return None
    if quoted := _QUOTED.match(text, separator.end()):
        span = quoted.span(2 if quoted[2] is not None else 4)
    else:
        header = name.lower().endswith(("cookie", "authorization"))
        bare = (_REST_OF_LINE if header else _BARE).match(text, separator.end())
        if bare is None:
            return None
        span = bare.span(1)
    return None if text[slice(*span)].strip().lower() in _HARMLESS else span
