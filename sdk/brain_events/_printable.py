"""Make text of another machine safe to log and print: it cannot begin a line, or control a terminal."""

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""Return `text` as one line: every control character is replaced by its escape, such as \x1b or \n."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def json_text(text: str) -> str:
    """Return JSON with the same meaning, without characters that a terminal would interpret."""
    return _CONTROL.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)
