"""`brain-events histogram`: the number of events over time, as bars in the terminal."""

import sys
from typing import Any, Final

import click
import msgspec

from brain_collector import printable
from brain_collector.cli.client import Client
from brain_collector.cli.help_layout import command, option
from brain_collector.cli.options import connected, display_options, filter_options, filter_parameters, use_colour
from brain_collector.cli.render import COLOURS, TextStyle, json_document
from brain_collector.schema import Histogram, Series

WIDTH: Final = 60
"""Columns of the longest bar."""
_MARKS: Final = "█▓▒░"
_MAX_SERIES: Final = {"severity": "4", "event_type": "3", "source": "3", "none": "1"}
"""Number of values with their own mark: every severity; of other fields three, since one mark is for all others."""
_HUES: Final = ("cyan", "magenta", "blue", "yellow", "green", "red")


@command()
@filter_options
@option(
    "--step",
    default="auto",
    show_default=True,
    metavar="STEP",
    help="Time span of a bar, for example 5m or 1h. `auto` chooses one for the range.",
)
@option(
    "--by",
    metavar="FIELD",
    type=click.Choice(["severity", "event_type", "source", "none"]),
    default="severity",
    show_default=True,
    help="Field that splits each bar: severity, event_type, source or none.",
)
@option("--json", "as_json", is_flag=True, help="Print the collector's JSON response.")
@display_options
@connected
def histogram(client: Client, *, step: str, by: str, as_json: bool, color: str, tz: str, **filters: Any) -> None:
    """Count events over time, by default over the last 24 hours.

    Prints one bar for each step. The last line shows the total, and a legend of the marks.
    """
    response = client.get(
        "/api/events/histogram",
        [*filter_parameters(**filters), ("step", step), ("by", by), ("by_limit", _MAX_SERIES[by])],
    )
    if as_json:
        click.echo(json_document(response))
        return
    style = TextStyle(colour=use_colour(color, is_terminal=sys.stdout.isatty()), local=tz == "local")
    counts = msgspec.json.decode(response, type=Histogram)
    if counts.partial:
        click.echo(
            f"the collector's time for this query ran out: only events from {style.time(counts.counted_from)} on are "
            "counted; narrow the range with --since and --until",
            err=True,
        )
    for line in bars(counts, style):
        click.echo(line, color=True)


def bars(histogram: Histogram, style: TextStyle) -> list[str]:
    """Return a line for each bucket, and the legend; each series has its own mark and colour."""
    other = histogram.other
    series = [*histogram.series, *([Series("all others", other.counts, other.total)] if other.total else [])]
    marks = [_MARKS[min(n, len(_MARKS) - 1)] for n in range(len(series))]
    hues = [COLOURS.get(one.value or "", _HUES[n % len(_HUES)]) for n, one in enumerate(series)]
    totals = [sum(one.counts[bucket] for one in series) for bucket in range(len(histogram.starts))]
    events_per_column = max(1.0, max(totals, default=0) / WIDTH)
    lines = []
    for bucket, start in enumerate(histogram.starts):
        widths = _widths([one.counts[bucket] for one in series], events_per_column)
        bar = "".join(style.styled(mark * n, fg=hue) for mark, hue, n in zip(marks, hues, widths, strict=True) if n)
        lines.append(f"{style.time(start)[:19]} {totals[bucket]:>9,} {bar}".rstrip())
    legend = "  ".join(
        f"{style.styled(mark, fg=hue)} {printable.one_line(one.value or 'none')} {one.total:,}"
        for mark, hue, one in zip(marks, hues, series, strict=True)
    )
    return [*lines, f"{'total':<19} {histogram.total:>9,} {legend}".rstrip()]


def _widths(counts: list[int], events_per_column: float) -> list[int]:
    """Return the columns of each series in a bar; a series that is not empty has at least one."""
    ends, position = [], 0.0
    for n in counts:
        position += n / events_per_column
        ends.append(round(position))
    return [max(end - start, 1 if n else 0) for start, end, n in zip([0, *ends], ends, counts, strict=False)]
