"""The check of the project's English: what it finds, and what it leaves alone."""

import pytest

from tools.plain_english import findings_in, prose_of

DIALECT = [
    "Who leaves gives its place up.",
    "It is refused; who asks again gains nothing.",
    "An answer for who asks.",
    "A page of another origin, whom nobody knows.",
    "What is refused is counted.",
    "The stream goes on after it.",
    "24 hours, unless told otherwise.",
    "Raises an error, as said.",
    "There are as many connections as may be; as many as may be.",
    "The collector is to be stopped.",
    "Most events of one export.",
    "No lock was to be had.",
    "The key is no UUID.",
]
PLAIN = [
    "The client that leaves loses its place.",
    "Who are you?",
    "What is a follower? It looks at events in the background.",
    "Say what is missing.",
    "The most events in one of the batches.",
    "Maximum number of events in one export; resume with `after`.",
]


@pytest.mark.parametrize("text", DIALECT)
def test_dialect_is_found(text: str) -> None:
    assert [finding.line for finding in findings_in(f"A first line.\n{text}\n")][:1] == [2]


@pytest.mark.parametrize("text", PLAIN)
def test_plain_english_is_left_alone(text: str) -> None:
    assert list(findings_in(text)) == []


def test_only_what_people_read_is_looked_at() -> None:
    assert "who" not in prose_of("a.py", "who = 1\n")
    assert "who leaves" in prose_of("a.py", "x = 1  # who leaves\n")
    assert "who leaves" in prose_of("a.py", 'x = "who leaves"\n')
    assert "who" not in prose_of("a.py", 'x = "see `who`"\n')
    assert "who" not in prose_of("a.md", "# who\n```sh\nwho\n```\n`who`\n")
    assert "who leaves" in prose_of("a.tsx", "<p>who leaves</p>")
    assert "who" not in prose_of("a.ts", "const who = 1")
    assert prose_of("a.md", "`a`\n\nb").count("\n") == 2
