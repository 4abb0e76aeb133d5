"""The command line: options, output formats, and the HTTP client that the commands share.

Commands are in `commands/` and are imported only when they run.
May import everything, but lazily: `--help` loads no server library. Must not know a database driver; it reads events
over HTTP, like any other client.
"""
