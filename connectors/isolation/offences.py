"""Who exceeded the limits, how often, and for how long they are left alone because of it.

Owns the counting. What a tenant's sender does counts for that tenant alone; a connector is set aside for everybody only
where the same happens to several tenants, or before anybody is known (at the one address of all its accounts).
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

NO_TENANT = ""
"""The tenant of what is read before anybody is known."""
_MANY = 3
"""So many offences of a tenant make a pause, and so many tenants with one suspend the connector for all."""
_WITHIN_SECONDS = 600.0
_FIRST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0
_MOST_DOUBLINGS = 10
_MOST_RECORDS = 10_000
"""Tenants come and go: the records not touched for longest are forgotten."""


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
        """Count an offence; return whether it begins a pause."""
        now = self._now()
        record = self._touch(connector, tenant)
        if record.until and now > record.until + _WITHIN_SECONDS:
            record.pauses = 0  # it went well for a while after the last pause
        record.times.append(now)
        while record.times[0] < now - _WITHIN_SECONDS:
            record.times.popleft()
        # after a pause, one more is enough
        if len(record.times) < _MANY and not record.pauses:
            return False
        record.times.clear()
        record.until = now + min(_FIRST_PAUSE_SECONDS * 2**record.pauses, _LONGEST_PAUSE_SECONDS)
        record.pauses = min(record.pauses + 1, _MOST_DOUBLINGS)
        return True

    def _touch(self, connector: str, tenant: str) -> _Record:
        """Return the record of a tenant, made where there is none, as the last to be forgotten."""
        record = self._records.setdefault((connector, tenant), _Record())
        self._records.move_to_end((connector, tenant))
        if len(self._records) > _MOST_RECORDS:
            self._records.popitem(last=False)
        return record

    def pause(self, connector: str, tenant: str) -> float:
        """Return for how many seconds a tenant's calls to a connector are not made; 0 where they are."""
        record = self._records.get((connector, tenant))
        return max(0.0, record.until - self._now() if record else 0.0)

    def pause_for_all(self, connector: str) -> float:
        """Return for how many seconds a connector is suspended for everybody; 0 where it is not."""
        now = self._now()
        pauses = {
            tenant: record.until - now
            for (name, tenant), record in self._records.items()
            if name == connector and record.until > now
        }
        # what is read before anybody is known stands for all: nobody can be told apart there
        if NO_TENANT in pauses:
            return pauses[NO_TENANT]
        # until fewer than that many tenants are paused
        return sorted(pauses.values())[-_MANY] if len(pauses) >= _MANY else 0.0
