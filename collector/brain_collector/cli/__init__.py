"""The command line: options, output formats, and the HTTP client that its commands share.

Commands are in `commands/`, one file a command, imported only when they run.
May import everything, but lazily: `--help` loads no server library. Must not know a database driver; what it
knows of events it learns over HTTP, as any other client.
"""
