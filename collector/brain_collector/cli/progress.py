"""The progress of a long command, on stderr, for people: nothing is shown if stderr is not a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int | None = None, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances the progress by n steps, of `length` in total (None: unknown)."""
    if not shown or not sys.stderr.isatty():
        yield lambda _n: None
        return
    template = "%(label)s  [%(bar)s]  %(info)s" if length else "%(label)s  %(info)s"
    endless: Iterator[None] | None = None if length else (None for _ in ())  # an iterator has no known length
    with click.progressbar(endless, length, label, show_pos=not length, file=sys.stderr, bar_template=template) as bar:
        yield bar.update
