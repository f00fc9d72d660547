"""Times as tills write them, and moments that are easily read wrong.

Owns these for a connector's own tests; the suite's behaviours bring their own times.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_DAYS = 370  # a year and a few days: both changes of the clock are in it, whatever day it is


def written(at: datetime, zone: str, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Write a moment (aware) as a till in that IANA zone does, by a pattern of `strftime`."""
    return at.astimezone(ZoneInfo(zone)).strftime(pattern)


def awkward_moments(zone: str, before: datetime) -> tuple[datetime, ...]:
    """Return moments (UTC) of the year before `before` that a careless reading gets wrong, oldest first.

    They are the seconds around the last local midnight, and moments around each change of the zone's clock: also in the
    hour that comes twice, which a local time without its offset cannot tell apart.
    """
    place = ZoneInfo(zone)
    midnight = before.astimezone(place).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    moments = {midnight - timedelta(seconds=1), midnight, midnight + timedelta(seconds=1)}
    for change in _clock_changes(place, before):
        moments |= {change - timedelta(minutes=30), change - timedelta(seconds=1), change}
        moments.add(change + timedelta(minutes=30))
    return tuple(sorted(moments))


def _clock_changes(place: ZoneInfo, before: datetime) -> Iterator[datetime]:
    """Yield the moments (UTC) in the year before one at which a zone's offset changed."""
    # `zoneinfo` does not tell its transitions, so each hour's offset is compared with the next one's
    hour = before.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=_DAYS)
    for _ in range(_DAYS * 24):
        following = hour + timedelta(hours=1)
        if hour.astimezone(place).utcoffset() != following.astimezone(place).utcoffset():
            yield following
        hour = following
