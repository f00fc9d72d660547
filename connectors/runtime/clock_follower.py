"""Follows the right time, and says so where the clock jumped.

Owns the sentence and the counter; what moves with the clock is `connectors.store.clock_jumps`'.
"""

from __future__ import annotations

import logging

from connectors.domain.clock import SECOND, SteadyClock
from connectors.runtime.counter_names import CLOCK_JUMPS
from connectors.store import clock_jumps, counters
from connectors.store.engine import Store, Transaction

log = logging.getLogger(__name__)


async def follow_clock(store: Store) -> bool:
    """Look at the right time, and go by it; say whether the clock jumped. Raises `StoreError`."""
    jump = await store.follow_clock()
    clock = store.clock
    if not jump or not isinstance(clock, SteadyClock):
        return False
    way, seconds = "forward" if jump > 0 else "back", abs(jump) // SECOND
    if store.embedded:
        log.warning("the clock was put %s by %d seconds: what waits goes on waiting as long as before", way, seconds)
    else:
        log.warning(
            "the database server's clock was put %s by %d seconds: what waits may come sooner or later by as much",
            way,
            seconds,
        )

    def work(tx: Transaction) -> None:
        # On a server every member sees the jump: its times are moved by nobody, for it would be once too often. There
        # the server's clock is what an operator keeps right.
        if store.embedded:
            clock_jumps.shift(tx, tx.now, jump)
        counters.raise_counter(tx, CLOCK_JUMPS)

    await store.write(work)
    clock.put_forward(jump)
    return True
