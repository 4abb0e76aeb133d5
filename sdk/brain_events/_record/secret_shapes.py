"""Find secrets by their shape, and replace each with `[scrubbed]`.

Two kinds are found. *Tokens* have a recognisable form: bearer tokens, basic credentials, JSON Web Tokens, keys of
well-known services, API keys of a collector, private keys in PEM, a password in a URL or on a command line. *Pairs* are
`password=...`, `"api_key": "..."`, `Cookie: ...` in any usual syntax, if the value of a details key of that name would
be scrubbed. If a text shows a secret only once percent-encoding and JSON escapes are decoded, it is returned decoded.
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from brain_events._record.sanitize import COUNT_MAX_DIGITS, SCRUBBED, is_secret, may_be_count

NAME_SIGNS: Final = (
    "pass", "pwd", "secret", "token", "auth", "cookie", "credential", "key", "jwt", "srf", "session", "signature",
    "connect.sid", "pin", "otp", "sig", "cvv", "cvc", "pw",
)  # fmt: skip
"""Every name for which `is_secret` holds contains at least one of these, once it is in lower case."""

_TOKEN = re.compile(
    r"""
      (?<![\w-])eyJ[\w-]{8,}\.[\w.-]{8,}               # JSON Web Token: `{"` in base64 (RFC 7519)
    | (?:AKIA|ASIA)[A-Z0-9]{16}                         # AWS
    | AIza[\w-]{35}                                     # Google
    | ya29\.[\w-]{20,} | GOCSPX-[\w-]{20,}              # Google: an access token, an OAuth client
    | gh[pousr]_[A-Za-z0-9]{36,} | github_pat_\w{22,}   # GitHub
    | (?<![\w-])gl(?:pat|rt|dt|cbt|ptt|ft|soat|imt|agent|oas|ffct)-[\w-]{20,}   # GitLab
    | xox[abeoprs]-[\w-]{10,} | xapp-[\w-]{10,}         # Slack
    | (?<=hooks\.slack\.com/)\w{1,20}/[\w/]{20,512}     # a webhook of Slack
    | (?<=/api/webhooks/)\d{1,20}/[\w-]{20,512}         # a webhook of Discord
    | (?<![A-Za-z0-9])[rs]k_(?:live|test)_[A-Za-z0-9]{8,} | whsec_[\w+/=]{16,}   # Stripe
    | (?<![\w-])sk-(?=[\w-]{0,200}(?=[A-Za-z]{0,12}\d)[A-Za-z0-9]{12})[\w-]{20,}   # OpenAI, Anthropic
    | (?<!\w)hf_[A-Za-z0-9]{20,}                        # Hugging Face
    | (?<!\w)npm_[A-Za-z0-9]{30,} | pypi-AgE[\w-]{20,}  # package registries
    | do[opr]_v1_[0-9a-f]{32,}                          # DigitalOcean
    | (?<!\w)hv[bs]\.[\w-]{20,}                         # Vault
    | shp[a-z]{2}_[0-9a-fA-F]{20,}                      # Shopify
    | (?<!\w)SG\.[\w-]{16,}\.[\w-]{16,}                 # SendGrid
    | (?<!\d)\d{8,10}:AA[\w-]{30,}                      # a bot of Telegram
    | AGE-SECRET-KEY-1[A-Z0-9]{20,}                     # age
    | be_[a-z][a-z0-9]{7}_[0-9a-f]{8,}                  # an API key of a collector, even a truncated one
    """,
    re.VERBOSE | re.ASCII,
)
_run_after_underscore = re.compile(r"_[A-Za-z0-9]{8}").search  # a literal first: as fast as `in`
_run_after_hyphen = re.compile(r"-[\w-]{10}", re.ASCII).search
_run_after_dot = re.compile(r"\.[\w-]{16}", re.ASCII).search
_UNDERSCORE_PREFIXES = ("be_", "gh", "github_pat_", "hf_", "npm_", "whsec_", "_v1_", "shp", "k_live_", "k_test_")
_HYPHEN_PREFIXES = ("sk-", "gl", "xox", "xapp-", "pypi-", "GOCSPX-", "AGE-SECRET")
_DOT_PREFIXES = ("ya29.", "hvs.", "hvb.", "SG.")
_COMMANDS = ("curl", "http", "wget", "xh ", "mysql", "mariadb", "sshpass")
_PEM = re.compile(
    r"(-----BEGIN [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----).*?(-----END [A-Z ]{0,20}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_BEARER = re.compile(r"(earer\s{1,4})(?=[^\s\"']*\d|[^\s\"']{20})[\w.~+/=-]{8,}", re.ASCII)  # RFC 6750
_BASIC = re.compile(r"(asic\s{1,4})([A-Za-z0-9+/]{4,4096}={0,2})", re.ASCII)  # RFC 7617
_COMMAND_PASSWORD = re.compile(
    r"""
      (\b(?:curl|https?|wget|xh)\b[^\r\n;|]{0,128}?[\s'"](?:-[A-Za-z]{0,8}u|--user|-a|--auth)['"]?[\s=,]{0,4}["']?
        [^\s:"']{1,256}:)[^\s"']{1,512}
    | (\b(?:mysql\w{0,16}|mariadb(?:-\w{1,16}){0,2})(?![\w-])[^\r\n|;]{0,128}?[\s'"]-p["']?)[^\s"',]{1,512}
    | (\bsshpass['",\s]{1,4}-p['",\s]{0,4})[^\s"']{1,512}
    """,
    re.VERBOSE | re.ASCII,
)
# A colon also follows a host, but then a port follows. Repeats are bounded, so that no text takes quadratic time.
_URL_PASSWORD = re.compile(r"(://[^\s/?#@:\"'<>]{0,256}:)(?!\d{1,5}(?:[/?#]|\Z))[^\s\"'<>]{1,512}@")
_URL_TOKEN = re.compile(r"(://)[^\s/?#@:\"'<>]{16,512}@")  # a token in the place of the user

_NAME_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_NAME_MAX_CHARS = 64
_NAME_END = re.compile(r"[\w-]{0,64}", re.ASCII)
# name=, name: , "name": , ('name', , <name>, and --name of a command line
_SEPARATOR = re.compile(r"\\*[\"']\s{0,8},\s{0,8}(?=b?\\*[\"'])|(?:\\*[\"'])?\s{0,8}(?:=>|:=|[=:>])\s{0,8}")
_OPTION_SEPARATOR = re.compile(r"(?:\s|=){1,8}(?!-)")
_SQL_SEPARATOR = re.compile(r"\s{1,8}(?=')")  # ALTER ROLE ann PASSWORD '...'
_VALUE_START = re.compile(r"[|>][+-]?[ \t]{0,8}\r?\n\s{0,64}|<!\[CDATA\[")  # a block in YAML, a section in XML
_colon_in_text = re.compile(r":(?<!\":)(?!//)").search
_PERCENT = re.compile(r"%(?:22|27|3[aAdD])")  # encoded quotes, `:` or `=`
_ESCAPE = re.compile(r"\\{1,4}u00([2-7][0-9a-fA-F])")
_QUOTED = re.compile(
    r"""[bfru]{0,2}(?:(["'])((?:\\.|(?!\1)[^\\]){1,4096})|(\\+["'])((?:(?!\3).){1,4096}))""", re.DOTALL | re.ASCII
)
# Neither the start of a container nor a call, as in a line of source code. A delimiter belongs to the value if neither
# another name follows it nor the end of a word.
_BARE = re.compile(
    r"""
    (?![\[{(](?:["'\s\]})\\]|scrubbed\])|[\w.]{1,64}\()
    ((?:[^\s,;&"'<>)\]}|\\]|[,;&)](?=[^\s,;&"'<>)\]}|\\])(?![\w.-]{1,64}[=:]))+)
    """,
    re.VERBOSE | re.ASCII,
)
_CONTAINER = re.compile(r"[\[{](?!scrubbed\])(?=[\[{\s]{0,16}\\*[\"'\d])")
_BRACKETS = re.compile(r"[\[{\]}]|\"(?:\\.|[^\"\\]){0,4096}\"|'(?:\\.|[^'\\]){0,4096}'", re.DOTALL)  # or a text
_REST_OF_LINE = re.compile(r"(?!\[scrubbed\])([^\r\n\"'\\]+)")
_HARMLESS = frozenset({"true", "false", "none", "null", "str", "bytes", "int", "bool", "any", "...", SCRUBBED})


def may_hold_token(text: str) -> bool:
    """Return whether `text` must be searched for tokens; `in` finds a single character fastest, so those come first.

    Most tokens are a prefix, which ends with `_`, `-` or `.`, and many letters and digits after it. Few texts have such
    a run, so only those are searched for the prefixes.
    """
    return bool(
        ("@" in text and "://" in text)
        or ("J" in text and "eyJ" in text)
        or ("I" in text and ("AKIA" in text or "ASIA" in text or "AIza" in text))
        or ("B" in text and "-----BEGIN" in text)
        or ("A" in text and ":AA" in text)
        or "earer" in text
        or "asic" in text
        or (_run_after_underscore(text) and _has_any(text, _UNDERSCORE_PREFIXES))
        or (_run_after_hyphen(text) and _has_any(text, _HYPHEN_PREFIXES))
        or (_run_after_dot(text) and _has_any(text, _DOT_PREFIXES))
        or ("/" in text and "hooks" in text)
        or (" -" in text and _has_any(text, _COMMANDS))
        or ("'" in text and "'-" in text and _has_any(text, _COMMANDS))
    )


def _has_any(text: str, pieces: tuple[str, ...]) -> bool:
    return any(piece in text for piece in pieces)


def may_hold_pair(line: str) -> bool:
    """Return whether an encoded event must be searched for pairs.

    In JSON, every one of these signs is inside a text; so is a colon that follows no key and no part of the timestamp.
    """
    if "%" in line and _PERCENT.search(line):
        return True
    if (
        "=" in line
        or "'" in line
        or ("<" in line and "</" in line)
        or "\\" in line
        or " --" in line
        or '"--' in line
        or _has_colon_in_text(line)
    ):
        lower = line.lower()
        return "\\u00" in line or any(sign in lower for sign in NAME_SIGNS)
    return False


def _has_colon_in_text(line: str) -> bool:
    end = line.rfind(',"timestamp":"')  # the last field
    return _colon_in_text(line, 0, len(line) if end < 0 else end) is not None


def scrub_text(text: str, allowed_keys: frozenset[str]) -> str:
    """Return `text` without its secrets, or itself if it has none; a name in `allowed_keys` makes no secret pair."""
    scrubbed = _scrub_plain(text, allowed_keys)
    decoded = _decoded(scrubbed)
    if decoded != scrubbed and (plain := _scrub_plain(decoded, allowed_keys)) != decoded:
        return plain
    return scrubbed


def _decoded(text: str) -> str:
    """Return `text` without percent-encoding and without the escapes of JSON for ASCII."""
    if "%" in text and _PERCENT.search(text):
        text = unquote(text, errors="replace")
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text) if "\\u00" in text else text


def _scrub_plain(text: str, allowed_keys: frozenset[str]) -> str:
    if may_hold_token(text):
        text = _URL_TOKEN.sub(rf"\1{SCRUBBED}@", _URL_PASSWORD.sub(rf"\1{SCRUBBED}@", text))
        text = _BASIC.sub(_scrub_basic, _BEARER.sub(rf"\1{SCRUBBED}", _PEM.sub(rf"\1{SCRUBBED}\2", text)))
        text = _COMMAND_PASSWORD.sub(lambda match: f"{match[match.lastindex or 0]}{SCRUBBED}", text)
        text = _TOKEN.sub(SCRUBBED, text)
    return _scrub_pairs(text, allowed_keys)


def _scrub_basic(match: re.Match[str]) -> str:
    """Scrub credentials, which have a colon; `basic setup` has none."""
    body = match[2].rstrip("=")
    decoded = b64decode(body[: len(body) - (len(body) % 4 == 1)] + "==")  # a rest of one character is cut off
    is_text = b":" in decoded and decoded.decode("utf-8", "replace").isprintable()
    return f"{match[1]}{SCRUBBED}" if is_text else match[0]


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
            # A name ends at a dot, but for the one sign that is a whole name with a dot.
            start, end = (sign_at, sign_at + len(sign)) if "." in sign else _name_around(text, sign_at)
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
    separator = _SEPARATOR.match(text, at)
    if separator is None and name.startswith("--"):
        separator = _OPTION_SEPARATOR.match(text, at)
    if separator is None and name.lower().endswith("password"):
        separator = _SQL_SEPARATOR.match(text, at)
    if separator is None:
        return None
    start = separator.end()
    if opened := _VALUE_START.match(text, start):
        start = opened.end()
    if quoted := _QUOTED.match(text, start):
        span = quoted.span(2 if quoted[2] is not None else 4)
    elif _CONTAINER.match(text, start):
        span = start, _end_of_container(text, start)
    else:
        header = name.lower().endswith(("cookie", "authorization"))
        bare = (_REST_OF_LINE if header else _BARE).match(text, start)
        if bare is None:
            return None
        span = bare.span(1)
    value = text[slice(*span)].strip().lower()
    if value in _HARMLESS or (value.isdecimal() and len(value) <= COUNT_MAX_DIGITS and may_be_count(name)):
        return None
    return span


def _end_of_container(text: str, at: int) -> int:
    """Return the end of the list or object that starts at `at`; that of `text` if it has none."""
    depth = 0
    for found in _BRACKETS.finditer(text, at):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
        if depth == 0:
            return found.end()
    return len(text)
