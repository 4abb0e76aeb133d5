"""`brain-events histogram`: how many events there were when, as bars in the terminal."""

import sys
from typing import Any, Final

import click
import msgspec

from brain_collector import printable
from brain_collector.cli.client import Client
from brain_collector.cli.options import CONTEXT, asked, coloured, connected, filter_options, look_options
from brain_collector.cli.render import COLOURS, Look
from brain_collector.schema import Histogram, Series

WIDTH: Final = 60
"""Columns of the longest bar."""
_MARKS: Final = "█▓▒░"
_SHOWN: Final = {"severity": "4", "event_type": "3", "source": "3", "none": "1"}
"""How many values have a mark of their own: every severity, else as many as leave one for all others."""
_HUES: Final = ("cyan", "magenta", "blue", "yellow", "green", "red")


@click.command(context_settings=CONTEXT)
@filter_options
@click.option("--step", default="auto", show_default=True, metavar="STEP", help="Length of a bar's time, as 5m, 1h.")
@click.option(
    "--by",
    type=click.Choice(["severity", "event_type", "source", "none"]),
    default="severity",
    show_default=True,
    help="What a bar is split by.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, as the collector answers.")
@look_options
@connected
def histogram(client: Client, *, step: str, by: str, as_json: bool, color: str, tz: str, **wanted: Any) -> None:
    """Count events over time: of the last 24 hours, unless told."""
    answer = client.get(
        "/api/events/histogram", [*asked(**wanted), ("step", step), ("by", by), ("by_limit", _SHOWN[by])]
    )
    if as_json:
        click.echo(printable.json_text(answer.decode()))
        return
    look = Look(colour=coloured(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    found = msgspec.json.decode(answer, type=Histogram)
    if found.partial:
        click.echo(f"only what is from {look.moment(found.counted_from)} on was counted in the time there is", err=True)
    for line in drawn(found, look):
        click.echo(line, color=True)


def drawn(found: Histogram, look: Look) -> list[str]:
    """Return a line a bucket and, below, what the marks are; each series has a mark and a colour of its own."""
    series = [
        *found.series,
        *([Series("all others", found.other.counts, found.other.total)] if found.other.total else []),
    ]
    marks = [_MARKS[min(place, len(_MARKS) - 1)] for place in range(len(series))]
    hues = [COLOURS.get(each.value or "", _HUES[place % len(_HUES)]) for place, each in enumerate(series)]
    totals = [sum(each.counts[place] for each in series) for place in range(len(found.starts))]
    per_column = max(1.0, max(totals, default=0) / WIDTH)
    lines = []
    for place, start in enumerate(found.starts):
        columns = _columns([each.counts[place] for each in series], per_column)
        bar = "".join(look.style(mark * n, fg=hue) for mark, hue, n in zip(marks, hues, columns, strict=True) if n)
        lines.append(f"{look.moment(start)[:19]} {totals[place]:>9,} {bar}".rstrip())
    legend = "  ".join(
        f"{look.style(mark, fg=hue)} {printable.one_line(each.value or 'none')} {each.total:,}"
        for mark, hue, each in zip(marks, hues, series, strict=True)
    )
    return [*lines, f"{'total':<19} {found.total:>9,} {legend}".rstrip()]


def _columns(counts: list[int], per_column: float) -> list[int]:
    """Share a bar's columns out; what is there at all is seen."""
    ends, reached = [], 0.0
    for n in counts:
        reached += n / per_column
        ends.append(round(reached))
    return [max(end - start, 1 if n else 0) for start, end, n in zip([0, *ends], ends, counts, strict=False)]
