"""The facade: what it exports, and what importing it does not do."""

import brain_events
from tests.support.sdk import run_script


def test_all_is_sorted_and_names_what_is_there() -> None:
    assert brain_events.__all__ == sorted(brain_events.__all__)
    assert all(hasattr(brain_events, name) for name in brain_events.__all__)


def test_everything_public_is_in_all() -> None:
    public = {
        name
        for name, value in vars(brain_events).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("brain_events")
    }
    assert public <= set(brain_events.__all__)


def test_importing_costs_no_library_no_thread_and_no_look_at_the_environment() -> None:
    done = run_script("""
        import os, sys, threading

        asked = []
        class Spy(type(os.environ)):
            def __getitem__(self, name):
                asked.append(name)
                return super().__getitem__(name)
        os.environ.__class__ = Spy

        import brain_events
        heavy = {"urllib3", "structlog", "starlette", "asyncio", "http", "email"} & sys.modules.keys()
        print(sorted(heavy), threading.active_count(), [name for name in asked if "BRAIN" in name])
    """)
    assert done.stdout == "[] 1 []\n", done.stderr


def test_init_imports_urllib3_on_the_callers_thread_and_starts_no_thread() -> None:
    done = run_script("""
        import sys, threading, brain_events
        brain_events.init("http://127.0.0.1:9")
        print("urllib3" in sys.modules, threading.active_count())
    """)
    assert done.stdout == "True 1\n", done.stderr


def test_the_adapter_for_structlog_does_not_shadow_structlog() -> None:
    done = run_script("""
        import brain_events.structlog, structlog
        print(structlog.get_logger is not None, brain_events.structlog is not structlog)
    """)
    assert done.stdout == "True True\n", done.stderr
