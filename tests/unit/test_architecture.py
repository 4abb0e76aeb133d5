"""The architecture page names every wing, and its figure is drawn from the source."""

import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (ROOT / "sdk/brain_events", ROOT / "collector/brain_collector")
PAGE = (ROOT / "docs/explanation/architecture.md").read_text()
FIGURES = ROOT / "docs/figures"
SOURCES = sorted(FIGURES.glob("*.toml"))


def test_every_wing_is_named_on_the_architecture_page() -> None:
    wings = [
        path.parent.relative_to(package).as_posix() for package in PACKAGES for path in package.rglob("*/__init__.py")
    ]

    assert [wing for wing in wings if f"`{wing}`" not in PAGE] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_figure_is_drawn_from_its_source(source: Path) -> None:
    """If not: `python docs/figures/draw.py`."""
    draw = runpy.run_path(str(FIGURES / "draw.py"))["draw"]

    assert source.with_suffix(".svg").read_text() == draw(tomllib.loads(source.read_text()))


def test_every_figure_has_a_source() -> None:
    assert {path.stem for path in FIGURES.glob("*.svg")} == {source.stem for source in SOURCES}
