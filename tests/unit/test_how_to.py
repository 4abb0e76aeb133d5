"""The tutorial and the how-to guides: code compiles, commands, variables, metrics and links exist."""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import msgspec.yaml
import pytest

import brain_events
from brain_collector.cli.commands.doctor import deep
from brain_collector.cli.lazy_group import ENV_PREFIX as CLI_PREFIX
from brain_collector.cli.main import cli
from brain_collector.metrics import METRICS
from brain_collector.settings import ENV_PREFIX, Settings
from brain_events import __main__ as sdk_command
from brain_events import config

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.glob("tutorial/*.md"), *DOCS.glob("how-to/*.md")])
BLOCK = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SEPARATORS = frozenset({";", "&", "&&", "|", "||", "(", ")", ">", ">>", "<"})
REDIRECTIONS = frozenset({">", ">>", "<"})
COMMAND = re.compile(r"(\S+/bin/)?brain-events")
OPTIONS_OF_SDK_DOCTOR = set(re.findall(r'"(--[a-z-]+)"', Path(sdk_command.__file__).read_text()))
ASSIGNMENT = re.compile(r"\w+=.*", re.DOTALL)

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")


class Run(NamedTuple):
    """A call of `brain-events` in a shell block."""

    line: str
    arguments: list[str]


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


def runs(script: str) -> Iterator[Run]:
    """Yield every call of `brain-events`, also in `$(...)` and in a command that another one gets in quotes."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.replace('"$(', "$(").replace(')"', ")"), posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words = list(lexer)
        for index, word in enumerate(words):
            if COMMAND.fullmatch(word) and is_command(word, words[:index]):
                yield Run(line, arguments_of(words[index + 1 :]))
            elif " " in word and "brain-events" in word:
                yield from runs(word)


def is_command(word: str, before: list[str]) -> bool:
    """Tell a command from an argument: it begins a command, after assignments; one with its path always does."""
    while before and ASSIGNMENT.fullmatch(before[-1]):
        before = before[:-1]
    return "/" in word or not before or before[-1] in SEPARATORS


def arguments_of(words: list[str]) -> list[str]:
    found: list[str] = []
    for index, word in enumerate(words):
        if word in SEPARATORS:
            rest = words[index + 2 :] if word in REDIRECTIONS else []
            return found + arguments_of(rest)
        found.append(word)
    return found


def parse(arguments: list[str]) -> None:
    """Parse a command line as `brain-events` would, without running it.

    Raises:
        click.UsageError: there is no such command, option or choice, or an argument is missing.
    """
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None  # else it has raised
        command, context = found, click.Context(found, parent=context)
    if command.name == "doctor" and "--deep" not in arguments:
        if unknown := {word for word in arguments if word.startswith("-")} - OPTIONS_OF_SDK_DOCTOR:
            raise click.NoSuchOption(unknown.pop())
        return
    if command.name == "doctor":
        arguments = [word for word in arguments if word != "--deep"]
        command = deep
    command.make_context("brain-events", arguments)


def test_there_are_pages_and_each_is_in_its_index() -> None:
    assert len(PAGES) > 15
    for page in PAGES:
        index = page.with_name("index.md").read_text()
        assert page.stem == "index" or (f"\n{page.stem}\n" in index and f"({page.name})" in index), page


@by_page
def test_python_compiles(page: Path) -> None:
    for body in blocks(page, "python"):
        compile(body, page.name, "exec", dont_inherit=True)


@by_page
def test_names_that_python_imports_from_the_sdk_exist(page: Path) -> None:
    for body in blocks(page, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "brain_events":
                module = import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
    named = set(re.findall(r"\bbrain_events\.([A-Za-z]\w*)", page.read_text()))

    assert [name for name in named if not hasattr(brain_events, name)] == []
    for module in re.findall(r"python -m (brain_events\S*)", page.read_text()):
        assert find_spec(module), module


@by_page
def test_yaml_and_json_decode(page: Path) -> None:
    for body in blocks(page, "yaml"):
        assert msgspec.yaml.decode(body)
    for body in blocks(page, "json"):
        assert msgspec.json.decode(body)


@by_page
def test_commands_exist_with_their_options(page: Path) -> None:
    for run in (run for body in blocks(page, "sh") for run in runs(body)):
        try:
            parse(run.arguments)
        except click.UsageError as error:
            pytest.fail(f"{run.line.strip()}: {error.format_message()}")


@by_page
def test_commands_in_the_text_exist(page: Path) -> None:
    for text in re.findall(r"`brain-events ([^`]+)`", page.read_text()):
        try:
            parse(shlex.split(text))
        except (click.MissingParameter, click.BadArgumentUsage):
            continue  # the text names a command, and need not call it
        except click.UsageError as error:
            pytest.fail(f"brain-events {text}: {error.format_message()}")


@by_page
def test_variables_are_settings(page: Path) -> None:
    text = page.read_text()
    of_collector = set(re.findall(rf"\b{ENV_PREFIX}([A-Z_]+)", text))
    of_sdk = set(re.findall(r"\bBRAIN_EVENTS_[A-Z_]+", text))
    known = set(re.findall(r"BRAIN_EVENTS_[A-Z_]+", Path(config.__file__).read_text()))
    known |= {"BRAIN_EVENTS_API_KEY_FILE", "BRAIN_EVENTS_SKIP_DASHBOARD"}  # the command line's, and the build's

    assert {name.lower() for name in of_collector} <= set(Settings.__struct_fields__)
    assert of_sdk <= known
    assert CLI_PREFIX not in text, "nothing checks these"


@by_page
def test_metrics_exist(page: Path) -> None:
    text = page.read_text()
    metrics = set(re.findall(r"\bbrain_collector_\w+", text))

    assert metrics <= {metric.name for metric in METRICS}


@pytest.mark.parametrize("arguments", ["nope", "query --sinc 1h", "query --severity-min bad", "get", "keys creat me"])
def test_a_command_line_that_does_not_exist_is_noticed(arguments: str) -> None:
    with pytest.raises(click.UsageError):
        parse(arguments.split())


def test_commands_are_found_wherever_a_shell_runs_them() -> None:
    script = """
        KEY=$(brain-events keys list) brain-events query | head
        deploy.sh --migrate 'brain-events migrate' > log && /opt/bin/brain-events serve \\
            --port 0  # a comment about brain-events serve
        systemctl restart brain-events
    """

    found = [" ".join(run.arguments) for run in runs(script)]
    assert found == ["keys list", "query", "migrate", "serve --port 0"]
