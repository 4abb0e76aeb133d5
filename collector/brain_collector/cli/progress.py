"""How far a long command is, on stderr, for people: nothing at all when no terminal is there to show it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, length: int | None = None, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield what is told of each step: how much more is done, of `length` in all (None: not known)."""
    if not shown or not sys.stderr.isatty():
        yield lambda _n: None
        return
    how = "%(label)s  [%(bar)s]  %(info)s" if length else "%(label)s  %(info)s"
    unknown: Iterator[None] | None = None if length else (None for _ in ())  # an iterator whose length is not known
    with click.progressbar(unknown, length, label, show_pos=not length, file=sys.stderr, bar_template=how) as begun:
        yield begun.update
