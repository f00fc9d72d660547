"""Plans: how many card operations of 7stamp a business has this month, and when to ask about them again.

Owns these decisions, as pure functions. 7stamp counts one operation for each stamp or voucher entry, of ours and of
anybody's; a month is one at the venue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from connectors.domain.clock import DAY, HOUR, MINUTE, micros, moment

CHECK_WHILE_PAUSED = 15 * MINUTE
_CHECK_WHILE_FILLING = HOUR
_CHECK_OTHERWISE = DAY


@dataclass(frozen=True, slots=True)
class Plan:
    """Card operations used and allowed this month (`None` for no limit); times in UTC microseconds."""

    used: int
    allowed: int | None
    until: int
    """When they are counted anew."""
    checked_at: int
    """When 7stamp was asked; what we sent since is added."""

    @property
    def is_near(self) -> bool:
        """Whether four fifths are used."""
        return self.allowed is not None and self.used * 5 >= self.allowed * 4

    @property
    def is_used_up(self) -> bool:
        """Whether there is none left."""
        return self.allowed is not None and self.used >= self.allowed


def next_check(plan: Plan | None, now: int, *, paused: bool) -> int:
    """Return when to ask 7stamp about a plan again; `plan` is `None` where it could not be asked."""
    if plan is None or paused:
        return now + CHECK_WHILE_PAUSED
    is_filling = plan.allowed is not None and plan.used * 2 >= plan.allowed
    return min(plan.until, now + (_CHECK_WHILE_FILLING if is_filling else _CHECK_OTHERWISE))


def start_of_next_month(now: int, zone: str) -> int:
    """Return when the next month begins at the venue (UTC microseconds): then a plan's operations are counted anew."""
    midnight = _local(now, zone).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return micros((midnight + timedelta(days=32)).replace(day=1))


def local_day(at: int, zone: str) -> date:
    """Return the day of a moment (UTC microseconds) at the venue."""
    return _local(at, zone).date()


def _local(at: int, zone: str) -> datetime:
    try:
        return moment(at).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError):  # 7stamp's word for a zone, which may be none we know
        return moment(at)
