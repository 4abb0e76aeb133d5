"""`python -m brain_events`: the commands of the SDK, which need no optional package."""

import argparse
import os
import sys
from collections.abc import Sequence

from brain_events import doctor

DESCRIPTION = """Check the settings, the connection to the collector, the API key, the outbox and the clock of this
machine. Nothing is changed, and no secret is shown. The exit code is 0 if nothing is wrong, 1 if something is."""

DEEP = "--deep needs the collector: pip install 'brain-events[collector]', then run `brain-events doctor --deep`"


def main(arguments: Sequence[str] | None = None, prog: str = "python -m brain_events") -> int:
    """Run the command in `arguments` and return the exit code.

    Raises:
        SystemExit: The usage is wrong (exit code 2), or help was requested.
    """
    parser = argparse.ArgumentParser(prog=prog, description="Commands of the brain-events SDK.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("doctor", help="find out why events do not arrive", description=DESCRIPTION)
    command.add_argument("--url", help="the collector's address, instead of BRAIN_EVENTS_URL")
    command.add_argument("--ca-bundle", metavar="FILE", help="certificates to trust, instead of BRAIN_EVENTS_CA_BUNDLE")
    command.add_argument("--spool-dir", metavar="DIR", help="the outbox, or `none`, instead of BRAIN_EVENTS_SPOOL_DIR")
    command.add_argument(
        "--timeout-s", type=_seconds, default=5.0, metavar="S", help="maximum wait for a response (default: 5)"
    )
    command.add_argument("--json", action="store_true", help="write JSON, for a program")
    command.add_argument("--deep", action="store_true", help="check the collector's database; see --deep --help")
    options = parser.parse_args(arguments)
    if options.deep:
        command.exit(2, f"{DEEP}\n")
    flags = {"url": options.url, "ca_bundle": options.ca_bundle, "spool_dir": options.spool_dir}
    return doctor.run(os.environ, flags, sys.stdout, timeout_s=options.timeout_s, as_json=options.json)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
