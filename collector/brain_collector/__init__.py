"""The collector: stores events in Postgres, serves queries over HTTP, and records its own health as events."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    VERSION: str


def __getattr__(name: str) -> Any:
    """Read the version when it is first used: reading it takes longer than the rest of a `--help`."""
    if name == "VERSION":
        from importlib.metadata import version  # noqa: PLC0415 - imported only when the version is used

        return version("brain-events")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
