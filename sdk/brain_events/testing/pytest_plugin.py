"""The pytest plugin, which pytest loads automatically: test runs send no events, and a fixture captures them.

It applies to the process that runs the tests (each process, with pytest-xdist), not to processes that tests start.
`-p no:brain_events` disables it: then events are sent if the application calls `init`.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from brain_events.testing import capture_events, sending_off
from brain_events.wire import Event

_OFF = pytest.StashKey[ExitStack]()


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Turn sending off before a `conftest.py` can call `init`."""
    _turn_off(early_config)


def pytest_configure(config: pytest.Config) -> None:
    """Turn sending off if the plugin was loaded too late for the other hook (`pytest_plugins = ...`)."""
    _turn_off(config)


def pytest_report_header() -> str:
    """Report that sending is off."""
    return "brain-events: this process does not send events (-p no:brain_events disables this)"


@pytest.fixture
def brain_events() -> Iterator[list[Event]]:
    """Every event that the test logs, in order, as a list of `brain_events.Event`; nothing is sent."""
    with capture_events() as events:
        yield events


def _turn_off(config: pytest.Config) -> None:
    if _OFF not in config.stash:
        config.stash[_OFF] = off = ExitStack()
        off.enter_context(sending_off())
        config.add_cleanup(off.close)
