"""The list of the generated pages."""

from collections.abc import Callable
from typing import Final

from brain_collector.reference import cli, configuration, errors, metrics, schema

PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli.render,
    "configuration.md": configuration.render,
    "database-schema.md": schema.render,
    "errors.md": errors.render,
    "metrics.md": metrics.render,
    "own-events.md": metrics.render_own_events,
}
"""The pages of `docs/reference` that are generated, and what renders them."""
