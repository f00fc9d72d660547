"""What time it is, as a parameter: UTC microseconds. Tests bring their own; pauses go through asyncio."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    def now(self) -> int:
        """UTC microseconds since 1970."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        return time.time_ns() // 1000


def micros(moment: datetime) -> int:
    """An aware moment as UTC microseconds, exactly."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * SECOND + delta.microseconds


def moment(value: int) -> datetime:
    """UTC microseconds as an aware datetime."""
    return datetime.fromtimestamp(value // SECOND, UTC).replace(microsecond=value % SECOND)
