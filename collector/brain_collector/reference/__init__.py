"""Makes the generated pages of the manual from the lists in the code: one module per page, each with `render()`.

`python -m brain_collector.reference docs/reference` writes them all; tests compare them with the code.
May import everything. Must not be imported by anything.
"""
