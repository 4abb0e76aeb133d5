"""What can go wrong with the embedded engines, each with a message for the person at the terminal.

EmbeddedError         a CollectorError: the command ends with its message
├── DataDirError      the data directory is in use, out of reach, or from another version
├── EngineMissing     no usable binary was found
└── EngineFailed      the engine was started and did not come up
"""

from brain_collector.errors import CollectorError


class EmbeddedError(CollectorError):
    """An embedded engine cannot run; the message says what happened, where, and what to do."""


class DataDirError(EmbeddedError):
    """The data directory cannot be used: nothing in it was changed."""


class EngineMissing(EmbeddedError):  # noqa: N818 - reads as what it is
    """No usable engine binary is installed."""


class EngineFailed(EmbeddedError):  # noqa: N818 - reads as what it is
    """An engine was started and did not come up; the message ends with the last lines of its log."""
