"""Runs the demo: a collector on temporary data in this process, the tour beside it in a thread."""

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
from brain_collector.server.engines import Backed
from brain_collector.settings import Settings


def demo(settings: Settings, *, visits: int, exit_after: bool, say: Callable[[str], None]) -> None:
    """Serve a collector, take the tour, and serve on until Ctrl-C, unless `exit_after`.

    Raises:
        CollectorError: the collector or the shop did not run, or an event went missing.
    """
    failed: list[CollectorError] = []

    def on_ready(url: str, found: Backed) -> None:
        def take_tour() -> None:
            try:
                tour(url, found.settings.api_key, visits, say)
            except CollectorError as error:
                failed.append(error)
            if exit_after or failed:
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                say(f"\nLook at {url}/docs or ask yourself: curl '{url}/api/events?severity=error'")
                say("Ctrl-C ends the demo.")

        threading.Thread(target=take_tour, name="brain-events-demo", daemon=True).start()

    with _temporary_dir() as data_dir:
        say("A collector starts, on a PostgreSQL and a Valkey of its own.")
        mine = msgspec.structs.replace(settings, data_dir=str(data_dir), database_url=None, redis_url=None)
        serve.serve(mine, on_ready)
    if failed:
        raise failed[0]


@contextmanager
def _temporary_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="brain-events-demo-"))
    try:
        path.chmod(0o711)  # root's engines run as another user, who must get through
        yield path / "data"
    finally:
        shutil.rmtree(path)
