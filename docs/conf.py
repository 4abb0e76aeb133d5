"""Sphinx makes the manual of this folder: `nox -s docs` checks it, `hatch_build.py` builds it into the package."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "sdk"))  # autodoc imports it: msgspec and urllib3 are all that it needs

project = "brain-events"
author = "the brain-events authors"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4  # links to headings are checked

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
# Every name of ours must resolve. Those of the standard library cannot: the build asks no other site for them.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!brain_events\.).*"), ("py:.*", r"brain_events\._.*")]

html_theme = "furo"
html_title = f"brain-events {release}"
html_favicon = "../dashboard/src/icon.svg"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_domain_indices = False

_NAME = re.compile(r"(?<![`:])`([^`]+)`(?!`)")


def setup(app: Sphinx) -> None:
    """Read the docstrings as they are written: names in single backticks."""
    app.connect("autodoc-process-docstring", _with_literal_names, priority=400)  # before napoleon


def _with_literal_names(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = [_NAME.sub(r"``\1``", line) for line in lines]
