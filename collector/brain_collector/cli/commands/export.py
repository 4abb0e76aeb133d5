"""`brain-events export`: all events of a filter into a file, however many; it can be gone on with."""

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
from brain_collector.cli.options import CONTEXT, asked, connected, filter_options
from brain_collector.cli.progress import progress
from brain_collector.cli.render import Found, Look, event
from brain_collector.errors import CollectorError


@click.command(context_settings=CONTEXT)
@click.argument("file", default="-")
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "json", "csv"]),
    default="ndjson",
    show_default=True,
    help="An event a line, one array, or a table for spreadsheets.",
)
@click.option("--resume", is_flag=True, help="Go on with FILE.part, of an export that broke off; NDJSON only.")
@filter_options
@connected
def export(client: Client, *, file: str, form: str, resume: bool, **wanted: Any) -> None:
    """Write all events of a filter to FILE, or to stdout (-).

    The newest comes first. What is written is FILE.part, which takes FILE's place when it is whole. A connection that
    breaks is gone on with; should the command itself break off, --resume goes on behind the last whole line: give the
    same filters again.
    """
    if resume and (form != "ndjson" or file == "-"):
        raise click.UsageError("--resume is for an export to a file, as ndjson")
    if file == "-":
        write = _to_terminal if sys.stdout.isatty() else sys.stdout.buffer.write
        for chunk in _content(client, asked(**wanted), form, shown=not sys.stdout.isatty()):
            write(chunk)
        return
    with _told_of_part(Path(file), resumable=form == "ndjson"), part_file.written(Path(file), resume=resume) as part:
        last = part_file.last_line(part) if resume else b""
        for chunk in _content(client, asked(**wanted), form, last=_checked(last, file)):
            part.write(chunk)


def _content(
    client: Client, wanted: list[tuple[str, str]], form: str, *, last: bytes = b"", shown: bool = True
) -> Iterator[bytes]:
    """Yield the document, piece by piece, and show how far it is."""
    with progress("events", shown=shown) as told:

        def lines() -> Iterator[bytes]:
            for chunk in walk(client, wanted, last):
                yield chunk
                told(chunk.count(b"\n"))

        if form == "ndjson":
            yield from lines()
        else:
            for text in query.written(_events(lines()), form, Look(colour=False, local=False)):
                yield text.encode()


def _events(chunks: Iterable[bytes]) -> Iterator[Found]:
    return (event(line) for chunk in chunks for line in chunk.split(b"\n")[:-1])


def _to_terminal(chunk: bytes) -> None:
    click.echo(query.for_terminal(chunk.decode()), nl=False)


def _checked(last: bytes, file: str) -> bytes:
    try:
        if last:
            event(last)
    except msgspec.MsgspecError as error:
        raise click.FileError(f"{file}.part", f"its last line is no event: {error}") from None
    return last


@contextmanager
def _told_of_part(path: Path, *, resumable: bool) -> Iterator[None]:
    """Say where the part is, should it not become the whole."""
    try:
        yield
    except (CollectorError, KeyboardInterrupt):
        part = part_file.part_of(path.resolve())
        if part.exists() and part.stat().st_size:
            then = "; the same command with --resume goes on" if resumable else ""
            click.echo(f"what there is is in {part}{then}", err=True)
        raise
