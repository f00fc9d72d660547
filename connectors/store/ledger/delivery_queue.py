"""The delivery queue: which operations are due, and what their cards have been given on their day.

Reads only; `operations` changes their states. What is due when it is read may be another sender's when it is claimed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import bindparam, case, func, not_, select

from connectors.domain.connection import WORKING
from connectors.domain.operation import UNSETTLED, Kind, State
from connectors.store.engine import Transaction
from connectors.store.ledger.operation_conditions import is_open
from connectors.store.ledger.operations import Operation
from connectors.store.schema import (
    business_table,
    connection_table,
    operation_table,
)

_earlier = operation_table.alias("earlier")


_same_lane = operation_table.alias("same_lane")


_DUE = (
    select(operation_table.c.id, operation_table.c.business_id, operation_table.c.lane, operation_table.c.connection_id)
    .join(connection_table, connection_table.c.id == operation_table.c.connection_id)
    .join(business_table, business_table.c.id == operation_table.c.business_id)
    .where(
        is_open,
        operation_table.c.state == State.pending,
        operation_table.c.next_at <= bindparam("now"),
        connection_table.c.health.in_(WORKING),
        connection_table.c.send_after <= bindparam("now"),
        business_table.c.paused_until <= bindparam("now"),
        not_(
            select(_same_lane.c.id)
            .where(
                _same_lane.c.business_id == operation_table.c.business_id,
                _same_lane.c.lane == operation_table.c.lane,
                _same_lane.c.state == State.sending,
            )
            .exists()
        ),
        # what a receipt did to stamps before must be settled before what it does next; a voucher waits for nothing,
        # or it could be used elsewhere meanwhile
        not_(
            select(_earlier.c.id)
            .where(
                _earlier.c.sale_id == operation_table.c.sale_id,
                _earlier.c.n < operation_table.c.n,
                operation_table.c.kind != Kind.voucher_redeemed,
                _earlier.c.kind != Kind.voucher_redeemed,
                _earlier.c.state.in_(sorted(UNSETTLED)),
            )
            .exists()
        ),
    )
    .order_by(operation_table.c.seq)
    .limit(bindparam("most"))
)


class Lane(NamedTuple):
    """A card (or voucher, or customer without a card) of a business: one operation of it at a time is on the wire."""

    business_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """An operation that was due when it was read; `operations.claim` looks again."""

    id: str
    lane: Lane
    connection_id: str


def due(
    tx: Transaction,
    most: int,
    only: str | None = None,
    *,
    without: Collection[str] = (),
    businesses: Collection[str] | None = None,
) -> list[Candidate]:
    """List the oldest due operation of each lane, oldest first, from the `most` oldest due ones.

    Only those of one connection, not those of some, only those of some businesses.
    """
    query = _DUE.where(operation_table.c.connection_id == only) if only else _DUE
    if businesses is not None:
        query = query.where(operation_table.c.business_id.in_(sorted(businesses)))
    if without:
        query = query.where(operation_table.c.connection_id.not_in(sorted(without)))
    oldest: dict[Lane, Candidate] = {}
    for row in tx.run(query, {"now": tx.now, "most": most}):
        lane = Lane(row.business_id, row.lane)
        oldest.setdefault(lane, Candidate(row.id, lane, row.connection_id))
    return list(oldest.values())


def due_businesses(tx: Transaction, limit: int) -> list[str]:
    """List businesses for which something may be sent now, who has waited longest first."""
    query = (
        select(operation_table.c.business_id)
        .join(connection_table, connection_table.c.id == operation_table.c.connection_id)
        .join(business_table, business_table.c.id == operation_table.c.business_id)
        .where(
            is_open,
            operation_table.c.state == State.pending,
            operation_table.c.next_at <= tx.now,
            connection_table.c.health.in_(WORKING),
            connection_table.c.send_after <= tx.now,
            business_table.c.paused_until <= tx.now,
        )
        .group_by(operation_table.c.business_id)
        .order_by(func.min(operation_table.c.seq))
    )
    return list(tx.run(query.limit(limit)).scalars())


def is_busy(tx: Transaction, connection_id: str | None) -> bool:
    """Say whether something (of one connection) is due now, or on the wire."""
    due_now = _DUE.where(operation_table.c.connection_id == connection_id) if connection_id else _DUE
    if tx.run(due_now, {"now": tx.now, "most": 1}).first() is not None:
        return True
    sending = select(operation_table.c.id).where(operation_table.c.state == State.sending)
    if connection_id:
        sending = sending.where(operation_table.c.connection_id == connection_id)
    return tx.run(sending.limit(1)).first() is not None


def stamps_of_day(tx: Transaction, operations: Sequence[Operation]) -> Mapping[str, int]:
    """Map each operation's id to the stamps that its card was given on its day already, or may have been."""
    return {operation.id: _stamps_beside(tx, operation) for operation in operations}


def _stamps_beside(tx: Transaction, operation: Operation) -> int:
    is_addition = operation_table.c.kind == Kind.stamps_added
    signed = case((is_addition, operation_table.c.count), else_=-operation_table.c.count)
    # what may have been given counts, and only what surely was taken back does not
    given = is_addition & operation_table.c.state.in_([State.applied, State.sending, State.uncertain])
    taken_back = (operation_table.c.kind == Kind.stamps_reversed) & (operation_table.c.state == State.applied)
    total = select(func.coalesce(func.sum(signed), 0)).where(
        operation_table.c.business_id == operation.business_id,
        operation_table.c.card_id == operation.card_id,
        operation_table.c.day == operation.day,
        given | taken_back,
        operation_table.c.id != operation.id,
    )
    return int(tx.run(total).scalar_one())
