"""Businesses: whose cards they are, and whether their 7stamp plan is used up.

Owns the table `business`; rows stay when the last connection of a business is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, bindparam, func, select

from connectors.domain.connection import WORKING, Business, Health
from connectors.domain.events import Wakeup
from connectors.domain.plan import CHECK_WHILE_PAUSED, Plan
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
        .values(paused_until=until, plan_next_at=tx.now + CHECK_WHILE_PAUSED)
    )
    return changed.rowcount > 0


# The plan


def plan_of(row: AnyRow, now: int) -> Plan | None:
    """Return the plan in a row of the business' table; `None` where it is not known for the month of `now`."""
    if row.operations_used is None or row.operations_until <= now:
        return None
    return Plan(row.operations_used, row.operations_allowed, row.operations_until, row.plan_checked_at)


def plan(tx: Transaction, business_id: str) -> Plan | None:
    """Read how much of its plan a business has used this month; `None` where 7stamp has not said it yet."""
    return plan_of(tx.run(select(business_table).where(business_table.c.id == business_id)).one(), tx.now)


def paused_until(tx: Transaction, business_id: str) -> int:
    """Return until when nothing is sent for a business (UTC microseconds); 0 where it is not paused."""
    query = select(business_table.c.paused_until).where(business_table.c.id == business_id)
    return int(tx.run(query).scalar_one())


@dataclass(frozen=True, slots=True)
class PlanCheck:
    """A business about whose plan 7stamp is to be asked, and a working connection whose key can ask."""

    business_id: str
    connection_id: str
    zone: str
    paused_until: int
    """Until when its plan is taken as used up; 0 where it is not."""


_CHECK_COLUMNS = (
    business_table.c.id,
    func.min(connection_table.c.id).label("connection_id"),
    business_table.c.zone,
    business_table.c.paused_until,
)


def _plan_checks(tx: Transaction, *conditions: ColumnElement[bool], limit: int) -> list[PlanCheck]:
    query = (
        # any of its connections can ask: they have keys of the same business
        select(*_CHECK_COLUMNS)
        .join(connection_table, connection_table.c.business_id == business_table.c.id)
        .where(*conditions)
        .group_by(
            business_table.c.id, business_table.c.zone, business_table.c.paused_until, business_table.c.plan_next_at
        )
        .order_by(business_table.c.plan_next_at, business_table.c.id)
        .limit(limit)
    )
    return [PlanCheck(row.id, row.connection_id, row.zone, row.paused_until) for row in tx.run(query)]


def due_plan_checks(tx: Transaction, limit: int = 100) -> list[PlanCheck]:
    """List businesses with a working connection about whose plan 7stamp is to be asked now, longest due first."""
    is_working = connection_table.c.health.in_(WORKING)
    return _plan_checks(tx, business_table.c.plan_next_at <= tx.now, is_working, limit=limit)


def plan_check_of(tx: Transaction, business_id: str) -> PlanCheck | None:
    """Return how to ask about the plan of a business now; `None` where it has no connection."""
    is_there = connection_table.c.health != Health.removed
    return next(iter(_plan_checks(tx, business_table.c.id == business_id, is_there, limit=1)), None)


def record_plan(tx: Transaction, business_id: str, plan: Plan | None, next_at: int, *, resumes: bool) -> None:
    """Store what 7stamp says of a plan (`None` where it did not answer), and end the pause where that `resumes`."""
    columns: dict[str, object] = {"plan_next_at": next_at}
    if plan is not None:
        columns |= {
            "operations_used": plan.used,
            "operations_allowed": plan.allowed,
            "operations_until": plan.until,
            "plan_checked_at": plan.checked_at,
        }
    if resumes:
        columns["paused_until"] = 0
        tx.wakeups.add(Wakeup.deliver)
    tx.run(business_table.update().where(business_table.c.id == business_id).values(columns))


_COUNT = (
    business_table.update()
    # of a plan without a limit, and of one that is not known yet, nobody asks how much is used
    .where(business_table.c.id == bindparam("business"), business_table.c.operations_allowed.is_not(None))
    .values(operations_used=business_table.c.operations_used + bindparam("count"))
)


def count_operations(tx: Transaction, applied: Mapping[str, int]) -> None:
    """Add operations that 7stamp applied to what is used, by business."""
    rows = [{"business": business_id, "count": count} for business_id, count in sorted(applied.items())]
    tx.run_each(_COUNT, rows)
