"""Write the generated pages: `python -m brain_collector.reference docs/reference`."""

import sys
from pathlib import Path

from brain_collector.reference.pages import PAGES

for name, render in PAGES.items():
    Path(sys.argv[1], name).write_text(render())
