"""TODO docstring."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from connectors.store.engine import Transaction
from connectors.store.schema import (
    counter_table,
)


def issue_tickets(tx: Transaction, count: int) -> int:
    """The first of `count` tickets, each greater than any issued before: the order of reads."""
    value = tx.run(
        counter_table.update()
        .where(counter_table.c.name == "ticket")
        .values(value=counter_table.c.value + count)
        .returning(counter_table.c.value)
    ).scalar_one_or_none()
    if value is None:
        tx.run(counter_table.insert(), [{"name": "ticket", "value": count}])
        value = count
    return int(value) - count + 1


def raise_counter(tx: Transaction, name: str, by: int = 1) -> None:
    """Raise a counter, made where there is none."""
    if (
        tx.run(
            counter_table.update().where(counter_table.c.name == name).values(value=counter_table.c.value + by)
        ).rowcount
        == 0
    ):
        tx.run(counter_table.insert(), [{"name": name, "value": by}])


def set_counters(tx: Transaction, values: Mapping[str, int]) -> None:
    """Give counters these values, whatever they were."""
    tx.run(counter_table.delete().where(counter_table.c.name.in_(sorted(values))))
    tx.run(counter_table.insert(), [{"name": name, "value": value} for name, value in values.items()])


def read_counters(tx: Transaction) -> dict[str, int]:
    return {row.name: row.value for row in tx.run(select(counter_table))}
