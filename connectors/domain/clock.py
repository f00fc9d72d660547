"""Time as UTC microseconds: its units, its conversion, and the clock as a parameter, so that tests bring their own.

Owns no waiting: pauses go through asyncio.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
CLOCKS_AGREE = 5 * SECOND
"""By less than this the members of a cluster differ in what time it is, but for one that has yet to see a jump."""


class Clock(Protocol):
    """Anything that knows what time it is."""

    def now(self) -> int:
        """Return the microseconds since 1970 (UTC)."""
        ...


class SteadyClock:
    """A clock that goes on evenly whatever is done to the machine's, until it is told to follow.

    What is on the wire is judged by how long ago it was sent: a clock that jumps must not make that longer.
    """

    def __init__(self) -> None:
        self._offset = time.time_ns() // 1000 - _elapsed()
        self.steady_since = self.now()
        """From when on times that it told can be compared: it began then, or jumped."""

    def now(self) -> int:
        """Return the microseconds since 1970 (UTC)."""
        return _elapsed() + self._offset

    def put_forward(self, by: int) -> None:
        """Put the clock forward by so many microseconds, or back."""
        self._offset += by

    def jump(self, by: int) -> None:
        """Follow a clock that jumped: what was told before cannot be compared with what is told from now on."""
        self.put_forward(by)
        self.steady_since = self.now()


def _elapsed() -> int:
    return time.monotonic_ns() // 1000


def micros(moment: datetime) -> int:
    """Convert an aware datetime to UTC microseconds, exactly."""
    # `timestamp()` is a float, which loses microseconds: the parts of a difference are whole numbers
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * SECOND + delta.microseconds


def moment(value: int) -> datetime:
    """Convert UTC microseconds to an aware datetime."""
    return datetime.fromtimestamp(value // SECOND, UTC).replace(microsecond=value % SECOND)
