"""The commands of `brain-events`, one file a command, called as the command.

A command parses its options, calls something below, and prints. `cli/main.py` lists them.
May import `cli` and everything below it. Must not be imported by anything but the lazy group.
"""
