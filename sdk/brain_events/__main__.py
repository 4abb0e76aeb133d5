"""`python -m brain_events`: the commands of the SDK, which need no extra."""

import argparse
import os
import sys
from collections.abc import Sequence

from brain_events import doctor

DESCRIPTION = """Check settings, the way to the collector, the API key, the spool directory and the clock of this
machine. Nothing is changed, and no secret is shown. The exit code is 0 if all is well, 1 if something is wrong."""

DEEP = "--deep is the collector's: pip install 'brain-events[collector]', then `brain-events doctor --deep`"


def main(arguments: Sequence[str] | None = None, prog: str = "python -m brain_events") -> int:
    """Run the command that `arguments` name; return the exit code. Raises `SystemExit` (2) for a wrong usage."""
    parser = argparse.ArgumentParser(prog=prog, description="What comes with the SDK of brain-events.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="find out why events do not arrive", description=DESCRIPTION)
    command.add_argument("--url", help="the collector's address, in place of BRAIN_EVENTS_URL")
    command.add_argument(
        "--ca-bundle", metavar="FILE", help="certificates to trust, in place of BRAIN_EVENTS_CA_BUNDLE"
    )
    command.add_argument("--spool-dir", metavar="DIR", help="or `none`, in place of BRAIN_EVENTS_SPOOL_DIR")
    command.add_argument("--timeout-s", type=_seconds, default=5.0, metavar="S", help="longest wait for an answer (5)")
    command.add_argument("--json", action="store_true", help="for a program")
    command.add_argument("--deep", action="store_true", help="look at the collector's database; see --deep --help")
    given = parser.parse_args(arguments)
    if given.deep:
        command.exit(2, f"{DEEP}\n")
    flags = {"url": given.url, "ca_bundle": given.ca_bundle, "spool_dir": given.spool_dir}
    return doctor.run(os.environ, flags, sys.stdout, timeout_s=given.timeout_s, as_json=given.json)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
