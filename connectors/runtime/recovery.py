"""What whoever takes the lock does first: settle what the last holder left unfinished.

Owns the order and the words; what becomes of operations and commands is the store's.
"""

from __future__ import annotations

import logging

from connectors.store import host_commands, ledger
from connectors.store.engine import Store

log = logging.getLogger(__name__)


async def recover_unfinished(store: Store) -> None:
    """Put operations that were on the wire in doubt, and fail commands that were under way.

    Only whoever holds the lock may call this: nobody else sends, so what is marked as on the wire is not.
    """
    doubtful = await store.write(ledger.operations.doubt_unfinished)
    if doubtful:
        log.warning("%d operations were on the wire when the last host ended: their cards' history decides", doubtful)
    await store.write(host_commands.abandon)
