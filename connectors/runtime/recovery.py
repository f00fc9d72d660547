"""Recovery: settles what the last holder of the lock left unfinished, before anything else is done.

Owns the order and the words; the store decides what becomes of operations and commands.
"""

from __future__ import annotations

import logging

from connectors.store import clock_jumps, host_commands, ledger, relay
from connectors.store.engine import Store

log = logging.getLogger(__name__)


async def recover_unfinished(store: Store) -> None:
    """Put operations that were on the wire in doubt, and fail commands that were under way.

    Only whoever holds the lock may call this: nobody else sends, so what is marked as on the wire is not.
    """
    doubtful = await store.write(ledger.operations.mark_unfinished_uncertain)
    if doubtful:
        log.warning("%d operations were on the wire when the last host ended: their cards' history decides", doubtful)
    await store.write(clock_jumps.correct_future)
    await store.write(host_commands.abandon)
    await store.write(relay.deliveries.release_all)
