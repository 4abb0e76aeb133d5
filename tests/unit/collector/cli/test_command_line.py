"""The command line: help is cheap, the list of commands is true, failures have their exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from brain_collector import printable
from brain_collector.cli.commands.config import shown_settings
from brain_collector.cli.main import COMMANDS, cli
from brain_collector.cli.options import SEVERITIES, use_colour
from brain_collector.cli.times import seconds
from brain_collector.settings import ENV_PREFIX, Settings
from brain_events import wire
from tests.support.waiting import PATIENCE_S

HEAVY = ("sqlalchemy", "starlette", "uvicorn", "alembic", "asyncpg", "redis", "structlog", "urllib3", "brain_events")


def test_help_imports_no_library_of_the_server_nor_of_the_client() -> None:
    script = (
        "import sys\nfrom brain_collector.cli.main import cli\n"
        "try: cli(['--help'], prog_name='brain-events')\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )

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


@pytest.mark.parametrize("url", ["http://u:s3cret@h", "http://u:a/s3cret@h", "u:s3cret@h", "http://s3cret@h:x"])
def test_an_address_with_a_password_is_refused_without_quoting_it(url: str) -> None:
    done = CliRunner().invoke(cli, ["keys", "list", "--url", url])

    assert (done.exit_code, "s3cret" in done.output) == (1, False)
    assert "--api-key-file" in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_completion(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell])

    assert done.exit_code == 0
    assert f"_BRAIN_EVENTS_COMPLETE={shell}_complete" in done.output


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("brain-events hist", ["histogram"]), ("brain-events tail --sev", ["--severity", "--severity-min"])],
)
def test_bash_completes_commands_and_options(tmp_path: Path, typed: str, offered: list[str]) -> None:
    program = tmp_path / "brain-events"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m brain_collector "$@"\n')
    program.chmod(0o755)
    script = f"""
        eval "$(brain-events completion bash)"
        COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _brain_events_completion brain-events
        echo "${{COMPREPLY[@]}}"
    """
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        ["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )

    assert (done.stdout.split(), done.stderr) == (offered, "")


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("database_url", "postgresql://u:s3:cr%2Ft@h/db", "postgresql://u:***@h/db"),
        ("database_url", "postgresql://u@h/db?password=s3cret&jit=off", "postgresql://***@h/db?password=***&jit=***"),
        ("redis_url", "redis://:s3cret@h:1/2", "redis://:***@h:1/2"),
        ("redis_url", "none", "none"),
        ("api_key", "s3cret", "***"),
        ("require_api_key", "1", "true"),
    ],
)
def test_config_masks_what_is_secret(name: str, given: str, shown: str) -> None:
    (found,) = [each for each in shown_settings({f"{ENV_PREFIX}{name.upper()}": given}, {}) if each.name == name]

    assert (found.value, found.origin) == (shown, f"env {ENV_PREFIX}{name.upper()}")


def test_config_says_where_each_setting_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("BRAIN_COLLECTOR_PORT", "9")
    monkeypatch.setenv("BRAIN_COLLECTOR_HOST", "::1")
    flags = ["--port", "10", "--api-key-file", str(tmp_path / "key")]
    done = CliRunner().invoke(cli, ["config", "show", "--json", *flags])
    found = json.loads(done.output)

    assert list(found) == list(Settings.__struct_fields__)
    assert found["port"] == {"value": "10", "origin": "flag --port"}
    assert found["host"] == {"value": "::1", "origin": "env BRAIN_COLLECTOR_HOST"}
    assert found["api_key"] == {"value": "***", "origin": f"file {tmp_path / 'key'}"}
    assert found["max_api_keys"] == {"value": "1000", "origin": "default"}
    text = CliRunner().invoke(cli, ["config", "show", "--origin", *flags]).output
    assert len(text.splitlines()) == len(found)
    assert "flag --port" in text
    assert "s3cret" not in done.output + text
    assert "default" not in CliRunner().invoke(cli, ["config", "show", *flags]).output
    assert CliRunner().invoke(cli, ["config", "show", "--port", "x"]).exit_code == 1


def variables(command: click.Command) -> Iterator[str]:
    """Yield every variable of a command's options."""
    for option in command.params:
        if isinstance(option, click.Option):
            yield from [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), name)
            assert found is not None
            yield from variables(found)


def test_every_option_has_a_variable_and_the_doctor_of_the_sdk_takes_none_for_a_mistake() -> None:
    found = set(variables(cli))

    assert {"BRAIN_CLI_TAIL_TZ", "BRAIN_CLI_TZ", "BRAIN_CLI_KEYS_CREATE_EXPIRES_IN", "BRAIN_EVENTS_URL"} <= found
    assert not [name for name in found if name.startswith("BRAIN_COLLECTOR_")]  # those are read by the settings
    assert {name for name in found if not name.startswith("BRAIN_CLI_")} == {
        "BRAIN_EVENTS_URL",
        "BRAIN_EVENTS_API_KEY",
        "BRAIN_EVENTS_API_KEY_FILE",
        "BRAIN_EVENTS_SOURCE",
    }
    assert "BRAIN_CLI_YES" not in found


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"BRAIN_CLI_TAIL_TIMEOUT_S": "x"}, 2),
        ({"BRAIN_CLI_TIMEOUT_S": "x"}, 2),
        ({"BRAIN_CLI_TIMEOUT_S": "x", "BRAIN_CLI_TAIL_TIMEOUT_S": "1"}, 5),
        ({"BRAIN_CLI_GET_TIMEOUT_S": "x"}, 5),
        ({"BRAIN_CLI_JSON": "1", "BRAIN_CLI_TAIL_FIELDS": "id"}, 2),
        ({"BRAIN_CLI_TYPE": "a b", "BRAIN_CLI_VERSION": "1", "BRAIN_CLI_HELP": "1"}, 5),
    ],
)
def test_an_option_is_read_from_its_variables(
    environ: dict[str, str], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert CliRunner().invoke(cli, ["tail", "--url", "http://127.0.0.1:9"]).exit_code == code


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

    assert use_colour(asked, is_terminal=True) is expected
