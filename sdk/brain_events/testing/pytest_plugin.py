"""A plugin of pytest, loaded with it: no test run of an application sends events, and a fixture shows them.

It holds for the process that runs the tests (each process, with pytest-xdist), not for those that tests start.
`-p no:brain_events` leaves it out: then events are sent, if the application says so.
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
    """Turn sending off, should the plugin have come too late for the other hook (`pytest_plugins = ...`)."""
    _turn_off(config)


def pytest_report_header() -> str:
    """Say so."""
    return "brain-events: events are not sent by this process (-p no:brain_events: they are)"


@pytest.fixture
def brain_events() -> Iterator[list[Event]]:
    """Every event that the test logs, in order: a list of `brain_events.Event`; nothing is sent."""
    with capture_events() as events:
        yield events


def _turn_off(config: pytest.Config) -> None:
    if _OFF not in config.stash:
        config.stash[_OFF] = off = ExitStack()
        off.enter_context(sending_off())
        config.add_cleanup(off.close)
