"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from connectors.domain.connection import Health
from connectors.store.engine import Transaction
from connectors.store.queries.operations import on_the_way
from connectors.store.schema import (
    connection_table,
    hint_table,
    identify_table,
    operation_table,
)


@dataclass(frozen=True, slots=True)
class Queue:
    """What is on its way: how much, and since when the oldest waits (UTC microseconds)."""

    name: str
    depth: int
    oldest: int | None


def queues(tx: Transaction) -> list[Queue]:
    """Receipts to read again, customers to find, operations to send, in one query."""
    asked = {
        "hints": (select(func.count()).select_from(hint_table), select(func.min(hint_table.c.created_at))),
        "identify": (select(func.count()).select_from(identify_table), select(func.min(identify_table.c.created_at))),
        "operations": (
            select(func.count()).select_from(operation_table).where(on_the_way),
            select(func.min(operation_table.c.created_at)).where(on_the_way),
        ),
    }
    columns = [
        one.scalar_subquery().label(f"{name}_{what}")
        for name, pair in asked.items()
        for what, one in zip(("depth", "oldest"), pair, strict=True)
    ]
    row = tx.run(select(*columns)).one()._mapping
    return [Queue(name, row[f"{name}_depth"], row[f"{name}_oldest"]) for name in asked]


def health_counts(tx: Transaction) -> dict[str, int]:
    """How many connections are how."""
    rows = tx.run(
        select(connection_table.c.health, func.count().label("number"))
        .where(connection_table.c.health != Health.removed)
        .group_by(connection_table.c.health)
    )
    return {row.health: row.number for row in rows}


def last_hooks(tx: Transaction) -> dict[str, int]:
    """Connector → when its last hook came."""
    rows = tx.run(
        select(connection_table.c.connector, func.max(connection_table.c.last_hook_at).label("at"))
        .where(connection_table.c.last_hook_at.is_not(None))
        .group_by(connection_table.c.connector)
    )
    return {row.connector: row.at for row in rows}
