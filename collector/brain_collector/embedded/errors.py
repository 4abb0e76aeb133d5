"""The errors of the embedded engines; each message is written for the user at the terminal.

EmbeddedError         a CollectorError: the command ends with its message
├── DataDirError      the data directory is in use, not accessible, or of another version
├── EngineMissing     no usable binary is installed
└── EngineFailed      the engine was started, but does not accept connections
"""

from brain_collector.errors import CollectorError


class EmbeddedError(CollectorError):
    """An embedded engine cannot run; the message says what happened, where, and what to do."""


class DataDirError(EmbeddedError):
    """The data directory cannot be used; nothing in it was changed."""


class EngineMissing(EmbeddedError):  # noqa: N818 - an outcome
    """No usable engine binary is installed."""


class EngineFailed(EmbeddedError):  # noqa: N818 - an outcome
    """An engine was started, but does not accept connections; the message ends with the last lines of its log."""
