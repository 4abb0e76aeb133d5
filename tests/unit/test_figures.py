"""The figures of the documentation are drawn from their sources."""

import runpy
import tomllib
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "docs/figures"
SOURCES = sorted(FIGURES.glob("*.toml"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_a_figure_is_what_its_source_says(source: Path) -> None:
    """If not: `python docs/figures/draw.py`."""
    draw = runpy.run_path(str(FIGURES / "draw.py"))["draw"]

    assert source.with_suffix(".svg").read_text() == draw(tomllib.loads(source.read_text()))


def test_every_figure_has_a_source() -> None:
    assert {path.stem for path in FIGURES.glob("*.svg")} == {source.stem for source in SOURCES}
