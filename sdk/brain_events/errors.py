"""The errors of the SDK. Only `init`, `Config` and `Client` raise them; logging an event never raises.

BrainEventsError
└── ConfigError    a setting cannot be used (also a ValueError)
"""


class BrainEventsError(Exception):
    """Base class of all errors of this package."""


class ConfigError(BrainEventsError, ValueError):
    """A setting cannot be used. The message names the setting, its value and the remedy."""
