"""Draw the figures of the documentation: each `NAME.toml` beside this file becomes `NAME.svg`.

Run it after changing a figure; a test fails while an SVG differs from its source. It is a script of ours, as Graphviz
needs a binary that pip cannot install, and Mermaid needs JavaScript or a browser; a grid of boxes needs neither.
Every box has its own background, so that its text is readable on a light and on a dark page.
"""
# ruff: noqa: INP001 -- a script beside its sources, not a package

import tomllib
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

HERE: Final = Path(__file__).parent
COLUMN, ROW = 210, 92  # from one box to the next
WIDTH, HEIGHT = 166, 64  # of a box
MARGIN: Final = 34
LANE_GAP: Final = 30  # above the first row of a lane: its title
LINE: Final = 17
INK, PAPER, EDGE, QUIET = "#1d2733", "#eaf1f8", "#5b8db8", "#7d8894"
FONT: Final = "ui-sans-serif, system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
TIP: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    f'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="{QUIET}"/></marker></defs>'
)

Figure = dict[str, Any]


def draw(figure: Figure) -> str:
    """Return the SVG of a figure."""
    columns = 1 + max(box["at"][0] for box in figure["box"])
    rows = 1 + max(box["at"][1] for box in figure["box"])
    width = 2 * MARGIN + (columns - 1) * COLUMN + WIDTH
    height = _y(figure, rows - 1) + HEIGHT + MARGIN
    boxes = {box["name"]: box for box in figure["box"]}
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}" font-size="13" role="img">',
        f"<title>{escape(figure['title'])}</title>",
        TIP,
        *(_lane(figure, lane, width) for lane in figure["lane"]),
        *(_arrow(figure, boxes[arrow["from"]], boxes[arrow["to"]], arrow) for arrow in figure["arrow"]),
        *(_box(figure, box) for box in figure["box"]),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(column: int) -> int:
    return MARGIN + column * COLUMN


def _y(figure: Figure, row: int) -> int:
    """Return the top of a row: below it are the titles of all lanes that have begun by then."""
    begun: int = sum(lane["rows"][0] <= row for lane in figure["lane"])
    return MARGIN // 2 + begun * LANE_GAP + row * ROW


def _lane(figure: Figure, lane: Figure, width: int) -> str:
    first, last = lane["rows"]
    top, bottom = _y(figure, first) - LANE_GAP + 4, _y(figure, last) + HEIGHT + 12
    return (
        f'<rect x="12" y="{top}" width="{width - 24}" height="{bottom - top}" rx="10" fill="none" stroke="{QUIET}" '
        'stroke-dasharray="4 4"/>\n'
        f'<text x="22" y="{top + 18}" fill="{QUIET}" font-weight="600">{escape(lane["title"])}</text>'
    )


def _box(figure: Figure, box: Figure) -> str:
    x, y = _x(box["at"][0]), _y(figure, box["at"][1])
    lines = box["lines"]
    first = y + HEIGHT / 2 - (len(lines) - 1) * LINE / 2 + 4.5
    wing = ' font-weight="600" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12"'
    texts = [
        f'<text x="{x + WIDTH // 2}" y="{first + n * LINE:g}" text-anchor="middle" fill="{INK}"'
        f"{wing if n == 2 else ''}>{escape(line)}</text>"
        for n, line in enumerate(lines)
    ]
    shape = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{PAPER}" stroke="{EDGE}"/>'
    return "\n".join([shape, *texts])


def _arrow(figure: Figure, start: Figure, end: Figure, arrow: Figure) -> str:
    """Draw a line between the facing sides of two boxes: straight, or vertical and then horizontal."""
    (x1, y1), (x2, y2) = ((_x(box["at"][0]), _y(figure, box["at"][1])) for box in (start, end))
    if x1 == x2:
        path = f"M{x1 + WIDTH // 2} {y1 + (HEIGHT if y2 > y1 else 0)} V{y2 + (0 if y2 > y1 else HEIGHT)}"
    elif y1 == y2:
        path = f"M{x1 + (WIDTH if x2 > x1 else 0)} {y1 + HEIGHT // 2} H{x2 + (0 if x2 > x1 else WIDTH)}"
    else:
        path = f"M{x1 + WIDTH // 2} {y1 + (HEIGHT if y2 > y1 else 0)} V{y2 + HEIGHT // 2} "
        path += f"H{x2 + (0 if x2 > x1 else WIDTH)}"
    tips = 'marker-end="url(#tip)"' + (' marker-start="url(#tip)"' if arrow.get("both") else "")
    return f'<path d="{path}" fill="none" stroke="{QUIET}" stroke-width="1.5" {tips}/>'


def main() -> None:
    """Draw every figure."""
    for source in sorted(HERE.glob("*.toml")):
        source.with_suffix(".svg").write_text(draw(tomllib.loads(source.read_text())))


if __name__ == "__main__":
    main()
