"""The call window: how many calls to 7stamp are on the wire at once, learned from how fast they are answered.

Owns the number alone. Sixteen at once are 160 a second where an answer takes 100 ms, however much 7stamp could take:
so the window grows while answers stay as fast as they were, and shrinks when they get slower or fail. How fast one key
may send is `key_pacing`'s.
"""

from __future__ import annotations

import asyncio
from statistics import fmean
from types import TracebackType

LEAST, MOST = 16, 96
"""Calls at once; the most are fewer than the connections that the transport opens (100)."""
_STEADY, _SLOWER = 1.5, 2.0
"""How many times as long as in the fastest round answers may take for the window to grow, and when it shrinks."""
_FORGET = 1.02
"""How much slower the fastest round counts with each further one: 7stamp may be slower today than it was once."""


class CallWindow:
    """Lets so many calls through at once: `async with window:` around each, and `answered` with what came of it.

    A round is as many answers as the window is wide. It grows by a quarter after a round in which calls waited and
    answers were as fast as ever, and shrinks by a quarter after one in which they were slow or one failed.
    """

    def __init__(self, least: int = LEAST, most: int = MOST) -> None:
        self.size = least
        self._least, self._most = least, most
        self._places = asyncio.Semaphore(least)
        self._owed = 0
        """Places to take away, as soon as calls end."""
        self._seconds: list[float] = []
        self._fastest: float | None = None
        self._failed = self._was_full = False

    async def __aenter__(self) -> None:
        """Wait for a place."""
        self._was_full = self._was_full or self._places.locked()
        await self._places.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the place, or take it away where the window shrank."""
        if self._owed:
            self._owed -= 1
        else:
            self._places.release()

    def answered(self, seconds: float, *, failed: bool = False) -> None:
        """Count an answer: how long it took, and whether the call failed."""
        self._seconds.append(seconds)
        self._failed = self._failed or failed
        if len(self._seconds) >= self.size:
            self._end_round(fmean(self._seconds))

    def _end_round(self, mean: float) -> None:
        self._fastest = mean if self._fastest is None else min(mean, self._fastest * _FORGET)
        if self._failed or mean > self._fastest * _SLOWER:
            self._resize(self.size * 3 // 4)
        elif self._was_full and mean < self._fastest * _STEADY:
            self._resize(max(self.size + 1, self.size * 5 // 4))
        self._seconds.clear()
        self._failed = self._was_full = False

    def _resize(self, wished: int) -> None:
        size = min(self._most, max(self._least, wished))
        change, self.size = size - self.size, size
        self._owed -= change
        while self._owed < 0:
            self._places.release()
            self._owed += 1
