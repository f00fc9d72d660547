"""TODO docstring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from connectors.domain.operation import Kind, State
from connectors.store.engine import Transaction
from connectors.store.schema import operation_table, sale_table, tally_table


@dataclass(frozen=True, slots=True)
class DayTotals:
    """One day's sums; `stamps` are those on cards, less those taken back."""

    receipts: int = 0
    stamps: int = 0
    redemptions: int = 0

    def __add__(self, other: DayTotals) -> DayTotals:
        return DayTotals(
            self.receipts + other.receipts, self.stamps + other.stamps, self.redemptions + other.redemptions
        )


def of_operation(kind: Kind, count: int) -> DayTotals:
    """What one applied operation adds."""
    match kind:
        case Kind.stamps_added:
            return DayTotals(stamps=count)
        case Kind.stamps_reversed:
            return DayTotals(stamps=-count)
    return DayTotals(redemptions=1)


def add(tx: Transaction, change: Mapping[tuple[str, str], DayTotals]) -> None:
    """Add to the days of connections: (connection id, venue's day) → what is more or less."""
    rows = [
        {
            "connection_id": connection_id,
            "day": day,
            "receipts": one.receipts,
            "stamps": one.stamps,
            "redemptions": one.redemptions,
        }
        for (connection_id, day), one in sorted(change.items())
        if one != DayTotals()
    ]
    if not rows:
        return
    said = tx.insert(tally_table)
    sums = {name: tally_table.c[name] + said.excluded[name] for name in ("receipts", "stamps", "redemptions")}
    tx.run(said.on_conflict_do_update(index_elements=[tally_table.c.connection_id, tally_table.c.day], set_=sums), rows)


def move(tx: Transaction, moved: Mapping[str, tuple[str, str]]) -> None:
    """Take what was given for receipts along: sale id → (the connection it leaves, the one it goes to)."""
    change: dict[tuple[str, str], DayTotals] = {}
    applied = select(operation_table).where(
        operation_table.c.sale_id.in_(list(moved)), operation_table.c.state == State.applied
    )
    for row in tx.run(applied):
        one = of_operation(Kind(row.kind), row._mapping["count"])
        for connection_id, sign in zip(moved[row.sale_id], (-1, 1), strict=True):
            where = (connection_id, row.day)
            change[where] = change.get(where, DayTotals()) + DayTotals(0, sign * one.stamps, sign * one.redemptions)
    add(tx, change)


def recount(tx: Transaction, connection_id: str) -> None:
    """Count a connection's days anew: its receipts have come from another one, or gone to it."""
    tx.run(tally_table.delete().where(tally_table.c.connection_id == connection_id))
    change: dict[tuple[str, str], DayTotals] = {}
    receipts = (
        select(sale_table.c.day, func.count().label("number"))
        .where(
            sale_table.c.connection_id == connection_id,
            sale_table.c.admitted == 1,
            sale_table.c.status == "closed",
            sale_table.c.day.is_not(None),
        )
        .group_by(sale_table.c.day)
    )
    for row in tx.run(receipts):
        change[connection_id, row.day] = DayTotals(receipts=row.number)
    applied = (
        select(
            operation_table.c.day,
            operation_table.c.kind,
            func.sum(operation_table.c.count).label("total"),
            func.count().label("number"),
        )
        .where(operation_table.c.connection_id == connection_id, operation_table.c.state == State.applied)
        .group_by(operation_table.c.day, operation_table.c.kind)
    )
    for row in tx.run(applied):
        used = row.kind == Kind.voucher_redeemed
        one = DayTotals(redemptions=row.number) if used else of_operation(Kind(row.kind), int(row.total))
        change[connection_id, row.day] = change.get((connection_id, row.day), DayTotals()) + one
    add(tx, change)


def of_days(tx: Transaction, connection_ids: list[str], since: str) -> dict[str, dict[str, DayTotals]]:
    """Connection id → day → sums, for the days from `since` on that have any."""
    found: dict[str, dict[str, DayTotals]] = {one: {} for one in connection_ids}
    wanted = select(tally_table).where(tally_table.c.connection_id.in_(connection_ids), tally_table.c.day >= since)
    for row in tx.run(wanted):
        found[row.connection_id][row.day] = DayTotals(row.receipts, row.stamps, row.redemptions)
    return found
