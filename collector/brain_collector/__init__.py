"""The collector: persists events in Postgres, answers queries over HTTP, logs its own health as events."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    VERSION: str


def __getattr__(name: str) -> Any:
    """Read the version when it is asked for: it costs more than the rest of a `--help`."""
    if name == "VERSION":
        from importlib.metadata import version  # noqa: PLC0415 - as said

        return version("brain-events")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
