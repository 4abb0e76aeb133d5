"""The command line: help is cheap, the list of commands is true, failures have their exit codes."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from brain_collector import printable
from brain_collector.cli import COMMANDS, cli
from brain_collector.commands.moments import seconds
from brain_collector.commands.options import SEVERITIES, coloured
from brain_events import wire

HEAVY = ("sqlalchemy", "starlette", "uvicorn", "alembic", "asyncpg", "redis", "structlog", "urllib3", "brain_events")


def test_help_imports_no_library_of_the_server_nor_of_the_client() -> None:
    script = (
        "import sys\nfrom brain_collector.cli import cli\n"
        "try: cli(['--help'], prog_name='brain-events')\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr == "[]\n"
    assert "Run the collector." in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_each_command_is(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert (command.help or "").startswith(COMMANDS[name][1])
    assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["send", "t", "loud", "m"], 2),
        (["no-such-command"], 2),
        (["keys", "list", "--url", "nowhere"], 1),
        (["keys", "list", "--url", "http://127.0.0.1:9"], 5),
        (["keys", "list", "--api-key-file", "/nonexistent"], 2),
    ],
)
def test_each_failure_has_its_exit_code(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == code


def test_the_severities_of_options_are_those_of_the_wire() -> None:
    assert SEVERITIES == wire.SEVERITIES


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("one\rtwo\nthree", "one\\rtwo\\nthree"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("plain \u00e9 \u4e2d", "plain \u00e9 \u4e2d"),
    ],
)
def test_control_characters_are_shown_as_their_escapes(text: str, shown: str) -> None:
    assert printable.one_line(text) == shown


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 604800), ("0d", None)])
def test_durations(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize(
    ("asked", "environ", "expected"),
    [
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        ("auto", {"TERM": "dumb"}, False),
        ("auto", {"TERM": "xterm"}, True),
    ],
)
def test_what_decides_on_colours(
    asked: str, environ: dict[str, str], *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert coloured(asked, is_terminal=True) is expected
