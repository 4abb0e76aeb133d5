"""Writes the generated pages of the documentation out of the lists in the code.

Each file is a command (`python -m brain_collector.reference.<name>`); tests compare its output with docs/.
May import everything. Must not be imported by anything.
"""
