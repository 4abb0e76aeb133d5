"""The collector: persists events in Postgres, answers queries over HTTP, logs its own health as events."""

from importlib.metadata import version
from typing import Final

VERSION: Final = version("brain-events")
