"""The installation as a whole, for its operator: queues, and connections by health and by connector.

Owns no state; each is one query.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Label, ScalarSelect, func, select

from connectors.domain.connection import Health
from connectors.store.engine import Transaction
from connectors.store.ledger.operation_conditions import on_the_way
from connectors.store.schema import connection_table, hint_table, identify_table, operation_table


@dataclass(frozen=True, slots=True)
class Queue:
    """What is on its way: how much, and since when the oldest waits (UTC microseconds)."""

    name: str
    depth: int
    oldest: int | None


_QUEUES: dict[str, tuple[ScalarSelect[int], ScalarSelect[int]]] = {
    "hints": (
        select(func.count()).select_from(hint_table).scalar_subquery(),
        select(func.min(hint_table.c.created_at)).scalar_subquery(),
    ),
    "identify": (
        select(func.count()).select_from(identify_table).scalar_subquery(),
        select(func.min(identify_table.c.created_at)).scalar_subquery(),
    ),
    "operations": (
        select(func.count()).select_from(operation_table).where(on_the_way).scalar_subquery(),
        select(func.min(operation_table.c.created_at)).where(on_the_way).scalar_subquery(),
    ),
}
"""Name → its depth, and the time of its oldest entry."""


def queues(tx: Transaction) -> list[Queue]:
    """Read the queues: receipts to read again, customers to find, operations to send; in one query."""
    # all queues in one statement: the operator's page makes few
    columns: list[Label[int]] = []
    for name, (depth, oldest) in _QUEUES.items():
        columns += [depth.label(f"{name}_depth"), oldest.label(f"{name}_oldest")]
    row = tx.run(select(*columns)).one()._mapping
    return [Queue(name, row[f"{name}_depth"], row[f"{name}_oldest"]) for name in _QUEUES]


def health_counts(tx: Transaction) -> dict[str, int]:
    """Map each health to how many connections have it."""
    rows = tx.run(
        select(connection_table.c.health, func.count().label("number"))
        .where(connection_table.c.health != Health.removed)
        .group_by(connection_table.c.health)
    )
    return {row.health: row.number for row in rows}


def last_hooks(tx: Transaction) -> dict[str, int]:
    """Map connector to when its last hook came (UTC microseconds)."""
    rows = tx.run(
        select(connection_table.c.connector, func.max(connection_table.c.last_hook_at).label("at"))
        .where(connection_table.c.last_hook_at.is_not(None))
        .group_by(connection_table.c.connector)
    )
    return {row.connector: row.at for row in rows}
