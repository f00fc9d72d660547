"""How many requests of one client are answered at once: pages are rendered on the loop that serves everybody.

Owns the waiting and nothing else; `routing` says which requests are one client's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

AT_ONCE = 4


class ConcurrencyLimit:
    """Lets at most `at_once` requests of each client be answered at once; others wait in the order of arrival."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._present: Counter[str] = Counter()

    @asynccontextmanager
    async def slot(self, client: str) -> AsyncIterator[None]:
        """Wait until a request of this client may be answered, and hold its place meanwhile."""
        self._present[client] += 1
        try:
            async with self._semaphores.setdefault(client, asyncio.Semaphore(self._at_once)):
                yield
        finally:
            self._present[client] -= 1
            # dropped only when nobody waits on it either: else a newcomer would get a second semaphore beside it
            if not self._present[client]:
                del self._present[client], self._semaphores[client]
