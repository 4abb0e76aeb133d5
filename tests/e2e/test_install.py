"""The built wheel, alone, in a fresh virtual environment: what an application that embeds the SDK gets."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_S

PAGE = "brain_collector/dashboard/"
MANUAL = "brain_collector/manual_site/"
WHEEL = os.environ.get("BRAIN_TEST_WHEEL")

needs_wheel = pytest.mark.skipif(WHEEL is None, reason="BRAIN_TEST_WHEEL names no wheel; `nox -s e2e` builds one")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it needs, nothing else."""
    path = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(path, with_pip=True)
    subprocess.run([path / "bin/pip", "install", "--quiet", str(WHEEL)], check=True)
    return path / "bin/python"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, cwd="/")


@needs_wheel
def test_it_brings_msgspec_and_urllib3_only(python: Path) -> None:
    listed = run(python, "-m", "pip", "list", "--format=freeze").stdout
    names = {line.partition("==")[0] for line in listed.splitlines()}

    assert names - {"pip", "setuptools"} == {"brain-events", "msgspec", "urllib3"}


@needs_wheel
def test_import_loads_no_client_library_and_starts_no_thread(python: Path) -> None:
    program = (
        "import sys, threading, brain_events; "
        "print(sorted({'urllib3', 'structlog', 'starlette', 'asyncio'} & set(sys.modules)), threading.active_count())"
    )

    assert run(python, "-c", program).stdout == "[] 1\n"


@needs_wheel
def test_the_command_says_in_one_line_what_to_install(python: Path) -> None:
    said = run(python.with_name("brain-events"))

    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "pip install 'brain-events[embedded]'" in said.stderr


@needs_wheel
def test_the_wheel_has_the_page_and_what_it_is_made_of() -> None:
    with zipfile.ZipFile(str(WHEEL)) as wheel:
        names = {name.removeprefix(PAGE) for name in wheel.namelist() if name.startswith(PAGE)}
        index = wheel.read(PAGE + "index.html").decode()
        licences = wheel.read(PAGE + "THIRD_PARTY_LICENSES.md").decode()
        everything = wheel.namelist()

    asked = set(re.findall(r'(?:src|href)="(?:\./)?(assets/[^"]*)"', index))
    assert asked
    assert asked <= names
    assert all(re.fullmatch(r"assets/.+-[\w-]{8}\.\w+", name) for name in names if name.startswith("assets/"))
    assert "preact" in licences
    assert [name for name in everything if "node_modules" in name or name.startswith("dashboard/")] == []
    assert Path(str(WHEEL)).stat().st_size < 3_000_000


@needs_wheel
def test_the_wheel_migrates_from_its_own_files() -> None:
    """This environment has the wheel with its extras: the migrations must not come from the checkout."""
    found = run(
        sys.executable, "-c", "from brain_collector.storage.schema_version import MIGRATIONS; print(MIGRATIONS)"
    ).stdout.strip()

    assert "site-packages" in found
    assert (Path(found) / "versions" / "0001_system_events.py").is_file()


@needs_wheel
def test_the_wheel_has_the_manual_and_nothing_that_only_its_build_needs() -> None:
    with zipfile.ZipFile(str(WHEEL)) as wheel:
        names = {name.removeprefix(MANUAL) for name in wheel.namelist() if name.startswith(MANUAL)}
        index = wheel.read(MANUAL + "index.html").decode()
        licences = wheel.read(MANUAL + "_static/LICENSES.txt").decode()
        everything = wheel.namelist()

    linked = set(re.findall(r'(?:src|href)="(?!https:)([^"#?]+)', index))
    assert linked
    assert linked <= names
    assert {"reference/configuration.html", "reference/sdk-api.html", "searchindex.js"} <= names
    assert "Sphinx" in licences
    assert [name for name in names if name.endswith((".map", ".md", ".doctree", ".buildinfo", ".rst"))] == []
    assert [name for name in everything if name.startswith("docs/")] == []
