"""Rates of calls that the members of a cluster share: each borrows turns from the database, some at a time.

Owns what happens where the database does not answer: a till is then called at the pace of one process alone.
"""

from __future__ import annotations

import asyncio
import logging

from connectors.store import call_rates
from connectors.store.engine import Store
from connectors.store.errors import StoreError

log = logging.getLogger(__name__)

_PATIENCE = 2.0
"""Seconds; a call of a till has a deadline, and waits for the database no longer than that."""


class SharedRates:
    """Lends turns of tills to this process; the `lender` of its rate limits."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, name: str, per_second: float, burst: int, turns: int, paused: float) -> float | None:
        """Reserve turns and return in how many seconds the first one is; `None` where the database does not say."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._store.write(lambda tx: call_rates.lend(tx, name, per_second, burst, turns, paused))
        except (StoreError, TimeoutError) as error:
            # no warning: each call of each till would write one, and others say that the database is away
            log.debug("the pace of calls is not shared with other machines now: %s", type(error).__name__)
            return None
