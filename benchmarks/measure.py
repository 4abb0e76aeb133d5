"""Runs one scenario with one subject in its own process, and prints the figures as a line of JSON."""

import argparse
import asyncio
import json
import mmap
import os
import random
import resource
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from subjects import Target

CALLS_IN_A_ROW = 200
PAUSE_S = 0.02
"""Pause after each series of calls, in which the subject's worker can send: about 10,000 events a second."""

TASKS = 10_000
TICK_S = 0.001
FORKS = 4
FORK_TIMEOUT_S = 40

Figures = dict[str, float]


def rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def percentiles(samples_ns: list[int], prefix: str, cost_ns: float = 0) -> Figures:
    ordered = sorted(samples_ns)
    last = len(ordered) - 1
    points = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {f"{prefix}_{name}_us": (ordered[round(last * at)] - cost_ns) / 1000 for name, at in points.items()}


def timed(call: Callable[[int], Any], count: int, pause_s: float = PAUSE_S) -> list[int]:
    """Return the time of each of `count` calls in ns, including that of the clock."""
    clock = time.perf_counter_ns
    samples = []
    for first in range(0, count, CALLS_IN_A_ROW):
        for n in range(first, first + CALLS_IN_A_ROW):
            started = clock()
            call(n)
            samples.append(clock() - started)
        time.sleep(pause_s)
    return samples


def cost_of_measuring_ns() -> float:
    """Return the time of the clock and of a call that does nothing."""
    return statistics.median(timed(lambda _: None, 20_000, 0))


def measure_calls(subject: Any, count: int) -> Figures:
    figures: Figures = {}
    cost_ns = cost_of_measuring_ns()
    for shape in ("flat", "nested", "bound", "failed"):
        if getattr(subject, shape) is None:
            continue
        call = subject.flat if shape == "bound" else getattr(subject, shape)
        with subject.bound() if shape == "bound" else nullcontext():
            try:
                raise LookupError("the error that `failed` logs")  # noqa: TRY301 -- `failed` logs the exception that is being handled
            except LookupError:
                timed(call, CALLS_IN_A_ROW)  # warm up
                figures |= percentiles(timed(call, count), shape, cost_ns)
        subject.flush()
    return figures


def measure_burst(subject: Any, count: int) -> Figures:
    call = subject.flat
    call(-1)
    subject.flush()
    cpu, begin_s = time.process_time(), time.monotonic()
    for n in range(count):
        call(n)
    handed_over_s = time.monotonic() - begin_s
    subject.flush()
    return {
        "begin_s": begin_s,
        "handed_over_s": handed_over_s,
        "cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_exit(subject: Any, count: int) -> Figures:
    for n in range(count):
        subject.flat(n)
    return {"ended_s": time.monotonic()}


def emit(subject: Any, count: int, rate: int, progress: str) -> Figures:
    """Log `count` events at `rate` a second; after each call, write the number of returned calls to `progress`."""
    with Path(progress).open("r+b") as file, mmap.mmap(file.fileno(), 8) as returned:
        begin_s = time.monotonic()
        for n in range(count):
            if (ahead_s := begin_s + n / rate - time.monotonic()) > 0.002:
                time.sleep(ahead_s)
            subject.flat(n)
            returned[:] = (n + 1).to_bytes(8)
    return {"ended_s": time.monotonic()}


def follow(subject: Any) -> Figures:
    """Act as the next process of the same application, after one that ended abnormally."""
    subject.flat(-1)
    subject.flush()
    time.sleep(3)
    return {}


def measure_fork(subject: Any, count: int) -> Figures:
    """Log in this process, fork as gunicorn does with `--preload`, and log the rest in the children."""
    subject.flat(-1)
    subject.flush()
    begin_s, children = time.monotonic(), []
    for first in range(FORKS):
        if (child := os.fork()) == 0:
            signal.alarm(FORK_TIMEOUT_S)  # a child that hangs is killed
            for n in range(first, count, FORKS):
                subject.flat(n)
            sys.exit()
        children.append(child)
    killed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    return {"children_s": time.monotonic() - begin_s, "killed": killed}


async def measure_loop(subject: Any, count: int) -> Figures:
    """Let many tasks log occasionally; return the greatest delay of the event loop, without and with the calls."""
    without = await lateness_ms(lambda _: None, count)
    logged = await lateness_ms(subject.flat, count)
    return {"without_ms": max(without), "with_ms": max(logged), "added_ms": max(logged) - max(without)}


async def lateness_ms(call: Callable[[int], Any], count: int) -> list[float]:
    late = []

    async def watch() -> None:
        while True:
            begin_s = time.perf_counter()
            await asyncio.sleep(TICK_S)
            late.append((time.perf_counter() - begin_s - TICK_S) * 1000)

    async def log(first: int) -> None:
        for n in range(first, count, TASKS):
            await asyncio.sleep(random.random())
            call(n)

    tasks = asyncio.gather(*(log(first) for first in range(TASKS)))
    await asyncio.sleep(0.5)  # exclude the first steps, which all tasks take at once
    watcher = asyncio.ensure_future(watch())
    await tasks
    watcher.cancel()
    return late


async def measure_asgi(subject: Any, count: int) -> Figures:
    async def bare(_scope, _receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message) -> None: ...

    bare_ns = await timed_requests(bare, receive, send, count)
    wrapped_ns = await timed_requests(subject.middleware(bare), receive, send, count)
    return percentiles(wrapped_ns, "added", statistics.median(bare_ns))


async def timed_requests(app: Any, receive: Any, send: Any, count: int) -> list[int]:
    clock = time.perf_counter_ns
    samples = []
    for _ in range(0, count, CALLS_IN_A_ROW):
        for _ in range(CALLS_IN_A_ROW):
            scope = request_scope()
            started = clock()
            await app(scope, receive, send)
            samples.append(clock() - started)
        await asyncio.sleep(PAUSE_S)
    return samples[CALLS_IN_A_ROW:]


def request_scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/orders/5512",
        "raw_path": b"/orders/5512",
        "root_path": "",
        "query_string": b"full=1",
        "headers": [(b"host", b"shop.example"), (b"user-agent", b"curl/8.5"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 51234),
        "server": ("127.0.0.1", 8000),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario")
    parser.add_argument("subject")
    parser.add_argument("--url", required=True)
    parser.add_argument("--socket-port", type=int, required=True)
    parser.add_argument("--spool-dir")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--progress")
    args = parser.parse_args()

    bare_mib, begin_s = rss_mib(), time.perf_counter()
    subject: Any = import_module(f"subjects.{args.subject}")
    imported_s = time.perf_counter()
    subject.start(Target(args.url, args.socket_port, args.spool_dir))
    started_s = time.perf_counter()
    match args.scenario:
        case "start":
            figures = {
                "import_ms": (imported_s - begin_s) * 1000,
                "init_ms": (started_s - imported_s) * 1000,
                "started_mib": rss_mib() - bare_mib,
            }
        case "call":
            figures = measure_calls(subject, args.count)
        case "burst":
            figures = measure_burst(subject, args.count)
        case "exit":
            figures = measure_exit(subject, args.count)
        case "emit":
            figures = emit(subject, args.count, args.rate, args.progress)
        case "follow":
            figures = follow(subject)
        case "fork":
            figures = measure_fork(subject, args.count)
        case "loop":
            figures = asyncio.run(measure_loop(subject, args.count))
        case "asgi":
            figures = asyncio.run(measure_asgi(subject, args.count))
        case unknown:
            parser.error(f"no scenario {unknown}")
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
