"""Plans: asks 7stamp how many card operations of this month are used, and lets a business go on whose plan has some.

Owns what follows from the answer; when to ask is `connectors.domain.plan`'. A cafe may buy a larger plan at any time:
a business that is paused is asked about often.
"""

from __future__ import annotations

import logging

from connectors.domain.connection import Business
from connectors.domain.plan import Plan, next_check, start_of_next_month
from connectors.sevenstamp.client import SevenStamp, SevenStampError, Unavailable
from connectors.sevenstamp.models import Usage
from connectors.store import connections, ledger
from connectors.store.connections.businesses import PlanCheck
from connectors.store.engine import Store, Transaction

log = logging.getLogger(__name__)


async def check_plans(store: Store, sevenstamp: SevenStamp) -> None:
    """Ask about each plan that is due."""
    for due in await store.read(connections.businesses.due_plan_checks):
        try:
            await check_plan(store, sevenstamp, due)
        except Unavailable:
            # a 7stamp that is down is not waited for a hundred times: the rest are asked about in the next round
            return
        except SevenStampError as error:  # this one's key, which keeps nobody else from being asked about
            log.warning("business %s: its plan could not be asked about: %s", due.business_id, error)


async def check_plan(store: Store, sevenstamp: SevenStamp, check: PlanCheck) -> Plan:
    """Ask about one plan, release what may go, and return the plan.

    Raises `SevenStampError` where there is no answer; it is asked again later.
    """
    asking = await store.read(lambda tx: connections.registry.by_ids(tx, [check.connection_id]))
    key = store.vault.decrypt(asking[check.connection_id].sevenstamp_key)
    try:
        usage = (await sevenstamp.with_key(key).me()).operations
    except SevenStampError:
        await store.write(lambda tx: _record(tx, check, None))
        raise
    plan = _plan(usage, store.clock.now(), check.zone)
    await store.write(lambda tx: _record(tx, check, plan))
    return plan


def record_usage(tx: Transaction, business: Business, usage: Usage) -> None:
    """Store what 7stamp said of a plan beside something else; a business that is paused stays so."""
    plan = _plan(usage, tx.now, business.zone)
    # of one that is paused the next round asks, and lets it go on where the plan has room now
    is_paused = connections.businesses.paused_until(tx, business.id) > 0
    next_at = tx.now if is_paused else next_check(plan, tx.now, paused=False)
    connections.businesses.record_plan(tx, business.id, plan, next_at, resumes=False)


def _plan(usage: Usage, now: int, zone: str) -> Plan:
    return Plan(usage.used, usage.allowed, start_of_next_month(now, zone), now)


def _record(tx: Transaction, check: PlanCheck, plan: Plan | None) -> None:
    # as it is now: a refusal may have paused the business while 7stamp was asked
    paused_until = connections.businesses.paused_until(tx, check.business_id)
    is_paused = paused_until > 0
    has_room = plan is not None and not plan.is_used_up and paused_until == check.paused_until
    # without an answer, the month's turn is what we know
    resumes = is_paused and (has_room if plan is not None else tx.now >= paused_until)
    next_at = next_check(plan, tx.now, paused=is_paused and not resumes)
    connections.businesses.record_plan(tx, check.business_id, plan, next_at, resumes=resumes)
    if resumes:
        ledger.operations.release_plan_limit(tx, check.business_id)
