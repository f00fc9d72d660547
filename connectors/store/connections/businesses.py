"""TODO docstring."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from connectors.domain.connection import WORKING, Business
from connectors.domain.events import Wakeup
from connectors.store.engine import Transaction
from connectors.store.schema import (
    business_table,
    connection_table,
)


def store(tx: Transaction, new: Business) -> None:
    values = {
        "name": new.name,
        "country": new.country,
        "currency": new.currency,
        "zone": new.zone,
        "language": new.language,
    }
    if tx.run(business_table.update().where(business_table.c.id == new.id).values(values)).rowcount == 0:
        tx.run(business_table.insert(), [{"id": new.id, **values}])


def list_all(tx: Transaction) -> list[Business]:
    """All businesses that were ever connected, by id."""
    rows = tx.run(select(business_table).order_by(business_table.c.id))
    return [Business(row.id, row.name, row.country, row.currency, row.zone, row.language) for row in rows]


def get(tx: Transaction, business_id: str) -> Business:
    row = tx.run(select(business_table).where(business_table.c.id == business_id)).one()
    return Business(row.id, row.name, row.country, row.currency, row.zone, row.language)


def pause(tx: Transaction, business_id: str, until: int) -> bool:
    """Send nothing for a business before `until`; whether it was not paused before."""
    changed = tx.run(
        business_table.update()
        .where(business_table.c.id == business_id, business_table.c.paused_until < tx.now)
        .values(paused_until=until, plan_checked_at=tx.now)
    )
    return changed.rowcount > 0


def paused(tx: Transaction, checked_before: int, limit: int = 50) -> list[tuple[str, str, int]]:
    """Paused businesses not looked at since: (business id, id of a connection to ask with, paused until)."""
    rows = tx.run(
        select(business_table.c.id, func.min(connection_table.c.id).label("asked"), business_table.c.paused_until)
        .join(connection_table, connection_table.c.business_id == business_table.c.id)
        .where(
            business_table.c.paused_until > 0,
            business_table.c.plan_checked_at <= checked_before,
            connection_table.c.health.in_(WORKING),
        )
        .group_by(business_table.c.id, business_table.c.paused_until)
        .limit(limit)
    )
    return [(row.id, row.asked, row.paused_until) for row in rows]


def record_plan_check(tx: Transaction, business_id: str, *, resumes: bool) -> None:
    values: dict[str, Any] = {"plan_checked_at": tx.now}
    if resumes:
        values["paused_until"] = 0
        tx.wakeups.add(Wakeup.deliver)
    tx.run(business_table.update().where(business_table.c.id == business_id).values(values))
