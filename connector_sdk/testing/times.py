"""Times as tills write them, and the moments at which they are read wrongly.

Owns these helpers for a connector's own tests; the suite's behaviours bring their own times.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_DAYS = 370


def written(at: datetime, zone: str, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A moment (aware) as a till in that IANA zone writes it, by a pattern of `strftime`."""
    return at.astimezone(ZoneInfo(zone)).strftime(pattern)


def awkward_moments(zone: str, before: datetime) -> tuple[datetime, ...]:
    """Moments (UTC) of the year before one that a careless reading gets wrong, oldest first.

    They are the seconds around the last local midnight, and around each change of the zone's clock: also the hour
    that comes twice, which a local time without its offset cannot tell apart.
    """
    place = ZoneInfo(zone)
    midnight = before.astimezone(place).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    found = {midnight - timedelta(seconds=1), midnight, midnight + timedelta(seconds=1)}
    hour = before.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=_DAYS)
    for _ in range(_DAYS * 24):
        following = hour + timedelta(hours=1)
        if hour.astimezone(place).utcoffset() != following.astimezone(place).utcoffset():
            found |= {
                following - timedelta(minutes=30),
                following - timedelta(seconds=1),
                following,
                following + timedelta(minutes=30),
            }
        hour = following
    return tuple(sorted(found))
