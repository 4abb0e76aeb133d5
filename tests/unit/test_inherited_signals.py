"""Tests run alike in a terminal, under `nohup` and as a background job, which start with signals ignored."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.signals import INHERITED

ROOT = Path(__file__).parents[2]
CHILD = "print(open('/proc/self/status').read())"
IN_THE_BACKGROUND = """
    import signal, subprocess, sys
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    sys.exit(subprocess.run({command!r}).returncode)
"""
STARTED_BY_A_TEST = """
    import signal, subprocess, sys
    def test_of_a_run_in_the_background():
        signal.raise_signal(signal.SIGHUP)  # nohup: the run outlives it
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        print("SAID", subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True).stdout)
"""


def ignored_or_blocked(status: str) -> set[int]:
    """Return the signals of which `/proc/<pid>/status` says so, but for those that Python ignores."""
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Ign|Blk):\s+(\w+)$", status, re.MULTILINE)]
    assert len(masks) == 2
    return {number for number in INHERITED if any(mask >> (number - 1) & 1 for mask in masks)}


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")


@needs_proc
def test_a_child_of_a_test_ignores_and_blocks_no_signal() -> None:
    said = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True).stdout

    assert ignored_or_blocked(said) == set()


@needs_proc
def test_a_run_that_was_started_with_signals_ignored_does_not_hand_that_on(tmp_path: Path) -> None:
    (tmp_path / "test_sample.py").write_text(dedented(STARTED_BY_A_TEST.format(child=CHILD)))
    loaded = ["-p", "tests.conftest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", "-s", "-c", str(tmp_path / "pytest.ini"), *loaded, str(tmp_path)]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    outer = [sys.executable, "-c", dedented(IN_THE_BACKGROUND.format(command=command))]
    done = subprocess.run(outer, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stdout
    assert ignored_or_blocked(done.stdout) == set()


def dedented(script: str) -> str:
    return re.sub(r"^ {4}", "", script.lstrip("\n"), flags=re.MULTILINE)
