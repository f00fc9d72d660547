"""A clock for the console's tests that runs ahead of the system's."""

from __future__ import annotations

from connectors.domain.clock import SteadyClock


class MovableClock:
    """The system's clock, `ahead` by so many microseconds."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead
