"""The documentation says what the code does: settings, calls, modules, commands."""

import re
from pathlib import Path

import msgspec

from brain_collector.api.openapi import document
from brain_collector.reference import cli, metrics
from brain_collector.reference.errors import catalogue
from brain_collector.server.app import OPERATIONS
from brain_collector.settings import ENV_PREFIX, Settings
from brain_events import config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def shown(default: object) -> str:
    """Return a default as the settings table writes it."""
    if default is None or default == "":
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, int) and default > 100_000 and default % 2**10 == 0:
        return (
            f"`{default}` ({default // 2**20} MiB)" if default % 2**20 == 0 else f"`{default}` ({default // 2**10} KiB)"
        )
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_settings_table_is_what_the_code_says() -> None:
    table = README.partition("<!-- settings:")[2].partition("<!-- /settings -->")[0]
    described = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    rows = [
        f"| `{ENV_PREFIX}{name.upper()}` | {shown(field['default'])} | {field['description']} |"
        for name, field in described.items()
    ]

    assert table.strip().splitlines()[3:] == rows


def test_every_variable_of_the_sdk_is_in_the_readme() -> None:
    variables = set(re.findall(r"BRAIN_EVENTS_[A-Z_]+", Path(config.__file__).read_text()))

    assert variables == set(re.findall(r"\| `(BRAIN_EVENTS_[A-Z_]+)`", README))


def test_every_call_of_the_api_is_in_the_readme() -> None:
    missing = [path for path in {operation.path for operation in OPERATIONS} if path not in README]

    assert missing == []


def test_the_error_catalogue_is_what_the_code_says() -> None:
    """Run `python -m brain_collector.reference.errors` and put what it prints between the two marks of docs/api.md."""
    written = (ROOT / "docs/api.md").read_text().partition("<!-- errors:")[2].partition("<!-- /errors -->")[0]

    assert written.strip().splitlines()[1:] == catalogue().splitlines()


def test_ci_runs_the_test_line_of_the_readme() -> None:
    (line,) = re.findall(r"^python3 -m venv .*nox.*$", README, re.MULTILINE)

    assert line in (ROOT / ".ci/run").read_text().splitlines()


def test_the_types_of_the_page_are_those_of_the_api() -> None:
    """If not: `npm run types` in dashboard/, beside a collector (BRAIN_EVENTS_URL, or the usual one)."""
    written = (ROOT / "dashboard/src/api/schema.ts").read_text()
    schemas = written.partition("    schemas: {\n")[2].partition("\n    };\n")[0]
    typed = {
        name: set(re.findall(r"^ {12}(\w+)\??: ", body, re.MULTILINE))
        for name, body in re.findall(r"^ {8}(\w+): \{\n(.*?)^ {8}\};", schemas, re.MULTILINE | re.DOTALL)
    }
    components = document(OPERATIONS)["components"]["schemas"]

    assert typed == {name: set(schema["properties"]) for name, schema in components.items()}


def test_the_reference_of_metrics_and_own_events_is_what_the_code_says() -> None:
    """If not: `python -m brain_collector.reference.metrics > docs/metrics.md`."""
    assert (ROOT / "docs/metrics.md").read_text() == metrics.render()


def test_the_manual_of_the_command_line_is_what_the_commands_say() -> None:
    """If not: `python -m brain_collector.reference.cli > docs/cli.md`."""
    assert (ROOT / "docs/cli.md").read_text() == cli.render()
