"""The commands of `brain-events`, one file a command, called as the command.

A command parses its options, calls the wings below, and prints. `cli/main.py` lists the commands.
May import `cli` and everything below it. Must be imported by the lazy group only.
"""
