"""A cache of owners' numbers of whole days: they are counted once in some minutes, however often a page is opened.

Owns how long and how many are remembered; the counting is `numbers`'.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from connectors.domain.numbers import Numbers, Period, Span

_LIFETIME = 300.0
_MOST_ENTRIES = 200


class NumbersKey(NamedTuple):
    """Whose numbers of which days: another day is another key."""

    connection_id: str
    span: Span


class NumbersCache:
    """Numbers of connections, for some minutes."""

    def __init__(self) -> None:
        self._entries: OrderedDict[NumbersKey, tuple[float, Numbers]] = OrderedDict()

    async def numbers(self, key: NumbersKey, count: Callable[[], Awaitable[Numbers]]) -> Numbers:
        """Return numbers, counted with `count` where none are remembered; those of today are counted each time."""
        until, numbers = self._entries.get(key, (0.0, None))
        if numbers is None or until < time.monotonic():
            numbers = await count()
            if key.span.period is not Period.day:
                self._entries[key] = (time.monotonic() + _LIFETIME, numbers)
                self._entries.move_to_end(key)
                while len(self._entries) > _MOST_ENTRIES:
                    self._entries.popitem(last=False)
        return numbers
