"""The `brain-events` command: runs the command line, or names the library that is missing."""

import gc
import sys


def main() -> None:
    """Run the command line; if the collector's libraries are not installed, say how to install them."""
    gc.set_threshold(100_000, 50, 1000)  # imports and requests make many objects and few cycles
    try:
        from brain_collector.cli.main import cli  # noqa: PLC0415 - an installation of the SDK alone has no click
    except ModuleNotFoundError as error:
        sys.exit(
            f"brain-events: {error.name} is not installed. The command belongs to the collector, which the SDK does "
            "not need; install the collector: pip install 'brain-events[embedded]'"
        )
    cli(prog_name="brain-events")


if __name__ == "__main__":
    main()
