"""`brain-events export`: writes all events of a filter, however many, to a file; an export can be resumed."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from brain_collector.cli import part_file
from brain_collector.cli.client import Client
from brain_collector.cli.commands import query
from brain_collector.cli.export_pages import walk
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import connected, filter_options, filter_parameters
from brain_collector.cli.progress import progress
from brain_collector.cli.render import StoredEvent, TextStyle, decode_event
from brain_collector.errors import CollectorError


@command()
@click.argument("file", default="-")
@option(
    "--format",
    "output",
    type=click.Choice(["ndjson", "json", "csv"]),
    default="ndjson",
    show_default=True,
    help="`ndjson`: one JSON object per line. `json`: one array. `csv`: a table for spreadsheets.",
)
@option("--resume", is_flag=True, help="Resume an interrupted export from FILE.part. NDJSON only.")
@filter_options
@connected
def export(client: Client, *, file: str, output: str, resume: bool, **filters: Any) -> None:
    """Write all matching events to FILE, or to stdout (-).

    The newest event comes first. Data is written to FILE.part, which is renamed to FILE when it is complete. A broken
    connection is resumed. If the command itself is interrupted, run it again with --resume and the same filters: it
    continues after the last complete line of FILE.part.
    """
    if resume and (output != "ndjson" or file == "-"):
        raise click.UsageError("--resume needs a FILE and --format ndjson")
    if file == "-":
        write = _write_to_terminal if sys.stdout.isatty() else sys.stdout.buffer.write
        for chunk in _document(client, filter_parameters(**filters), output, progress_shown=not sys.stdout.isatty()):
            write(chunk)
        return
    with (
        _part_named_on_failure(Path(file), resumable=output == "ndjson"),
        part_file.open_part(Path(file), resume=resume) as part,
    ):
        last = part_file.last_line(part) if resume else b""
        _check_is_event(last, file)
        for chunk in _document(client, filter_parameters(**filters), output, last=last):
            part.write(chunk)


def _document(
    client: Client, parameters: list[tuple[str, str]], output: str, *, last: bytes = b"", progress_shown: bool = True
) -> Iterator[bytes]:
    """Yield the document in chunks, and show the progress."""
    with progress("events", shown=progress_shown) as advance:

        def lines() -> Iterator[bytes]:
            for chunk in walk(client, parameters, last):
                yield chunk
                advance(chunk.count(b"\n"))

        if output == "ndjson":
            yield from lines()
        else:
            for text in query.rendered(_events(lines()), output, TextStyle(colour=False, local=False)):
                yield text.encode()


def _events(chunks: Iterable[bytes]) -> Iterator[StoredEvent]:
    return (decode_event(line) for chunk in chunks for line in chunk.split(b"\n")[:-1])


def _write_to_terminal(chunk: bytes) -> None:
    click.echo(query.escaped_for_terminal(chunk.decode()), nl=False)


def _check_is_event(line: bytes, file: str) -> None:
    try:
        if line:
            decode_event(line)
    except msgspec.MsgspecError as error:
        raise click.FileError(
            f"{file}.part", f"the last line is not an event ({error}); export without --resume, or to another file"
        ) from None


@contextmanager
def _part_named_on_failure(path: Path, *, resumable: bool) -> Iterator[None]:
    """Print the path of the part if the export fails."""
    try:
        yield
    except (CollectorError, KeyboardInterrupt):
        part = part_file.part_of(path.resolve())
        if part.exists() and part.stat().st_size:
            advice = "; resume with the same command and --resume" if resumable else ""
            click.echo(f"partial export kept in {part}{advice}", err=True)
        raise
