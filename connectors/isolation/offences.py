"""Who exceeded the limits, how often, and for how long they are left alone because of it.

Owns the counting. What a tenant's sender does counts for that tenant alone; a connector is set aside for everybody only
where the same happens to several tenants, or before anybody is known (at the one address of all its accounts).
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

NOBODY = ""
"""The tenant of what is read before anybody is known."""
_MANY = 3
_WITHIN = 600.0
_FIRST_PAUSE = 60.0
_LONGEST_PAUSE = 3600.0
_REMEMBERED = 10_000


@dataclass(slots=True)
class _Record:
    """Times of offences (seconds, monotonic), until when there is a pause, and how many pauses there were in a row."""

    times: deque[float] = field(default_factory=deque)
    until: float = 0.0
    pauses: int = 0


class Offences:
    """Counts offences by connector and tenant: three within ten minutes make a pause, each longer than the last."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    def add(self, connector: str, tenant: str) -> bool:
        """Count an offence; whether it begins a pause."""
        now = self._now()
        record = self._records.setdefault((connector, tenant), _Record())
        self._records.move_to_end((connector, tenant))
        if len(self._records) > _REMEMBERED:
            self._records.popitem(last=False)
        if record.until and now > record.until + _WITHIN:
            record.pauses = 0
        record.times.append(now)
        while record.times[0] < now - _WITHIN:
            record.times.popleft()
        # after a pause, one more is enough
        if len(record.times) < _MANY and not record.pauses:
            return False
        record.times.clear()
        record.until = now + min(_FIRST_PAUSE * 2**record.pauses, _LONGEST_PAUSE)
        record.pauses = min(record.pauses + 1, 10)
        return True

    def pause(self, connector: str, tenant: str) -> float:
        """How many seconds one tenant's work by a connector is not done; 0 where it is."""
        record = self._records.get((connector, tenant))
        return max(0.0, record.until - self._now() if record else 0.0)

    def pause_for_all(self, connector: str) -> float:
        """How many seconds a connector is set aside for everybody; 0 where it is not."""
        now = self._now()
        left = {
            tenant: record.until - now
            for (name, tenant), record in self._records.items()
            if name == connector and record.until > now
        }
        if NOBODY in left:
            return left[NOBODY]
        return sorted(left.values())[-_MANY] if len(left) >= _MANY else 0.0
