"""The documentation says what the code does: settings, endpoints, errors, metrics, commands, public names."""

import re
from pathlib import Path

import pytest

import brain_events
from brain_collector.api.openapi import document
from brain_collector.reference.configuration import GROUPS
from brain_collector.reference.pages import PAGES
from brain_collector.server.app import OPERATIONS
from brain_collector.settings import Settings
from brain_events import config

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
README = (ROOT / "README.md").read_text()
README_MAX_LINES = 110


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    """If not: `python -m brain_collector.reference docs/reference`."""
    assert (REFERENCE / name).read_text() == PAGES[name]()


def test_every_setting_is_under_one_heading() -> None:
    listed = [name for names in GROUPS.values() for name in names]

    assert sorted(listed) == sorted(Settings.__struct_fields__)


def test_every_variable_of_the_sdk_is_in_the_configuration() -> None:
    text = (REFERENCE / "configuration.md").read_text().partition("\n## The SDK\n")[2].partition("\n## ")[0]
    variables = set(re.findall(r"BRAIN_EVENTS_[A-Z_]+", Path(config.__file__).read_text()))

    assert variables == set(re.findall(r"\| `(BRAIN_EVENTS_[A-Z_]+)`", text))


def test_every_operation_of_the_api_is_in_its_reference() -> None:
    text = (REFERENCE / "http-api.md").read_text()
    missing = [
        f"{operation.method} {operation.path}"
        for operation in OPERATIONS
        if f"`{operation.method} {operation.path}`" not in text
    ]

    assert missing == []


def test_every_public_name_of_the_sdk_is_in_its_reference() -> None:
    text = (REFERENCE / "sdk-api.md").read_text()
    documented = set(re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", text, re.MULTILINE))

    assert set(brain_events.__all__) - documented == set()


@pytest.mark.parametrize("name", ["limits.md", "http-api.md", "database-schema.md", "wire-format.md"])
def test_a_setting_that_a_page_names_without_its_prefix_is_a_setting(name: str) -> None:
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)[`=]", (REFERENCE / name).read_text()))

    assert named
    assert {each.lower() for each in named} - set(Settings.__struct_fields__) == set()


def test_the_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= README_MAX_LINES


def test_the_links_of_the_readme_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)

    assert [target for target in targets if not (ROOT / target).exists()] == []


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
    components = document(OPERATIONS, Settings())["components"]["schemas"]

    assert typed == {name: set(schema["properties"]) for name, schema in components.items()}
