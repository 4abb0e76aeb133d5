"""The house: each folder of code is one concern and says which, and each test file has a name of its own."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT / "sdk/brain_events", ROOT / "collector/brain_collector")
WINGS = sorted(path.parent for package in PACKAGES for path in package.rglob("*/__init__.py"))


@pytest.mark.parametrize("wing", WINGS, ids=lambda wing: wing.relative_to(ROOT).as_posix())
def test_a_wing_says_what_it_does_what_it_may_import_and_what_it_must_not_know(wing: Path) -> None:
    said = ast.get_docstring(ast.parse((wing / "__init__.py").read_text()))

    assert said is not None
    assert "May import" in said
    assert "ust not" in said


def test_every_folder_of_code_is_a_wing() -> None:
    folders = {path.parent for package in PACKAGES for path in package.rglob("*.py")} - set(PACKAGES)

    assert folders == set(WINGS)


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(path.name for path in ROOT.joinpath("tests").rglob("test_*.py"))

    assert [name for name, n in names.items() if n > 1] == []
