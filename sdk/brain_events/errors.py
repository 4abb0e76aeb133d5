"""The SDK's errors. Only `init`, `Config` and `Client` raise them; logging an event never raises.

BrainEventsError
└── ConfigError    a setting cannot be used (also a ValueError)
"""


class BrainEventsError(Exception):
    """The base of every error of this package."""


class ConfigError(BrainEventsError, ValueError):
    """A setting cannot be used; the message names it, its value, and what to do."""
