"""How many hooks a connection has sent lately, and how many bytes a business; beyond its quota a till sends later.

Owns the counting, in memory: it begins anew with the process. Only what was proven counts, so that whoever learns an
address, and not its secret, cannot use up what the till may send.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from connectors.domain.clock import DAY, SECOND
from connectors.domain.quotas import Quotas

_REMEMBERED = 100_000
_LONGEST_WAIT = 3600


@dataclass(slots=True)
class _Rate:
    """How many hooks are left of a minute's worth, as of a moment (UTC microseconds)."""

    left: float
    at: int


class HookRates:
    """Counts hooks by address, and their bytes by business and day (UTC)."""

    def __init__(self, quotas: Quotas, now: Callable[[], int]) -> None:
        self._quotas = quotas
        self._now = now
        self._rates: OrderedDict[str, _Rate] = OrderedDict()
        self._bytes: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def wait(self, address: str, business_id: str | None = None) -> int:
        """After how many seconds the next hook of an address is taken; 0 where it is taken now."""
        seconds = math.ceil((1 - self._refilled(address).left) * 60 / self._quotas.hooks_a_minute)
        day, used = self._bytes.get(business_id or "", (0, 0))
        if day == self._now() // DAY and used >= self._quotas.hook_bytes_a_day:
            seconds = max(seconds, (DAY - self._now() % DAY) // SECOND + 1)
        return min(max(0, seconds), _LONGEST_WAIT)

    def count(self, address: str, size: int, business_id: str | None = None) -> None:
        """Count a hook of so many bytes that was proven and is kept."""
        self._refilled(address).left -= 1
        if business_id is None:
            return
        today = self._now() // DAY
        day, used = self._bytes.pop(business_id, (today, 0))
        self._bytes[business_id] = (today, size + (used if day == today else 0))
        if len(self._bytes) > _REMEMBERED:
            self._bytes.popitem(last=False)

    def _refilled(self, address: str) -> _Rate:
        now, most = self._now(), self._quotas.hooks_a_minute
        rate = self._rates.setdefault(address, _Rate(most, now))
        self._rates.move_to_end(address)
        if len(self._rates) > _REMEMBERED:
            self._rates.popitem(last=False)
        rate.left = min(most, rate.left + (now - rate.at) * most / (60 * SECOND))
        rate.at = now
        return rate
