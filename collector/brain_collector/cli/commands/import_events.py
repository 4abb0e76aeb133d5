"""`brain-events import`: stores events of an NDJSON file in batches whose idempotency keys make repeating it safe."""

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
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.import_batches import BATCH_BYTES, BATCH_LINES, Batch, Lines, batches
from brain_collector.cli.options import connected
from brain_collector.cli.progress import progress
from brain_collector.errors import CollectorError
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON, BatchAnswer, LineError

MAX_NAMED_LINES: Final = 100
"""Maximum number of rejected lines that are named."""
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_LEVEL: Final = 1
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS


class LinesRejected(CollectorError):  # noqa: N818 - an outcome
    """Some lines are not valid events."""


class Unreadable(CollectorError):  # noqa: N818 - an outcome
    """The file cannot be read, or is truncated."""


@command("import")
@click.argument("file")
@option(
    "--batch",
    type=click.IntRange(1, 10_000),
    metavar="N",
    default=BATCH_LINES,
    show_default=True,
    help="Number of lines in a request. Use the same number when you import a file again.",
)
@connected
def import_(client: Client, *, file: str, batch: int) -> None:
    """Store the events of an NDJSON file, or of stdin (-).

    FILE has one JSON object per line; it may be compressed with gzip. Type, severity, message, details, source and
    timestamp are kept; id and created_at are new. Lines that are not valid events are named on stderr and
    do not affect the others; the exit code is 1 then.

    Importing the same file again stores nothing twice, also after an interrupted import, for as long as the collector
    remembers idempotency keys (BRAIN_COLLECTOR_IDEMPOTENCY_KEY_LIFE_DAYS, by default 14 days). This holds for the same
    lines at the same positions: if lines were added to a file, import the new lines as a separate file. Only imports
    are recognized: events that the collector received otherwise, such as those that it exported itself, are stored a
    second time.
    """
    account = Account()
    with account.printed_on_failure(), _opened(file) as source, progress("imported", source.size) as advance:
        for lines in batches(source.lines, batch):
            account.add(lines, _send(client, lines))
            advance(len(lines.numbers) if source.size is None else source.read_since_last_call())
    click.echo(str(account), err=True)
    if account.rejected:
        raise LinesRejected(f"{account.rejected:,} of {account.lines:,} lines were rejected")


class Account:
    """The outcome of the lines so far; the first rejected lines are named on stderr."""

    def __init__(self) -> None:
        self.lines = self.stored = self.duplicates = self.rejected = self._named = 0

    def __str__(self) -> str:
        """Return the outcome as one line."""
        return (
            f"{self.lines:,} lines: {self.stored:,} stored, {self.duplicates:,} already stored, "
            f"{self.rejected:,} rejected"
        )

    def add(self, batch: Batch, answer: BatchAnswer) -> None:
        """Add the outcome of a batch."""
        self.lines += len(batch.numbers) + len(batch.too_long)
        self.rejected += answer.rejected + len(batch.too_long)
        if answer.duplicate:
            self.duplicates += answer.accepted
        else:
            self.stored += answer.accepted
        reasons = [(number, f"the line is longer than {BATCH_BYTES:,} bytes") for number in batch.too_long]
        reasons += [(batch.numbers[line.index], f"{line.code}: {line.detail}") for line in answer.errors]
        for number, reason in sorted(reasons):
            if self._named < MAX_NAMED_LINES:
                click.echo(printable.one_line(f"line {number}: {reason}"), err=True)
            elif self._named == MAX_NAMED_LINES:
                click.echo(
                    f"more than {MAX_NAMED_LINES} lines are rejected; further ones are counted, but not named", err=True
                )
            self._named += 1

    @contextmanager
    def printed_on_failure(self) -> Iterator[None]:
        """Print the outcome so far if the import fails."""
        try:
            yield
        except (CollectorError, KeyboardInterrupt):
            if self.lines:
                click.echo(f"so far {self}; run the same command again to resume: nothing is stored twice", err=True)
            raise


def _send(client: Client, batch: Batch) -> BatchAnswer:
    if not batch.numbers:
        return BatchAnswer(0, 0, 0, duplicate=False, errors=[], errors_truncated=False)
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip", KEY_HEADER: str(batch.idempotency_key)}
    try:
        response = client.post_with_retries(BATCH_PATH, zlib.compress(batch.body, _GZIP_LEVEL, _GZIP_WBITS), headers)
    except Refused as error:
        if error.status != 422 or not error.errors:
            raise
        return _all_rejected(batch, error)
    return msgspec.json.decode(response.data, type=BatchAnswer)


def _all_rejected(batch: Batch, error: Refused) -> BatchAnswer:
    """Return the answer for a batch without a valid line; its problem names the lines as /<index>/<pointer>."""
    n = len(batch.numbers)
    errors = [LineError(int(field.pointer.split("/")[1]), field.code, field.detail) for field in error.errors]
    return BatchAnswer(n, 0, n, duplicate=False, errors=errors, errors_truncated=len(errors) < n)


class _Source:
    """An open file: its lines, its size in bytes (None: unknown), and how much of it has been read."""

    def __init__(self, raw: io.BufferedReader, stack: ExitStack) -> None:
        status = os.fstat(raw.fileno())
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        compressed = raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC)
        self.lines: Lines = stack.enter_context(gzip.GzipFile(fileobj=raw)) if compressed else raw
        self._raw = raw
        self._reported = 0

    def read_since_last_call(self) -> int:
        """Return the number of bytes that were read since the last call."""
        before, self._reported = self._reported, self._raw.tell()
        return self._reported - before


@contextmanager
def _opened(file: str) -> Iterator[_Source]:
    with ExitStack() as stack:
        try:
            raw = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            yield _Source(cast("io.BufferedReader", raw), stack)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"{file}: {getattr(error, 'strerror', None) or error}") from None
