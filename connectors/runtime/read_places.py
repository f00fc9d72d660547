"""Places for reads of tills: how many may begin now.

Owns the counting. A read that answers soon has one of a few hundred places, which is what keeps the machine from doing
too much at once. One that takes long only waits for its till, which costs little; it gives its place up, so that a
thousand tills that hang delay no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLACES = 400
"""Reads that began a moment ago."""
MOST = 4000
"""All reads under way: each has a connection and some memory."""
SOON_SECONDS = 2.0


class ReadPlaces:
    """Counts reads under way; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: dict[object, float] = {}
        """When each read under way began, the oldest first."""

    def free(self) -> int:
        """Return how many reads may begin now."""
        soon = self._clock() - SOON_SECONDS
        young = 0
        # from the youngest: no further than those that began a moment ago, of which there are few
        for began in reversed(self._begun.values()):
            if began < soon:
                break
            young += 1
        return max(0, min(PLACES - young, MOST - len(self._begun)))

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place for a read."""
        read = object()
        self._begun[read] = self._clock()
        try:
            yield
        finally:
            del self._begun[read]
