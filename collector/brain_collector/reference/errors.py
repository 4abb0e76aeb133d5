"""The error catalogue of docs/api.md, from the classes and their docstrings.

Made by `python -m brain_collector.reference.errors`.
"""

import inspect
import sys
from collections.abc import Iterable
from typing import Final

from brain_collector import errors
from brain_collector.errors import Problem, Unavailable

TRANSIENT: Final = frozenset({408, 425, 429, Unavailable.status})
"""Statuses that say nothing against the request: it may be sent again as it is."""


def catalogue() -> str:
    """Return the table, by status. The first paragraph of a docstring is when it comes, the rest is what to do."""
    rows = [_row(problem) for problem in sorted(_public(), key=lambda each: (each.status, each.code))]
    return "\n".join(["| status | `code` | when | send it again? | what to do |", "|---|---|---|---|---|", *rows])


def _public() -> Iterable[type[Problem]]:
    """Return the problems of `errors`: those that other modules derive answer with the same code."""
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, Problem) and found is not Problem:
            yield found


def _row(problem: type[Problem]) -> str:
    when, _, what_to_do = inspect.cleandoc(problem.__doc__ or "").partition("\n\n")
    if not what_to_do:
        raise ValueError(f"{problem.__name__} says not what to do: add a second paragraph to its docstring")
    again = "as it is" if problem.status in TRANSIENT else "once changed"
    cells = (str(problem.status), f"`{problem.code}`", when, again, what_to_do)
    return f"| {' | '.join(' '.join(cell.split()) for cell in cells)} |"


if __name__ == "__main__":
    sys.stdout.write(catalogue() + "\n")
