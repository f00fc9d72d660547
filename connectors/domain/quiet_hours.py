"""Quiet hours: when a phone is told nothing, and when it may be told again.

Owns the reading of both ends and what they cover, as pure functions of a venue's clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from connectors.domain.clock import micros, moment

_MINUTES_OF_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` of each day, in minutes since midnight; over midnight where the end is the earlier one."""

    begin: int
    end: int

    def __post_init__(self) -> None:
        if self.begin == self.end or not all(0 <= minute < _MINUTES_OF_DAY for minute in (self.begin, self.end)):
            raise ValueError("quiet hours have two different times of a day")

    def until(self, now: int, zone: str) -> int | None:
        """Return when the quiet hours end that cover a moment (UTC microseconds); `None` where none do."""
        local = moment(now).astimezone(ZoneInfo(zone))
        minute = local.hour * 60 + local.minute
        if not (minute - self.begin) % _MINUTES_OF_DAY < (self.end - self.begin) % _MINUTES_OF_DAY:
            return None
        day = local.date() + timedelta(days=1) if minute >= self.end else local.date()
        end = datetime(day.year, day.month, day.day, self.end // 60, self.end % 60, tzinfo=local.tzinfo)
        # of a time that comes twice, the second; of one that a clock jumps over, the moment an hour later
        at = max(micros(end), micros(end.replace(fold=1)))
        return at if at > now else None
