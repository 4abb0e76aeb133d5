"""Moments and durations as they are typed: an age such as 15m, 2h, 7d, or RFC 3339."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds(text: str) -> int | None:
    """Return a duration, as 90s, 15m, 2h, 7d or 1w, in seconds; None if it is none."""
    found = re.fullmatch(r"([1-9]\d{0,8})([smhdw])", text, re.ASCII)
    return int(found[1]) * _UNITS_S[found[2]] if found else None


class Duration(click.ParamType[int]):
    """A duration, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return its seconds."""
        if isinstance(value, int):
            return value
        found = seconds(value)
        if found is None:
            self.fail(f"{value[:30]!r} is no duration; write a number and s, m, h, d or w, as 90d", param, ctx)
        return found


class Moment(click.ParamType[datetime]):
    """A moment in UTC: RFC 3339 (without an offset: UTC), or an age before now."""

    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment."""
        if isinstance(value, datetime):
            return value
        age_s = seconds(value)
        try:
            if age_s is not None:
                return datetime.now(UTC) - timedelta(seconds=age_s)
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{value[:40]!r} is neither an age, as 15m, 2h or 7d, nor RFC 3339, as 2026-01-02T23:45:12Z", param, ctx
            )


DURATION: Final = Duration()
MOMENT: Final = Moment()
