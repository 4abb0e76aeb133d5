"""Times and durations as users write them: an age such as 15m, 2h or 7d, or RFC 3339."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds(text: str) -> int | None:
    """Return a duration such as 90s, 15m, 2h, 7d or 1w in seconds; None if the text is not a duration."""
    match = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", text, re.ASCII)
    return int(match[1]) * _UNITS_S[match[2]] if match else None


class Duration(click.ParamType[int]):
    """A duration, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds."""
        if isinstance(value, int):
            return value
        duration_s = seconds(value)
        if duration_s is None:
            self.fail(
                f"{value[:30]!r} is not a duration; write a number followed by s, m, h, d or w, for example 90d",
                param,
                ctx,
            )
        return duration_s


class Moment(click.ParamType[datetime]):
    """A time in UTC: RFC 3339 (UTC if it has no offset), or an age before now."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        if isinstance(value, datetime):
            return value
        age_s = seconds(value)
        try:
            if age_s is not None:
                return datetime.now(UTC) - timedelta(seconds=age_s)
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value[:40]!r} is neither an age (15m, 2h, 7d) nor an RFC 3339 time (2026-01-02T23:45:12Z)",
                param,
                ctx,
            )


DURATION: Final = Duration()
MOMENT: Final = Moment()
