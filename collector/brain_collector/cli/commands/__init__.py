"""The commands: one file per command, named like it; `query` has `get` and `stats` too.

A command parses its options, calls the wings below, and prints. `cli/main.py` lists the commands.
May import `cli` and everything below it. Must not be imported by anything but the lazy group.
"""
