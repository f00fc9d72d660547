"""How many requests of one visitor are answered at once: pages are rendered on the loop that serves everybody.

Owns the waiting and nothing else; who a visitor is, is `frame`'s.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

AT_ONCE = 4


class Turns:
    """Answers at most so many requests of each visitor at once; the others wait in the order of arrival."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._here: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, visitor: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it meanwhile."""
        self._here[visitor] += 1
        try:
            async with self._turns.setdefault(visitor, asyncio.Semaphore(self._at_once)):
                yield
        finally:
            self._here[visitor] -= 1
            if not self._here[visitor]:
                del self._here[visitor], self._turns[visitor]
