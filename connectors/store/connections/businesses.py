"""Businesses: whose cards they are, and whether their 7stamp plan is used up.

Owns the table `business`; rows stay when the last connection of a business is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from connectors.domain.connection import WORKING, Business
from connectors.domain.events import Wakeup
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import business_table, connection_table


def save(tx: Transaction, business: Business) -> None:
    """Store a business, or what 7stamp says of it now."""
    columns = {
        "name": business.name,
        "country": business.country,
        "currency": business.currency,
        "zone": business.zone,
        "language": business.language,
    }
    # an update first: nearly every business is there already when its second till is connected
    if tx.run(business_table.update().where(business_table.c.id == business.id).values(columns)).rowcount == 0:
        tx.run(business_table.insert(), [{"id": business.id, **columns}])


def _business(row: AnyRow) -> Business:
    return Business(row.id, row.name, row.country, row.currency, row.zone, row.language)


def list_all(tx: Transaction) -> list[Business]:
    """List all businesses that were ever connected, by id."""
    return [_business(row) for row in tx.run(select(business_table).order_by(business_table.c.id))]


def get(tx: Transaction, business_id: str) -> Business:
    """Read a business that a connection names."""
    return _business(tx.run(select(business_table).where(business_table.c.id == business_id)).one())


def pause(tx: Transaction, business_id: str, until: int) -> bool:
    """Send nothing for a business before `until`; say whether it was not paused before."""
    changed = tx.run(
        business_table.update()
        # many operations are refused at once: only the first of them pauses, and is told of
        .where(business_table.c.id == business_id, business_table.c.paused_until < tx.now)
        .values(paused_until=until, plan_checked_at=tx.now)
    )
    return changed.rowcount > 0


@dataclass(frozen=True, slots=True)
class PausedBusiness:
    """A business whose plan is used up until a moment, and a working connection whose key can ask about it."""

    business_id: str
    connection_id: str
    until: int


def paused(tx: Transaction, checked_before: int, limit: int = 50) -> list[PausedBusiness]:
    """List paused businesses about which 7stamp was not asked since a moment."""
    rows = tx.run(
        # any of its working connections can ask: they have keys of the same business
        select(
            business_table.c.id, func.min(connection_table.c.id).label("connection_id"), business_table.c.paused_until
        )
        .join(connection_table, connection_table.c.business_id == business_table.c.id)
        .where(
            business_table.c.paused_until > 0,
            business_table.c.plan_checked_at <= checked_before,
            connection_table.c.health.in_(WORKING),
        )
        .group_by(business_table.c.id, business_table.c.paused_until)
        .limit(limit)
    )
    return [PausedBusiness(row.id, row.connection_id, row.paused_until) for row in rows]


def record_plan_check(tx: Transaction, business_id: str, *, resumes: bool) -> None:
    """Note that 7stamp was asked about a business' plan, and end its pause where that `resumes`."""
    columns = {"plan_checked_at": tx.now}
    if resumes:
        columns["paused_until"] = 0
        tx.wakeups.add(Wakeup.deliver)
    tx.run(business_table.update().where(business_table.c.id == business_id).values(columns))
