"""Hook rates: how many hooks an address has sent lately, and how many bytes a business has.

Owns the counting, in memory: it begins anew with the process; asking a till to send later is `hooks`'. Only what was
proven counts, so that whoever learns an address, and not its secret, cannot use up what the till may send.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from connectors.domain.clock import DAY, SECOND
from connectors.domain.quotas import Quotas

_MOST_REMEMBERED = 100_000
"""Addresses, and businesses, whose use is remembered; whoever was quiet longest is forgotten first."""
_LONGEST_WAIT = 3600
"""Seconds: many tills give a hook up that they may not send for longer."""


@dataclass(slots=True)
class _Allowance:
    """How many hooks are left of a minute's worth, as of a moment (UTC microseconds); it refills with time."""

    left: float
    at: int


@dataclass(frozen=True, slots=True)
class _DayUse:
    """Bytes that a business has sent on a day (days since 1970, UTC)."""

    day: int
    size: int


class HookRates:
    """Counts hooks by address, of which each may send so many `a_minute`, and their bytes by business and day (UTC)."""

    def __init__(self, quotas: Quotas, now: Callable[[], int], a_minute: int | None = None) -> None:
        self._quotas = quotas
        self._now = now
        self._a_minute = a_minute or quotas.hooks_a_minute
        self._allowances: OrderedDict[str, _Allowance] = OrderedDict()
        self._day_uses: OrderedDict[str, _DayUse] = OrderedDict()

    def wait(self, address: str, business_id: str | None = None) -> int:
        """Return after how many seconds the next hook of an address is taken; 0 where it is taken now."""
        missing = 1 - self._refill(address).left
        seconds = math.ceil(missing * 60 / self._a_minute)
        if self._used_today(business_id or "") >= self._quotas.hook_bytes_a_day:
            seconds = max(seconds, (DAY - self._now() % DAY) // SECOND + 1)
        return min(max(0, seconds), _LONGEST_WAIT)

    def left(self, address: str) -> int:
        """Return how many more hooks of an address are taken now."""
        return max(0, int(self._refill(address).left))

    def count(self, address: str, size: int, business_id: str | None = None) -> None:
        """Count a hook of so many bytes that was proven and is kept."""
        self._refill(address).left -= 1
        if business_id is None:
            return
        used = self._used_today(business_id)
        self._day_uses[business_id] = _DayUse(self._now() // DAY, used + size)
        self._day_uses.move_to_end(business_id)
        if len(self._day_uses) > _MOST_REMEMBERED:
            self._day_uses.popitem(last=False)

    def _used_today(self, business_id: str) -> int:
        use = self._day_uses.get(business_id)
        return use.size if use is not None and use.day == self._now() // DAY else 0

    def _refill(self, address: str) -> _Allowance:
        """Return the allowance of an address as of now: what a minute allows comes back evenly over the minute."""
        now, most = self._now(), self._a_minute
        allowance = self._allowances.setdefault(address, _Allowance(most, now))
        self._allowances.move_to_end(address)
        if len(self._allowances) > _MOST_REMEMBERED:
            self._allowances.popitem(last=False)
        elapsed = max(0, now - allowance.at)  # a clock that is put back takes nothing away
        allowance.left = min(most, allowance.left + elapsed * most / (60 * SECOND))
        allowance.at = now
        return allowance
