"""Plan limits: asks 7stamp whether businesses whose plan was used up may go on.

Owns when to ask: when the month has turned at the venue, and now and then before, for a cafe may buy a larger plan.
"""

from __future__ import annotations

import contextlib

from connectors.domain.clock import MINUTE
from connectors.sevenstamp.client import SevenStamp, SevenStampError
from connectors.store import connections, ledger
from connectors.store.connections.businesses import PausedBusiness
from connectors.store.engine import Store, Transaction

CHECK_EVERY = 15 * MINUTE


async def check_paused_businesses(store: Store, sevenstamp: SevenStamp, every: int = CHECK_EVERY) -> None:
    """Ask for each paused business that was not asked for since `every` microseconds, and release what may go."""
    now = store.clock.now()
    for paused in await store.read(lambda tx: connections.businesses.paused(tx, now - every)):
        resumes = await _may_resume(store, sevenstamp, paused, now)
        await store.write(lambda tx, paused=paused, resumes=resumes: _record(tx, paused, resumes=resumes))  # type: ignore[misc]


async def _may_resume(store: Store, sevenstamp: SevenStamp, paused: PausedBusiness, now: int) -> bool:
    owners = await store.read(lambda tx: connections.registry.by_ids(tx, [paused.connection_id]))
    key = store.vault.decrypt(owners[paused.connection_id].sevenstamp_key)
    with contextlib.suppress(SevenStampError):
        usage = (await sevenstamp.with_key(key).me()).operations
        return usage.allowed is None or usage.used < usage.allowed
    return now >= paused.until


def _record(tx: Transaction, paused: PausedBusiness, *, resumes: bool) -> None:
    connections.businesses.record_plan_check(tx, paused.business_id, resumes=resumes)
    if resumes:
        ledger.operations.release_plan_limit(tx, paused.business_id)
