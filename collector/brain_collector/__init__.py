"""The collector: stores events in Postgres, serves queries over HTTP, and records its own health as events.

Each folder is a wing; its docstring says what it does, what it may import and what it must not know. To follow one
event through the code, read in this order: `http.protocol`, `access.guard`, `api.batch`, `http.body`, `ingest.decode`,
`ingest.gathering`, `ingest.writer`, `ingest.transaction`, `counts.journal`. To follow one query: `api.event_list`,
`api.parameters`, `cache`, `query.filter`, `read.pages`, `read.store`; one stream: `api.stream`, `tail.reader`,
`tail.commit_order`. `server.lifespan` starts every task, `jobs.scheduler` lists the jobs. The *shared files*
(`errors`, `settings`, `shares`, `schema`, `metrics`, `logs`, `printable`) belong to no wing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    VERSION: str


def __getattr__(name: str) -> Any:
    """Read the version when it is first used: reading it takes longer than the rest of a `--help`."""
    if name == "VERSION":
        from importlib.metadata import version  # noqa: PLC0415 - imported only when the version is used

        return version("brain-events")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
