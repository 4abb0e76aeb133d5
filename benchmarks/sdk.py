"""The SDK compared with similar libraries, in one run: Markdown tables on stdout, every figure in `--json FILE`.

    pip install -e . --group bench && python benchmarks/sdk.py

Each scenario runs with each subject in its own process, against one sink in another process. The subjects run in turn,
`--rounds` times; a figure is the median over the rounds. Compare only figures of one run: the factor in brackets is the
figure divided by that of brain-events.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

from report import Column, Figures, about, print_about, table
from subjects import LIBRARIES

HERE = Path(__file__).parent
PACKAGES = (
    "brain-events",
    "sentry-sdk",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation-asgi",
    "logfire",
    "loguru",
)
TIMEOUT_S = 120
KILL_AFTER_S = 45
"""Maximum time for a process to end while the sink hangs."""


class Sizes(NamedTuple):
    calls: int
    burst: int
    exit: int
    loop: int
    emit: int
    rate: int


FULL = Sizes(calls=10_000, burst=200_000, exit=1_000, loop=100_000, emit=20_000, rate=1_000)
QUICK = Sizes(calls=400, burst=2_000, exit=200, loop=10_000, emit=1_500, rate=500)


class Sink:
    """The sink process: its addresses, its counts, and the faults that it can be set to."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.url = f"http://127.0.0.1:{ports['http']}"
        self.socket_port = ports["socket"]

    def report(self) -> dict[str, Any]:
        with urlopen(self.url, timeout=30) as response:
            return json.load(response)

    def reset(self) -> None:
        self._control("reset")

    def set_mode(self, mode: str) -> None:
        self._control(f"mode/{mode}")

    def settled(self, still_s: float = 0.3) -> dict[str, Any]:
        """Return the counts once nothing has arrived for `still_s`: a subject may not know when all is delivered."""
        before = None
        while (report := self.report()) != before:
            before = report
            time.sleep(still_s)
        return report

    def _control(self, command: str) -> None:
        urlopen(Request(f"{self.url}/control/{command}", data=b"", method="POST"), timeout=30).close()


@contextlib.contextmanager
def running_sink() -> Iterator[Sink]:
    process = subprocess.Popen(
        [sys.executable, HERE / "sink.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield Sink(json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


class Bench:
    """Each method runs one scenario with one subject."""

    def __init__(self, sink: Sink, sizes: Sizes, home: Path) -> None:
        self.sink, self.sizes, self.home = sink, sizes, home
        self.turns = 0

    def start(self, subject: str) -> Figures:
        return self.run("start", subject)

    def call(self, subject: str) -> Figures:
        return self.run("call", subject, count=self.sizes.calls)

    def asgi(self, subject: str) -> Figures:
        return self.run("asgi", subject, count=self.sizes.calls)

    def burst(self, subject: str) -> Figures:
        count = self.sizes.burst
        spool = {"spool_dir": None} if subject == "brain" else {}  # the goal is set for a run without a disk
        figures = self.run("burst", subject, count=count, **spool)
        report = self.sink.settled()
        delivered = report["delivered"]
        return {
            "handed_over_per_s": count / figures["handed_over_s"],
            "delivered_share": 100 * delivered / count,
            "delivered_per_s": delivered / (report["last_s"] - figures["begin_s"]) if delivered else 0.0,
            "cpu_call_us": figures["cpu_s"] / count * 1e6,
            "cpu_delivered_us": figures["cpu_s"] / max(delivered, 1) * 1e6,
            "peak_mib": figures["peak_mib"],
        }

    def exit(self, subject: str) -> Figures:
        count = self.sizes.exit
        figures = self.run("exit", subject, count=count)
        return {"exit_s": figures["exit_s"], "delivered_share": 100 * self.sink.settled()["delivered"] / count}

    def outage(self, subject: str) -> Figures:
        """The sink returns 503 for half the time; then the process ends, and the next one starts."""
        process, progress, spool = self.start_emitting(subject)
        span_s = self.sizes.emit / self.sizes.rate
        time.sleep(span_s / 6)
        self.sink.set_mode("refuse")
        time.sleep(span_s / 2)
        self.sink.set_mode("answer")
        figures = self.finish(process, TIMEOUT_S)
        return self.run_next_process(subject, figures, progress, spool)

    def kill(self, subject: str) -> Figures:
        """The process is killed with SIGKILL after a fifth of its time; then the next one starts."""
        process, progress, spool = self.start_emitting(subject)
        time.sleep(self.sizes.emit / self.sizes.rate / 5)
        process.kill()
        process.communicate()
        return self.run_next_process(subject, {}, progress, spool)

    def hang(self, subject: str) -> Figures:
        """The sink accepts, but does not respond until the process has ended; then it works, and the next starts."""
        return self.end_while("hang", subject)

    def restart(self, subject: str) -> Figures:
        """The sink returns 503 until the process has ended; then it works, and the next process starts."""
        return self.end_while("refuse", subject)

    def stale(self, subject: str) -> Figures:
        """The sink closes each connection at its second request, like a proxy whose keep-alive time is over."""
        self.sink.set_mode("stale")
        process, progress, spool = self.start_emitting(subject, count=self.sizes.emit // 4)
        figures = self.finish(process, TIMEOUT_S)
        self.sink.set_mode("answer")
        return self.run_next_process(subject, figures, progress, spool)

    def fork(self, subject: str) -> Figures:
        count = self.sizes.emit
        figures = self.run("fork", subject, count=count)
        report = self.sink.settled()
        shares = {"delivered_share": 100 * report["delivered"] / count, "duplicates": report["duplicates"]}
        return shares | {name: figures[name] for name in ("killed", "children_s")}

    def loop(self, subject: str) -> Figures:
        return self.run("loop", subject, count=self.sizes.loop)

    def end_while(self, mode: str, subject: str) -> Figures:
        self.sink.set_mode(mode)
        process, progress, spool = self.start_emitting(subject, count=self.sizes.exit)
        figures = self.finish(process, KILL_AFTER_S)
        self.sink.set_mode("answer")
        return self.run_next_process(subject, figures, progress, spool)

    def run(self, scenario: str, subject: str, **options: Any) -> Figures:
        self.sink.set_mode("answer")
        self.sink.reset()
        self.turns += 1
        options = {"spool_dir": self.home / f"spool-{self.turns}"} | options
        return self.finish(self.spawn(scenario, subject, **options), TIMEOUT_S)

    def start_emitting(
        self, subject: str, count: int | None = None
    ) -> tuple["subprocess.Popen[str]", Path, dict[str, Path]]:
        self.sink.reset()
        self.turns += 1
        progress, spool = self.home / f"progress-{self.turns}", {"spool_dir": self.home / f"spool-{self.turns}"}
        progress.write_bytes(bytes(8))
        size = {"count": count or self.sizes.emit, "rate": self.sizes.rate}
        process = self.spawn("emit", subject, progress=progress, **size, **spool)
        while process.poll() is None and progress.read_bytes() == bytes(8):
            time.sleep(0.01)
        return process, progress, spool

    def run_next_process(self, subject: str, figures: Figures, progress: Path, spool: dict[str, Path]) -> Figures:
        before = self.sink.settled()["delivered"]
        self.finish(self.spawn("follow", subject, **spool), TIMEOUT_S)
        report, returned = self.sink.settled(), int.from_bytes(progress.read_bytes())
        shares = {
            "delivered_share": 100 * min(before, returned) / returned,
            "in_the_end_share": 100 * min(report["delivered"], returned) / returned,
            "duplicates": report["duplicates"],
        }
        return shares | ({"exit_s": figures["exit_s"]} if figures else {})

    def spawn(self, scenario: str, subject: str, **options: Any) -> "subprocess.Popen[str]":
        arguments = [scenario, subject, "--url", self.sink.url, "--socket-port", str(self.sink.socket_port)]
        for name, value in options.items():
            if value is not None:
                arguments += [f"--{name.replace('_', '-')}", str(value)]
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
        return subprocess.Popen(
            [sys.executable, HERE / "measure.py", *arguments],
            env=inherited | {"HOME": str(self.home)},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: "subprocess.Popen[str]", timeout_s: float) -> Figures:
        """Return the figures that the process printed, and the time from its last call to its end."""
        out = err = ""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        ended_s = time.monotonic()
        try:
            figures: Figures = json.loads(out.splitlines()[-1])
        except (IndexError, ValueError):
            raise RuntimeError(f"{process.args} ended with {process.returncode}: {err[-2000:]}") from None
        return figures | {"exit_s": ended_s - figures.get("ended_s", ended_s)}


class Scenario(NamedTuple):
    title: str
    run: Callable[[Bench, str], Figures]
    columns: list[Column]
    subjects: tuple[str, ...] = tuple(LIBRARIES)


def shape(title: str, key: str) -> list[Column]:
    p50 = Column(f"{title} p50", f"{key}_p50_us", "{:.1f}", is_ratio=True)
    return [p50, Column("p99", f"{key}_p99_us"), Column("p99.9", f"{key}_p99.9_us", "{:.0f}")]


FAULT = [
    Column("delivered %", "delivered_share"),
    Column("with the next process %", "in_the_end_share"),
    Column("duplicates", "duplicates", "{:.0f}"),
]
EXIT = Column("exit s", "exit_s", "{:.2f}")

SCENARIOS = {
    "call": Scenario(
        "Time of one call in the caller, µs, while the worker sends",
        Bench.call,
        [*shape("flat", "flat"), *shape("nested", "nested"), *shape("bound", "bound"), *shape("exception", "failed")],
    ),
    "burst": Scenario(
        "A burst from one thread, default settings",
        Bench.burst,
        [
            Column("handed over /s", "handed_over_per_s", "{:,.0f}"),
            Column("delivered %", "delivered_share"),
            Column("delivered /s", "delivered_per_s", "{:,.0f}"),
            Column("CPU µs per call", "cpu_call_us"),
            Column("CPU µs per delivered event", "cpu_delivered_us", is_ratio=True),
            Column("peak MiB", "peak_mib", "{:.0f}"),
        ],
    ),
    "exit": Scenario("Exit of a process that has just logged", Bench.exit, [EXIT, FAULT[0]]),
    "start": Scenario(
        "Start of a process that has imported asyncio",
        Bench.start,
        [
            Column("import ms", "import_ms", "{:.0f}", is_ratio=True),
            Column("init ms", "init_ms", "{:.0f}"),
            Column("memory MiB", "started_mib"),
        ],
    ),
    "asgi": Scenario(
        "Time that ASGI middleware adds to a request, µs, including its event or span",
        Bench.asgi,
        shape("added", "added"),
        ("brain", "sentry", "otel"),
    ),
    "loop": Scenario(
        "10,000 asyncio tasks, each logging twice a second: greatest delay of the event loop, ms",
        Bench.loop,
        [
            Column("without the calls", "without_ms"),
            Column("with them", "with_ms"),
            Column("added", "added_ms"),
        ],
    ),
    "outage": Scenario("The collector responds with 503 for half the time", Bench.outage, [*FAULT, EXIT]),
    "restart": Scenario("The collector responds with 503 until the process has ended", Bench.restart, [*FAULT, EXIT]),
    "stale": Scenario("The collector closes each connection at its second request", Bench.stale, [*FAULT, EXIT]),
    "fork": Scenario(
        "A process that has logged forks four times, and the children log",
        Bench.fork,
        [
            FAULT[0],
            FAULT[2],
            Column("children killed after 40 s", "killed", "{:.0f}"),
            Column("children's time s", "children_s", "{:.2f}"),
        ],
    ),
    "kill": Scenario("`kill -9`: events whose call has returned", Bench.kill, FAULT),
    "hang": Scenario("The collector hangs while the process ends", Bench.hang, [*FAULT, EXIT]),
}

Results = dict[str, dict[str, list[Figures]]]


def measure(bench: Bench, scenarios: list[str], subjects: list[str], rounds: int) -> Results:
    results: Results = defaultdict(lambda: defaultdict(list))
    for number in range(rounds):
        for name in scenarios:
            turn = [subject for subject in subjects if subject in SCENARIOS[name].subjects]
            for subject in turn if number % 2 == 0 else reversed(turn):
                print(f"round {number + 1}: {name} {subject}", file=sys.stderr, flush=True)
                try:
                    results[name][subject].append(SCENARIOS[name].run(bench, subject))
                except RuntimeError as error:
                    print(f"{name} {subject} failed: {error}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write every figure of every round to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: only to check that it runs")
    parser.add_argument("--rounds", type=int, help="number of rounds; by default 3, or 1 with --quick")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="comma-separated; by default all")
    parser.add_argument("--subjects", default=",".join(LIBRARIES), help="comma-separated; by default all")
    args = parser.parse_args()
    sizes, rounds = QUICK if args.quick else FULL, args.rounds or (1 if args.quick else 3)
    names: list[str] = args.scenarios.split(",")

    environment = about(rounds, PACKAGES, **sizes._asdict())
    print_about("SDK benchmark", environment)
    subjects = []
    for subject in args.subjects.split(","):
        if find_spec(LIBRARIES[subject].partition(".")[0]):
            subjects.append(subject)
        else:
            print(f"{subject} is skipped: {LIBRARIES[subject]} is not installed\n")
    with running_sink() as sink, tempfile.TemporaryDirectory() as home:
        results = measure(Bench(sink, sizes, Path(home)), names, subjects, rounds)
    environment["load_average_1min_at_the_end"] = os.getloadavg()[0]
    for name in names:
        print(table(SCENARIOS[name].title, SCENARIOS[name].columns, results[name], ours="brain"))
    if args.json:
        args.json.write_text(json.dumps({"about": environment, "rounds": results}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
