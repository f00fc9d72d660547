"""How fast a till is called: evenly spaced turns, shared by everything that calls the same account.

Owns the arithmetic within this process. Where several machines call the same account, whoever runs them lends turns
from one place (`RateLimit.lender`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar, Protocol
from weakref import WeakValueDictionary

from connector_sdk.errors import RateLimited

_LONGEST_PAUSE = 300.0  # seconds
_SLICE_SECONDS = 1.0
"""How long what is lent at once lasts at most: so far may what one machine has and does not use keep others waiting."""

_paced: ContextVar[bool] = ContextVar("paced", default=True)


@contextmanager
def unpaced() -> Iterator[None]:
    """Suspend rate limits and pauses before retries in this context, for stand-in tills; retries go on."""
    token = _paced.set(False)
    try:
        yield
    finally:
        _paced.reset(token)


def is_paced() -> bool:
    """Say whether rate limits and pauses hold in this context."""
    return _paced.get()


class Lender(Protocol):
    """Lends turns of one account to this process."""

    async def __call__(self, name: str, per_second: float, burst: int, turns: int, paused: float) -> float | None:
        """Reserve so many turns for this process alone, and return in how many seconds the first one is.

        They are `1 / per_second` seconds apart. The first may be past by up to `burst` of them, and is none within
        `paused` seconds from now: the till has said so. `None` where nothing can be lent now.
        """


class RateLimit:
    """Allow at most `per_second` calls, evenly paced after a burst of `burst`; a 429 pauses everybody who shares it.

    `shared` returns the same limit for the same key.
    """

    # weak, so that the limit of an account which nobody calls any more goes with its last client
    _shared: ClassVar[WeakValueDictionary[str, RateLimit]] = WeakValueDictionary()
    lender: ClassVar[Lender | None] = None
    """Where turns of shared limits come from; without one this process is the only one that calls."""

    def __init__(self, per_second: float, burst: int = 10) -> None:
        self.per_second = per_second
        self.burst = burst
        self._key = ""
        self._next = 0.0
        self._paused_until = 0.0
        self._lent = _Lent()

    @classmethod
    def shared(cls, key: str, per_second: float) -> RateLimit:
        """Return the limit of that key, shared by everything that calls it in this installation.

        The key is what the till counts by: an account (`kettle:861052`), or a whole application (`kettle`). Never a
        token, which changes with every renewal.
        """
        limit = cls._shared.get(key)
        if limit is None:
            limit = cls._shared[key] = cls(per_second)
            limit._key = key
        return limit

    async def turn(self, most: float = math.inf) -> float:
        """Wait for this call's turn and return the seconds waited.

        Raises `RateLimited` at once, without taking the turn, where the wait would be `most` seconds or longer.
        """
        if not is_paced():
            return 0.0
        began = time.monotonic()
        is_lent = self._key != "" and self.lender is not None and await self._borrow(self.lender)
        now = time.monotonic()
        # Turns are evenly spaced moments. An idle limit may lag behind now by a whole burst and no further: so many
        # turns are already due, and are given without waiting.
        turn = max(self._next, now - self.burst / self.per_second) + 1 / self.per_second
        wait = max(0.0, turn - now, self._paused_until - now)
        if wait >= most - (now - began):
            raise RateLimited(wait)
        # taken before the sleep, so that concurrent callers queue up one behind the other
        self._next = turn
        if is_lent:
            self._lent.left -= 1
        if wait:
            await asyncio.sleep(wait)
        return wait + now - began

    def pause(self, seconds: float) -> None:
        """Give nobody a turn for so long, and at most five minutes: the till has asked for it.

        Whoever was asked to wait longer does so by itself: one answer must not stop all who share the limit for an
        hour.
        """
        self._paused_until = max(self._paused_until, time.monotonic() + min(seconds, _LONGEST_PAUSE))
        self._lent.left = 0  # what is lent next tells the others of the pause

    async def _borrow(self, lender: Lender) -> bool:
        """See that a turn is lent to this process; say whether one is: else it goes by what it knows itself."""
        lent = self._lent
        lent.waiting += 1
        try:
            async with lent.lock:
                now = time.monotonic()
                if lent.left and now < lent.until:
                    return True
                # As many as wait, and twice as many as the last time where those were used up at once: who makes a
                # call a minute keeps nothing from others, and who makes many does not ask for each.
                most = max(1, math.ceil(self.per_second * _SLICE_SECONDS))
                again = lent.turns * 2 if now < lent.until else 1
                turns = min(most, max(lent.waiting, again))
                first = await lender(self._key, self.per_second, self.burst, turns, max(0.0, self._paused_until - now))
                if first is None:
                    return False
                now = time.monotonic()
                self._next = now + first - 1 / self.per_second
                lent.turns = lent.left = turns
                lent.until = now + max(first, 0.0) + _SLICE_SECONDS
                return True
        finally:
            lent.waiting -= 1


class _Lent:
    """What was lent to this process last: `left` of `turns` are unused, and are worth nothing after `until`."""

    __slots__ = ("left", "lock", "turns", "until", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.left = self.turns = 0
        self.until = 0.0
        self.waiting = 0
