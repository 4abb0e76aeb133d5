"""Makes foreign text safe to show: it cannot move the cursor, change the writing direction, or be a formula."""

import re
from typing import Final

_FORMATTING: Final = r"\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL: Final = re.compile(rf"[\x00-\x1f\x7f-\x9f{_FORMATTING}\ud800-\udfff]")
_CONTROL_IN_LINES: Final = re.compile(rf"[\x00-\x09\x0b-\x1f\x7f-\x9f{_FORMATTING}\ud800-\udfff]")
_FORMULA_STARTS: Final = tuple("=+-@\t\r\n" + "\uff1d\uff0b\uff0d\uff20")


def one_line(text: str) -> str:
    r"""Return `text` as one line: every control character is replaced by its escape, such as \x1b or \n."""
    return _CONTROL.sub(_escaped, text)


def lines(text: str) -> str:
    """Return `text` with its line breaks, and every other control character as its escape."""
    return _CONTROL_IN_LINES.sub(_escaped, text)


def json_text(text: str) -> str:
    """Return JSON with the same meaning, without characters that a terminal would interpret."""
    return _CONTROL_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def no_formula(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
