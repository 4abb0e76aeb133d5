"""The table of changed names in the changelog: every new name exists, and no old one is left anywhere else."""

import re
import subprocess
from importlib import import_module
from pathlib import Path

import click
import msgspec
import pytest

from brain_collector import errors
from brain_collector.cli.main import cli
from brain_collector.metrics import METRICS
from brain_collector.schema import Rejection
from brain_collector.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| ([a-z][^|`]*?) (?:\(\d+\) )?(?:of `[^`]+` )?\| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)
CHANGES = _ROW.findall(ROOT.joinpath("CHANGELOG.md").read_text())
TOO_COMMON = {"key"}  # a field's old name that means other things elsewhere
STILL_KNOWN = (
    ":!sdk/brain_events/wire.py",
    ":!docs/reference/wire-format.md",
    ":!tests/unit/sdk/delivery/test_delivery.py",
)
"""Where an SDK is described that sends to a collector of the release before."""


def known(kind: str) -> set[str]:
    """Return the names of a kind that the code has."""
    if kind == "setting":
        return {f"{ENV_PREFIX}{name.upper()}" for name in Settings.__struct_fields__}
    if kind == "option":
        serve = cli.get_command(click.Context(cli), "serve")
        assert serve is not None
        return {name for option in serve.params for name in option.opts}
    if kind == "error code":
        return {each.code for each in errors.Problem.__subclasses__()}
    if kind == "metric":
        return {metric.name for metric in METRICS}
    assert kind == "field", kind
    return {field.encode_name for field in msgspec.structs.fields(Rejection)}


def test_the_table_is_read() -> None:
    assert {kind for kind, _, _ in CHANGES} >= {"setting", "option", "error code", "metric", "field"}


@pytest.mark.parametrize(("kind", "old", "new"), CHANGES)
def test_the_new_name_is_in_the_code_and_the_old_one_is_not(kind: str, old: str, new: str) -> None:
    if kind.startswith("module"):
        import_module(new)
        return
    assert new in known(kind)
    assert old not in known(kind)


@pytest.mark.parametrize("old", [old for _, old, _ in CHANGES if old not in TOO_COMMON])
def test_the_old_name_is_left_nowhere_else(old: str) -> None:
    pattern = rf"(^|[^A-Za-z_.-]){re.escape(old)}([^A-Za-z_]|$)"
    found = subprocess.run(
        ["git", "grep", "-lE", pattern, "--", ":!CHANGELOG.md", *STILL_KNOWN],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.stdout.splitlines() == []
