"""Daily totals: receipts, stamps and vouchers of each day of a connection, added up as they are written.

Owns the table `tally`, so that a page shows two weeks without reading them; which receipts count for which day is
said by their rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sqlalchemy import func, select

from connector_sdk.connector import TillAccount
from connectors.domain.operation import Kind, State
from connectors.domain.plan import local_day
from connectors.domain.vouchers import RequestKind, RequestState
from connectors.store.dialect import Insert, insert_into
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import connection_table, operation_table, sale_table, tally_table, voucher_request_table


@dataclass(frozen=True, slots=True)
class DayTotals:
    """One day's totals; `stamps` are those on cards, less those `taken_back`."""

    receipts: int = 0
    stamps: int = 0
    redemptions: int = 0
    taken_back: int = 0

    def __add__(self, other: DayTotals) -> DayTotals:
        return DayTotals(
            self.receipts + other.receipts,
            self.stamps + other.stamps,
            self.redemptions + other.redemptions,
            self.taken_back + other.taken_back,
        )

    def __neg__(self) -> DayTotals:
        return DayTotals(-self.receipts, -self.stamps, -self.redemptions, -self.taken_back)


class Move(NamedTuple):
    """The connection a sale leaves, and the one it goes to."""

    leaves: str
    joins: str


Changes = Mapping[tuple[str, str], DayTotals]
"""(connection id, venue's day) → how much more, or less where negative."""


def of_operation(kind: Kind, count: int) -> DayTotals:
    """Say what one applied operation adds."""
    match kind:
        case Kind.stamps_added:
            return DayTotals(stamps=count)
        case Kind.stamps_reversed:
            return DayTotals(stamps=-count, taken_back=count)
    return DayTotals(redemptions=1)


def add(tx: Transaction, changes: Changes) -> None:
    """Add to the days of connections."""
    rows = [
        {
            "connection_id": connection_id,
            "day": day,
            "receipts": totals.receipts,
            "stamps": totals.stamps,
            "redemptions": totals.redemptions,
            "taken_back": totals.taken_back,
        }
        # in order, so that two writers lock the same rows in the same order on PostgreSQL
        for (connection_id, day), totals in sorted(changes.items(), key=lambda item: item[0])
        if totals != DayTotals()
    ]
    tx.run_each(_adding(tx.session.dialect.name), rows)


@cache
def _adding(dialect: str) -> Insert:
    insert = insert_into(dialect, tally_table)
    added = ("receipts", "stamps", "redemptions", "taken_back")
    sums = {name: tally_table.c[name] + insert.excluded[name] for name in added}
    return insert.on_conflict_do_update(index_elements=[tally_table.c.connection_id, tally_table.c.day], set_=sums)


def add_redemption(tx: Transaction, connection_id: str, at: int) -> None:
    """Count a voucher that was redeemed without a receipt, at a moment (UTC microseconds)."""
    zone = _zone_of(tx, connection_id)
    if zone is not None:
        add(tx, {(connection_id, local_day(at, zone).isoformat()): DayTotals(redemptions=1)})


def _zone_of(tx: Transaction, connection_id: str) -> str | None:
    account = tx.run(select(connection_table.c.account).where(connection_table.c.id == connection_id)).scalar()
    return TillAccount.model_validate_json(account).zone if account is not None else None


def move(tx: Transaction, moves: Mapping[str, Move]) -> None:
    """Take what was given for sales along with them: sale id → where it goes. Receipts are counted by their batch."""
    changes: dict[tuple[str, str], DayTotals] = {}
    applied = select(operation_table).where(
        operation_table.c.sale_id.in_(list(moves)), operation_table.c.state == State.applied
    )
    for row in tx.run(applied):
        totals = of_operation(Kind(row.kind), row._mapping["count"])
        # less where it leaves, as much more where it goes
        for connection_id, change in zip(moves[row.sale_id], (-totals, totals), strict=True):
            day = (connection_id, row.day)
            changes[day] = changes.get(day, DayTotals()) + change
    add(tx, changes)


# a connection's days are few rows: counting anew is simpler than knowing what each receipt had added
def recount(tx: Transaction, connection_id: str) -> None:
    """Count a connection's days anew: its receipts have come from another connection, or gone to one."""
    tx.run(tally_table.delete().where(tally_table.c.connection_id == connection_id))
    changes = dict(_count_receipts(tx, connection_id))
    for counted in (_count_operations(tx, connection_id), _count_requests(tx, connection_id)):
        for day, totals in counted.items():
            changes[day] = changes.get(day, DayTotals()) + totals
    add(tx, changes)


def _count_receipts(tx: Transaction, connection_id: str) -> Changes:
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
    return {(connection_id, row.day): DayTotals(receipts=row.number) for row in tx.run(receipts)}


def _count_operations(tx: Transaction, connection_id: str) -> Changes:
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
    changes: dict[tuple[str, str], DayTotals] = {}
    for row in tx.run(applied):
        if row.kind == Kind.voucher_redeemed:
            # each redemption is one, whatever its count
            totals = DayTotals(redemptions=row.number)
        else:
            totals = of_operation(Kind(row.kind), int(row.total))
        day = (connection_id, row.day)
        changes[day] = changes.get(day, DayTotals()) + totals
    return changes


def _count_requests(tx: Transaction, connection_id: str) -> Changes:
    """Count the vouchers that were redeemed without a receipt, as long as those requests are kept."""
    zone = _zone_of(tx, connection_id)
    if zone is None:
        return {}
    redeemed = select(voucher_request_table.c.made_at).where(
        voucher_request_table.c.connection_id == connection_id,
        voucher_request_table.c.kind == RequestKind.redeem,
        voucher_request_table.c.state == RequestState.applied,
    )
    days = Counter(local_day(at, zone).isoformat() for at in tx.run(redeemed).scalars())
    return {(connection_id, day): DayTotals(redemptions=number) for day, number in days.items()}


def of_days(tx: Transaction, connection_ids: Sequence[str], since: str) -> dict[str, dict[str, DayTotals]]:
    """Map connection id to day to totals, for the days from `since` (`2026-11-23`) on that have any."""
    totals: dict[str, dict[str, DayTotals]] = {connection_id: {} for connection_id in connection_ids}
    days = select(tally_table).where(tally_table.c.connection_id.in_(connection_ids), tally_table.c.day >= since)
    for row in tx.run(days):
        totals[row.connection_id][row.day] = of_row(row)
    return totals


def of_row(row: AnyRow) -> DayTotals:
    """Read a row of the table."""
    return DayTotals(row.receipts, row.stamps, row.redemptions, row.taken_back)
