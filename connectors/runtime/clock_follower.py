"""Follows the right time, and says so where the clock jumped.

Owns the sentence and the counter; what moves with the clock is `connectors.store.clock_jumps`'.
"""

from __future__ import annotations

import logging

from connectors.domain.clock import SECOND, SteadyClock
from connectors.runtime.counter_names import CLOCK_JUMPS, CLOCK_TO_MAKE_UP
from connectors.store import clock_jumps, counters
from connectors.store.engine import Store, Transaction

log = logging.getLogger(__name__)

_JUMPS_LOCK = "a jump of the clock"


class ClockFollower:
    """Has one process go by the right time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jumps_before: int | None = None
        """How many jumps had been seen in the cluster when the clock was last looked at, and was right."""

    async def follow(self) -> bool:
        """Look at the right time, and go by it; say whether the clock jumped. Raises `StoreError`."""
        store = self._store
        # counted before the time is asked for: if another member has seen a jump by then, so does this one now
        jumps = 0 if store.embedded else await store.read(_count_jumps)
        jump = await store.follow_clock()
        clock = store.clock
        if not jump or not isinstance(clock, SteadyClock):
            self._jumps_before = jumps
            return False
        whose = "the clock" if store.embedded else "the database server's clock"
        way = "forward" if jump > 0 else "back"
        log.warning("%s was put %s by %d seconds: what waits goes on waiting", whose, way, abs(jump) // SECOND)
        self._jumps_before = await store.write(lambda tx: self._shift(tx, jump))
        # last: whoever goes by the new time finds times that moved with it
        clock.jump(jump)
        return True

    def _shift(self, tx: Transaction, jump: int) -> int:
        """Move what is stored, unless another member of the cluster has done so; return how many jumps were seen."""
        if not self._store.embedded:
            tx.alone(_JUMPS_LOCK)
        jumps = _count_jumps(tx)
        # one that joined just now cannot tell; that something is judged later than it could be does no harm
        is_first = jumps == self._jumps_before or (self._jumps_before is None and jump > 0)
        if self._store.embedded:
            clock_jumps.shift(tx, tx.now, jump)
        elif is_first:
            clock_jumps.shift_for_others(tx, tx.now, jump)
            counters.raise_counter(tx, CLOCK_TO_MAKE_UP, jump)
        else:
            return jumps
        counters.raise_counter(tx, CLOCK_JUMPS)
        return jumps + 1

    async def make_up(self, within: int) -> None:
        """Move what members wrote by the former time after a jump; each has seen it `within` so many microseconds.

        For a cluster, when whoever lives goes by the right time. Raises `StoreError`.
        """
        await self._store.write(lambda tx: _make_up(tx, within))


def _make_up(tx: Transaction, within: int) -> None:
    clock_jumps.correct_future(tx)
    if not counters.read_counters(tx).get(CLOCK_TO_MAKE_UP):
        return
    tx.alone(_JUMPS_LOCK)
    jump = counters.read_counters(tx).get(CLOCK_TO_MAKE_UP, 0)
    counters.set_counters(tx, {CLOCK_TO_MAKE_UP: 0})
    if jump < 0:
        clock_jumps.shift_times_to_come(tx, tx.now - jump - within, jump)


def _count_jumps(tx: Transaction) -> int:
    return counters.read_counters(tx).get(CLOCK_JUMPS, 0)
