"""The output of all benchmarks: Markdown tables of medians over the rounds, with factors relative to one row."""

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
    """Show the factor by which the figure differs from that of the row `ours`."""


def medians(rounds: list[Figures]) -> Figures:
    keys = {key for figures in rounds for key in figures}
    return {key: statistics.median(figures[key] for figures in rounds if key in figures) for key in keys}


def table(title: str, columns: list[Column], rows: Mapping[str, list[Figures]], ours: str) -> str:
    """Return a Markdown table with one row per subject."""
    rows_by_subject = {subject: medians(rounds) for subject, rounds in rows.items()}
    lines = [f"### {title}", "", "| | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for subject, row in rows_by_subject.items():
        cells = [cell(column, row, {} if subject == ours else rows_by_subject.get(ours, {})) for column in columns]
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
    """Return the environment of the run, which the figures depend on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average_1min": os.getloadavg()[0],
        "rounds": rounds,
        **more,
        "packages": {package: installed(package) for package in packages},
    }


def print_about(title: str, environment: dict[str, Any]) -> None:
    print(f"# {title}\n\nFigures are medians over the rounds. Compare only figures of one run.\n")
    print("".join(f"- {key}: {value}\n" for key, value in environment.items()))
