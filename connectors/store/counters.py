"""Counters: numbers by name that outlive a process.

Owns the table `counter`; the ticket counter gives reads of tills their order.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select

from connectors.store.engine import Transaction
from connectors.store.schema import counter_table

_TICKET = "ticket"


def issue_tickets(tx: Transaction, count: int) -> int:
    """Issue `count` tickets, each greater than any before, and return the first.

    A read's ticket is issued in the commit that claims it: of two reads of a receipt, the one claimed later is newer.
    """
    # the update locks the row, so two commits never get the same tickets
    last = _raised(tx, _TICKET, count)
    if last is None:
        tx.run(counter_table.insert(), [{"name": _TICKET, "value": count}])
        last = count
    return last - count + 1


def raise_counter(tx: Transaction, name: str, by: int = 1) -> None:
    """Raise a counter, made where there is none."""
    if _raised(tx, name, by) is None:
        tx.run(counter_table.insert(), [{"name": name, "value": by}])


def pass_on(tx: Transaction, name: str, value: int) -> bool:
    """Bring a counter that goes up by one to a value; `False` where somebody else has.

    One that is further ahead than one was brought there by a clock that was wrong: it is put back.
    """
    insert = tx.insert(counter_table).values(name=name, value=value)
    differs = (counter_table.c.value < value) | (counter_table.c.value > value + 1)
    raised = insert.on_conflict_do_update(index_elements=[counter_table.c.name], set_={"value": value}, where=differs)
    return bool(tx.run(raised).rowcount)


def _raised(tx: Transaction, name: str, by: int) -> int | None:
    """Raise a counter that is there and return its value."""
    value: int | None = tx.run(
        counter_table.update()
        .where(counter_table.c.name == name)
        .values(value=counter_table.c.value + by)
        .returning(counter_table.c.value)
    ).scalar_one_or_none()
    return value


def set_counters(tx: Transaction, values: Mapping[str, int]) -> None:
    """Give counters these values, whatever they were."""
    # deleted and written, so that counters which were never there are made as well
    tx.run(counter_table.delete().where(counter_table.c.name.in_(sorted(values))))
    tx.run(counter_table.insert(), [{"name": name, "value": value} for name, value in values.items()])


def read_counters(tx: Transaction) -> dict[str, int]:
    """Map name to value, for all counters."""
    return {row.name: row.value for row in tx.run(select(counter_table))}
