"""The `brain-events` command: the command line, or one line on what is missing."""

import sys


def main() -> None:
    """Run the command line; without the collector's libraries, say how to get them."""
    try:
        from brain_collector.cli.main import cli  # noqa: PLC0415 - the SDK alone does not bring what it needs
    except ModuleNotFoundError as error:
        sys.exit(
            f"brain-events: {error.name} is not installed; the SDK needs no command, the collector needs its extra: "
            "pip install 'brain-events[embedded]'"
        )
    cli(prog_name="brain-events")


if __name__ == "__main__":
    main()
