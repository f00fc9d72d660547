"""Agreements: how far the comparison of each connection's till, ledger and cards has come, and what it found.

Owns the table `agreement`, and reads from the ledger what is compared; what differs is decided in
`connectors.domain.agreement`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, func, select

from connector_sdk.messages import Message
from connectors.domain.agreement import Days, Difference, DifferenceKind
from connectors.store.engine import Transaction
from connectors.store.ledger.operations import Operation, operation_of
from connectors.store.query_parts import AnyRow, claiming
from connectors.store.schema import agreement_table, operation_table, sale_table

_MOST_LISTED = 200
"""So many differences are kept one by one; all are counted, and each has its line in the journal."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """A comparison: of which days, how far it has come, and what it found; times in UTC microseconds."""

    connection_id: str
    days: Days
    began_at: int
    finished_at: int | None = None
    position: str | None = None
    """The lane up to which operations are compared; `None` while the till is still to be read."""
    till_read: bool = False
    """Whether the till could be read back."""
    receipts: int = 0
    calls: int = 0
    """How many calls to 7stamp it has made."""
    mended: int = 0
    still_open: int = 0
    differences: tuple[Difference, ...] = field(default=(), repr=False)

    def with_differences(self, found: Sequence[Difference]) -> Agreement:
        """Return it with more differences."""
        mended = sum(difference.is_mended for difference in found)
        return replace(
            self,
            mended=self.mended + mended,
            still_open=self.still_open + len(found) - mended,
            differences=(*self.differences, *found)[:_MOST_LISTED],
        )


LABELLED = tuple(column.label(f"agreement_{column.name}") for column in agreement_table.c)
"""The table's columns, for a query that joins it to another table."""


def find(tx: Transaction, connection_id: str) -> Agreement | None:
    """Read the last comparison of a connection, or the one under way; `None` where there was none."""
    row = tx.run(select(*LABELLED).where(agreement_table.c.connection_id == connection_id)).first()
    return agreement_of(row) if row is not None else None


def agreement_of(row: AnyRow) -> Agreement | None:
    """Build the value of a row that has the labelled columns; `None` where nothing was compared yet."""
    if row.agreement_began_at is None:
        return None
    differences = tuple(
        Difference(DifferenceKind(kind), receipt, sale_id, Message.restored(message))
        for kind, receipt, sale_id, message in json.loads(row.agreement_differences)
    )
    return Agreement(
        connection_id=row.agreement_connection_id,
        days=Days(row.agreement_first_day, row.agreement_last_day),
        began_at=row.agreement_began_at,
        finished_at=row.agreement_finished_at,
        position=row.agreement_position,
        till_read=bool(row.agreement_till_read),
        receipts=row.agreement_receipts,
        calls=row.agreement_calls,
        mended=row.agreement_mended,
        still_open=row.agreement_still_open,
        differences=differences,
    )


def save(tx: Transaction, agreement: Agreement, due_at: int) -> None:
    """Write down how far a comparison has come, and when it is due again."""
    differences = [
        [difference.kind.value, difference.receipt_id, difference.sale_id, difference.message.stored()]
        for difference in agreement.differences
    ]
    values = {
        "due_at": due_at,
        "first_day": agreement.days.first,
        "last_day": agreement.days.last,
        "began_at": agreement.began_at,
        "finished_at": agreement.finished_at,
        "position": agreement.position,
        "till_read": int(agreement.till_read),
        "receipts": agreement.receipts,
        "calls": agreement.calls,
        "mended": agreement.mended,
        "still_open": agreement.still_open,
        "differences": json.dumps(differences),
    }
    insert = tx.insert(agreement_table).values(connection_id=agreement.connection_id, **values)
    tx.run(insert.on_conflict_do_update(index_elements=[agreement_table.c.connection_id], set_=values))


# When it is due


def schedule(tx: Transaction, connection_id: str, due_at: int) -> None:
    """Set when a connection is compared next."""
    values = {"connection_id": connection_id, "due_at": due_at, "till_read": 0, "differences": "[]"}
    counts = dict.fromkeys(("receipts", "calls", "mended", "still_open"), 0)
    insert = tx.insert(agreement_table).values(**values, **counts)
    tx.run(insert.on_conflict_do_update(index_elements=[agreement_table.c.connection_id], set_={"due_at": due_at}))


def unschedule(tx: Transaction, connection_id: str) -> None:
    """Forget a connection's comparisons: it is removed."""
    tx.run(agreement_table.delete().where(agreement_table.c.connection_id == connection_id))


def due(tx: Transaction, limit: int, without: Collection[str], only: str | None = None) -> dict[str, int]:
    """Map the connections (but these, or only one) whose comparison is due to when it became so: 0 for "never"."""
    query = select(agreement_table.c.connection_id, agreement_table.c.due_at).where(agreement_table.c.due_at <= tx.now)
    if without:
        query = query.where(agreement_table.c.connection_id.not_in(sorted(without)))
    if only is not None:
        query = query.where(agreement_table.c.connection_id == only)
    rows = tx.run(claiming(query.order_by(agreement_table.c.due_at).limit(limit), agreement_table))
    return {row.connection_id: row.due_at for row in rows}


# What is compared


@dataclass(frozen=True, slots=True)
class Scope:
    """A connection's receipts that were closed from `start` to just before `end` (UTC microseconds)."""

    connection_id: str
    start: int
    end: int

    def holds(self) -> ColumnElement[bool]:
        """Return the condition that a sale is one of them."""
        return (
            (sale_table.c.connection_id == self.connection_id)
            & (sale_table.c.closed_at >= self.start)
            & (sale_table.c.closed_at < self.end)
        )


@dataclass(frozen=True, slots=True)
class ComparedReceipt:
    """A receipt as the comparison needs it."""

    sale_id: str
    counts: bool
    """Whether it is closed: neither open nor voided."""


def receipts(tx: Transaction, scope: Scope) -> dict[str, ComparedReceipt]:
    """Map receipt id to what is compared of it."""
    query = select(sale_table.c.receipt_id, sale_table.c.id, sale_table.c.status).where(scope.holds())
    return {row.receipt_id: ComparedReceipt(row.id, row.status == "closed") for row in tx.run(query)}


def _lanes_of(scope: Scope) -> tuple[ColumnElement[bool], ...]:
    # what never had a card has nothing to compare with
    has_card = operation_table.c.card_id.is_not(None) | operation_table.c.redeem_code.is_not(None)
    return (operation_table.c.sale_id == sale_table.c.id, scope.holds(), has_card)


def lanes(tx: Transaction, scope: Scope, after: str, limit: int) -> list[str]:
    """List the cards and vouchers (as lanes, in their order) that these receipts were for, behind one of them."""
    query = select(operation_table.c.lane).where(*_lanes_of(scope), operation_table.c.lane > after).distinct()
    return list(tx.run(query.order_by(operation_table.c.lane).limit(limit)).scalars())


def count_lanes(tx: Transaction, scope: Scope) -> int:
    """Count those cards and vouchers."""
    query = select(func.count(operation_table.c.lane.distinct())).where(*_lanes_of(scope))
    return int(tx.run(query).scalar_one())


def operations(tx: Transaction, scope: Scope, of_lanes: Sequence[str]) -> list[Operation]:
    """Read the operations of some lanes, oldest first."""
    query = select(operation_table).where(*_lanes_of(scope), operation_table.c.lane.in_(list(of_lanes)))
    return [operation_of(tx, row) for row in tx.run(query.order_by(operation_table.c.seq))]


def find_by_code(tx: Transaction, sale_id: str, code: str) -> Operation | None:
    """Find an operation of a sale by its code; `None` where the sale has none such, or is not known at all."""
    of_sale = (operation_table.c.sale_id == sale_id) & (operation_table.c.code == code)
    row = tx.run(select(operation_table).where(of_sale)).first()
    return operation_of(tx, row) if row is not None else None
