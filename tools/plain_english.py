"""Fail on phrases that a reader has to read twice (CONTRIBUTING, "Plain English"): `python tools/plain_english.py`.

Looks at what people read: the text of Markdown files, comments and strings of Python files, and comments and strings of
the dashboard. Exits with 1 and a line each, or with 0 and nothing.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]

PHRASES: Final = {
    r"\bgo(?:es|ne|ing)? on (?:with|where|after|at|from|as)\b|\b(?:goes|going|went|gone) on\b": "resume, or continue",
    r"\bunless told\b": "by default",
    r"\bas said\b": "name the thing",
    r"\bas (?:many|much|long|few) as (?:may|can) be\b": "the maximum, or the limit",
    r"\b(?:is|are|was|were) to be\b": "must be, will be, or a verb",
    r"(?<!\bthe )(?<!\bThe )\b[Mm]ost [a-z]+ (?:of|that|at|in) (?!the\b)": "maximum number of",
    r"\bto be had\b|\bbe had\b": "available",
    r"\b(?:is|are) no (?:UUID|JSON|object|number|gzip|NDJSON|setting|text|WebSocket|UTF-8|base64|HTTP)\b": "is not a",
    r"\bthrice\b": "three times",
    r"\bheed(?:s|ed)?\b": "follow, or respect",
    r"(?:^|[.;:(] )[Ww]ho(?:ever)? (?!am\b|are you)[a-z]+": "the client, the caller, the reader",
    r"\b(?:of|for|from|to|by|with|than|let|and|or|but) who(?:ever)?\b": "the client, the caller, the reader",
    r"\b[Ww]hom\b": "the client, the caller, the reader",
    r"(?:^|[.;] )What (?:is|was|are|has|cannot|comes|stays|does not|nobody|waits|fails)\b(?![^.]*\?)": (
        "name the subject"
    ),
}
"""A phrase, and what to write in its place."""

ALLOWED: Final = frozenset(
    {
        "tools/plain_english.py",  # names them
        "tests/unit/test_plain_english.py",  # tries them
        "dashboard/src/api/schema.ts",  # generated from the API's description
    }
)
"""Files that may hold such phrases."""

SUFFIXES: Final = frozenset({".md", ".py", ".ts", ".tsx"})
_COMMENTS_AND_STRINGS: Final = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|>[^<>{}]+<", re.DOTALL
)
_CODE_BLOCK: Final = re.compile(r"^(```+).*?^\1$|`[^`\n]*`|^#+ .*?$", re.DOTALL | re.MULTILINE)
_PATTERNS: Final = [(re.compile(phrase, re.MULTILINE), remedy) for phrase, remedy in PHRASES.items()]


class Finding(NamedTuple):
    """A phrase, where it is, and what to write in its place."""

    line: int
    phrase: str
    remedy: str


def findings_in(text: str) -> Iterator[Finding]:
    """Yield the phrases in a text; lines count from 1."""
    for pattern, remedy in _PATTERNS:
        for match in pattern.finditer(text):
            yield Finding(text.count("\n", 0, match.start()) + 1, match[0].strip(), remedy)


def prose_of(name: str, source: str) -> str:
    """Return only what people read of a file; every line keeps its number."""
    if name.endswith(".md"):
        return _CODE_BLOCK.sub(_blank, source)
    if name.endswith(".py"):
        return _prose_of_python(source)
    prose = [" " if char != "\n" else char for char in source]
    for match in _COMMENTS_AND_STRINGS.finditer(source):
        prose[match.start() : match.end()] = match[0]
    return "".join(prose)


def _prose_of_python(source: str) -> str:
    lines: list[list[str]] = [[] for _ in source.split("\n")]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING} or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
            for number, line in enumerate(token.string.split("\n"), token.start[0] - 1):
                lines[number].append(re.sub(r"^\s*(?:#|[rbfRBF]*\"\"\"|[rbfRBF]*[\"'])\s*|`[^`]*`", "", line).strip())
    return "\n".join(" ".join(line) for line in lines)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def main() -> int:
    """Check every file that git knows; return the exit code."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    is_clean = True
    for name in listed.splitlines():
        path = ROOT / name
        if path.suffix not in SUFFIXES or name in ALLOWED or not path.is_file():
            continue
        for finding in findings_in(prose_of(name, path.read_text())):
            is_clean = False
            print(f"{name}:{finding.line}: {finding.phrase!r}: write {finding.remedy}")
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
