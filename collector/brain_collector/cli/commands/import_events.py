"""`brain-events import`: events from a file of NDJSON, in batches whose keys make it safe to do it again."""

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, cast

import click
import msgspec

from brain_collector import printable
from brain_collector.cli.client import Client, Refused
from brain_collector.cli.import_batches import BATCH_BYTES, BATCH_LINES, Batch, Lines, batches
from brain_collector.cli.options import CONTEXT, connected
from brain_collector.cli.progress import progress
from brain_collector.errors import CollectorError
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, BatchAnswer, LineError

MOST_NAMED: Final = 100
"""Most rejected lines that are named."""
_GZIP: Final = b"\x1f\x8b"
_GZIP_LEVEL: Final = 1
_WBITS: Final = 16 + zlib.MAX_WBITS


class LinesRejected(CollectorError):  # noqa: N818 - an outcome
    """Some lines are no events."""


class Unreadable(CollectorError):  # noqa: N818 - an outcome
    """The file cannot be read, or ends in the middle."""


@click.command("import", context_settings=CONTEXT)
@click.argument("file")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=BATCH_LINES,
    show_default=True,
    help="Lines sent at once; the same each time, for lines to be known again.",
)
@connected
def import_(client: Client, *, file: str, batch: int) -> None:
    """Store the events of FILE, or of stdin (-).

    It is NDJSON, or NDJSON in gzip. Type, severity, message, details, source and timestamp are kept; ids and created_at
    are new. Lines that are no events are named on stderr, cost no other, and make the exit code 1.

    To import a file again stores nothing twice, also after an import that broke off, for as long as the collector
    remembers idempotency keys (BRAIN_COLLECTOR_IDEMPOTENCY_KEY_LIFE_DAYS, 14). That holds for the same lines at the
    same places: of a file
    that was changed, import the new lines as a file of their own. It knows of imports alone: events that the
    collector got otherwise, such as those it exported itself, are stored a second time.
    """
    account = Account()
    with account.told_if_broken(), _opened(file) as source, progress("imported", source.size) as told:
        for lines in batches(source.lines, batch):
            account.add(lines, _send(client, lines))
            told(len(lines.numbers) if source.size is None else source.advanced())
    click.echo(str(account), err=True)
    if account.rejected:
        raise LinesRejected(f"{account.rejected:,} of {account.lines:,} lines were rejected")


class Account:
    """What became of the lines so far; the first rejected ones are named on stderr."""

    def __init__(self) -> None:
        self.lines = self.stored = self.there = self.rejected = self._named = 0

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.lines:,} lines: {self.stored:,} stored, {self.there:,} were there, {self.rejected:,} rejected"

    def add(self, batch: Batch, answer: BatchAnswer) -> None:
        """Add a batch."""
        self.lines += len(batch.numbers) + len(batch.long)
        self.rejected += answer.rejected + len(batch.long)
        if answer.duplicate:
            self.there += answer.accepted
        else:
            self.stored += answer.accepted
        wrong = [(number, f"it is over {BATCH_BYTES:,} bytes") for number in batch.long]
        wrong += [(batch.numbers[line.index], f"{line.code}: {line.detail}") for line in answer.errors]
        for number, why in sorted(wrong):
            if self._named < MOST_NAMED:
                click.echo(printable.one_line(f"line {number}: {why}"), err=True)
            elif self._named == MOST_NAMED:
                click.echo(f"more than {MOST_NAMED} lines are rejected; the others are counted", err=True)
            self._named += 1

    @contextmanager
    def told_if_broken(self) -> Iterator[None]:
        """Say how far it came, should it not come to its end."""
        try:
            yield
        except (CollectorError, KeyboardInterrupt):
            if self.lines:
                click.echo(f"so far {self}; the same command again goes on, and stores nothing twice", err=True)
            raise


def _send(client: Client, batch: Batch) -> BatchAnswer:
    if not batch.numbers:
        return BatchAnswer(0, 0, 0, duplicate=False, errors=[], errors_truncated=False)
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip", KEY_HEADER: str(batch.key)}
    try:
        answer = client.insist(BATCH_PATH, zlib.compress(batch.body, _GZIP_LEVEL, _WBITS), headers)
    except Refused as error:
        if error.status != 422 or not error.errors:
            raise
        return _none_valid(batch, error)
    return msgspec.json.decode(answer.data, type=BatchAnswer)


def _none_valid(batch: Batch, error: Refused) -> BatchAnswer:
    """Return the answer to a batch of which no line is an event; its problem names them as /<index>/<pointer>."""
    n = len(batch.numbers)
    errors = [LineError(int(each.pointer.split("/")[1]), each.code, each.detail) for each in error.errors]
    return BatchAnswer(n, 0, n, duplicate=False, errors=errors, errors_truncated=len(errors) < n)


class _Source:
    """An open file: its lines, its size in bytes (None: not known), and how far it was read."""

    def __init__(self, raw: io.BufferedReader, stack: ExitStack) -> None:
        found = os.fstat(raw.fileno())
        self.size = found.st_size if stat.S_ISREG(found.st_mode) else None
        packed = raw.peek(len(_GZIP)).startswith(_GZIP)
        self.lines: Lines = stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw
        self._raw = raw
        self._told = 0

    def advanced(self) -> int:
        """Return by how many bytes it was read on since the last time."""
        before, self._told = self._told, self._raw.tell()
        return self._told - before


@contextmanager
def _opened(file: str) -> Iterator[_Source]:
    with ExitStack() as stack:
        try:
            raw = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            yield _Source(cast("io.BufferedReader", raw), stack)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"{file}: {getattr(error, 'strerror', None) or error}") from None
