"""Runs the demo: a collector on temporary data in this process, and the tour in a thread."""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from brain_collector.demo.tour import tour
from brain_collector.errors import CollectorError
from brain_collector.server import serve
from brain_collector.server.engines import Backend
from brain_collector.settings import Settings


def demo(settings: Settings, *, visits: int, exit_after: bool, say: Callable[[str], None]) -> None:
    """Serve a collector and run the tour; then keep serving until Ctrl-C, unless `exit_after`.

    Raises:
        CollectorError: the collector or the shop failed, or an event was not stored exactly once.
    """
    errors: list[CollectorError] = []

    def on_ready(url: str, engines: Backend) -> None:
        def run_tour() -> None:
            try:
                tour(url, engines.settings.api_key, visits, say)
            except CollectorError as error:
                errors.append(error)
            if exit_after or errors:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                say(f"\nThe collector keeps running. Open the dashboard at {url}/ or the manual at {url}/manual,")
                say(f"or query it: curl '{url}/api/events?severity=error'")
                say("Press Ctrl-C to stop. Nothing is kept.")

        threading.Thread(target=run_tour, name="brain-events-demo", daemon=True).start()

    with _temporary_dir() as data_dir:
        say("Starting a collector with its own PostgreSQL and Valkey ...")
        demo_settings = msgspec.structs.replace(settings, data_dir=str(data_dir), database_url=None, redis_url=None)
        serve.serve(demo_settings, on_ready)
    if errors:
        raise errors[0]


@contextmanager
def _temporary_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="brain-events-demo-"))
    try:
        path.chmod(0o711)  # engines of root run as another user, which must be able to enter
        yield path / "data"
    finally:
        shutil.rmtree(path)
