"""Makes the generated pages of the manual from the lists in the code: one module per page, each with `render()`.

`python -m brain_collector.reference docs/reference` writes them all.

May import everything. Nothing may import it, and it must not know a running collector.
"""
