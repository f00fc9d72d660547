"""Clocks that tests move."""

from __future__ import annotations

from connectors.domain.clock import SECOND, SteadyClock


class MovableClock:
    """The system's clock, `ahead` by so many microseconds."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


class StoppedClock:
    """A `moment` in UTC microseconds, which a test moves on."""

    def __init__(self, moment: int = 1_800_000_000 * SECOND) -> None:
        self.moment = moment

    def now(self) -> int:
        return self.moment
