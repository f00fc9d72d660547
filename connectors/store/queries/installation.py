"""The installation as a whole, for its operator: queues, and connections by health and by connector.

Owns no state; each is one query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Label, ScalarSelect, func, literal, select

from connectors.domain.connection import Health
from connectors.store.engine import Transaction
from connectors.store.ledger.operation_conditions import on_the_way
from connectors.store.schema import connection_table, counter_table, hint_table, identify_table, operation_table


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


class HookTimes(NamedTuple):
    """When a connector's hooks came last and were taken, and when one at its shared address was refused last.

    In UTC microseconds; `None` for never.
    """

    taken: int | None = None
    refused: int | None = None


def hook_times(tx: Transaction, refused_prefix: str) -> dict[str, HookTimes]:
    """Map connector to the times of its hooks; `refused_prefix` is what stands before its name in a counter."""
    # one statement for both: the operator's page makes few
    taken = (
        select(connection_table.c.connector, func.max(connection_table.c.last_hook_at).label("at"), literal("taken"))
        .where(connection_table.c.last_hook_at.is_not(None))
        .group_by(connection_table.c.connector)
    )
    name = func.substr(counter_table.c.name, len(refused_prefix) + 1)
    refused = select(name, counter_table.c.value, literal("refused")).where(
        counter_table.c.name.startswith(refused_prefix)
    )
    times: dict[str, HookTimes] = {}
    for row in tx.run(taken.union_all(refused)):
        connector, at, kind = tuple(row)
        times[connector] = times.get(connector, HookTimes())._replace(**{kind: at})
    return times
