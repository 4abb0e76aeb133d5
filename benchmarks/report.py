"""What all benchmarks print: Markdown tables of medians over rounds, with factors beside one row."""

import os
import platform
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

Figures = dict[str, float]


class Column(NamedTuple):
    title: str
    key: str
    form: str = "{:.1f}"
    is_ratio: bool = False
    """Show how many times the figure of the row that is `ours` it is."""


def medians(rounds: list[Figures]) -> Figures:
    keys = {key for figures in rounds for key in figures}
    return {key: statistics.median(figures[key] for figures in rounds if key in figures) for key in keys}


def table(title: str, columns: list[Column], rows: Mapping[str, list[Figures]], ours: str) -> str:
    """Return a Markdown table, a row a subject."""
    found = {subject: medians(rounds) for subject, rounds in rows.items()}
    lines = [f"### {title}", "", "| | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for subject, row in found.items():
        cells = [cell(column, row, {} if subject == ours else found.get(ours, {})) for column in columns]
        lines.append(f"| {subject} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(column: Column, row: Figures, ours: Figures) -> str:
    if column.key not in row:
        return "-"
    text = column.form.format(row[column.key])
    if column.is_ratio and ours.get(column.key, 0) > 0:
        text += f" (x{row[column.key] / ours[column.key]:.2g})"
    return text


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def about(rounds: int, packages: tuple[str, ...], **more: Any) -> dict[str, Any]:
    """Return what a reader must know to read the figures."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average_1min": os.getloadavg()[0],
        "rounds": rounds,
        **more,
        "packages": {package: installed(package) for package in packages},
    }


def print_about(title: str, found: dict[str, Any]) -> None:
    print(f"# {title}\n\nRatios within one run are what counts; medians over the rounds.\n")
    print("".join(f"- {key}: {value}\n" for key, value in found.items()))
