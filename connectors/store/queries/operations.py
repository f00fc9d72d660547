"""Operations as pages and commands show them, each list in one query.

Owns no state: changing operations is `connectors.store.ledger.operations`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select, union_all

from connector_sdk.messages import Message
from connectors.domain.holds import HOLDS_FOR_PERSON
from connectors.domain.operation import UNSETTLED, State, outward
from connectors.store.engine import Transaction
from connectors.store.ledger.operation_conditions import is_flagged, is_held, is_rejected
from connectors.store.ledger.operations import Operation, operation_of
from connectors.store.ledger.voucher_states import VoucherState
from connectors.store.query_parts import AnyRow
from connectors.store.schema import attempt_table, operation_table, voucher_state_table

MOST = 50

# each reason by itself: asked for several at once, SQLite goes through all operations to have them in order
_NEEDS_PERSON = [
    *(is_held & (operation_table.c.hold == hold.value) for hold in HOLDS_FOR_PERSON),
    is_rejected,
    is_flagged,
]


def needing_person(tx: Transaction, connection_id: str, limit: int = MOST) -> list[Operation]:
    """List the operations of a connection that need a person, newest first."""
    return _newest(tx, connection_id, _NEEDS_PERSON, limit)


def _newest(
    tx: Transaction, connection_id: str, conditions: Sequence[ColumnElement[bool]], limit: int
) -> list[Operation]:
    """Read the newest that fit any condition: the newest of each, in one query, and of those the newest."""
    # each part is ordered and limited by itself: the index gives the newest without sorting the rest
    parts = [
        select(
            select(operation_table)
            .where(operation_table.c.connection_id == connection_id, condition)
            .order_by(operation_table.c.seq.desc())
            .limit(limit)
            .subquery()
        )
        for condition in conditions
    ]
    operations = [operation_of(tx, row) for row in tx.run(union_all(*parts))]
    return sorted(operations, key=lambda operation: -operation.seq)[:limit]


def list_newest(
    tx: Transaction, connection_id: str, *, state: str | None = None, limit: int = 1000, before: int | None = None
) -> list[Operation]:
    """List a connection's newest operations, newest last; `state` as the outside names it, `before` a `seq`."""
    query = select(operation_table).where(operation_table.c.connection_id == connection_id)
    if before is not None:
        query = query.where(operation_table.c.seq < before)
    if state is not None:
        query = query.where(operation_table.c.state.in_([inner for inner in State if outward(inner) == state]))
    rows = tx.run(query.order_by(operation_table.c.seq.desc()).limit(limit)).all()
    return [operation_of(tx, row) for row in reversed(rows)]


def counts_by_state(tx: Transaction, connection_id: str, since: int) -> dict[str, int]:
    """Map each outward state to how many operations changed since a moment, or are still open."""
    is_counted = or_(operation_table.c.updated_at >= since, operation_table.c.state.in_(sorted(UNSETTLED)))
    rows = tx.run(
        select(operation_table.c.state, func.count().label("number"))
        .where(operation_table.c.connection_id == connection_id, is_counted)
        .group_by(operation_table.c.state)
    )
    # every state a script may ask for, also those of which there are none
    counts = dict.fromkeys(("applied", "pending", "held", "rejected", "cancelled"), 0)
    for row in rows:
        counts[outward(row.state)] += row.number
    return counts


def count_unsettled(tx: Transaction, connection_id: str) -> int:
    """Count the operations of a connection that are still to be settled."""
    number = select(func.count()).select_from(operation_table)
    unsettled = operation_table.c.state.in_(sorted(UNSETTLED))
    return int(tx.run(number.where(operation_table.c.connection_id == connection_id, unsettled)).scalar_one())


@dataclass(frozen=True, slots=True)
class Try:
    """One try of an operation and what came of it; times in UTC microseconds."""

    number: int
    sent_at: int | None
    at: int
    state: State
    reason: Message | None


@dataclass(frozen=True, slots=True)
class OperationHistory:
    """An operation with its tries, in their order."""

    operation: Operation
    tries: tuple[Try, ...]
    voucher: VoucherState | None
    """What 7stamp said last of the voucher that it redeems, if anything."""


def of_sale(tx: Transaction, sale_id: str) -> list[OperationHistory]:
    """List a receipt's operations in their order, each with its tries; in one query."""
    rows = tx.run(
        select(
            operation_table,
            attempt_table.c.number.label("attempt_number"),
            attempt_table.c.sent_at.label("attempt_sent_at"),
            attempt_table.c.at.label("attempt_at"),
            attempt_table.c.state.label("attempt_state"),
            attempt_table.c.reason.label("attempt_reason"),
            voucher_state_table.c.status.label("voucher_status"),
            voucher_state_table.c.at.label("voucher_at"),
            voucher_state_table.c.redeemed_via.label("voucher_via"),
            voucher_state_table.c.by_code.label("voucher_by_code"),
        )
        .outerjoin(attempt_table, attempt_table.c.operation_id == operation_table.c.id)
        # the lane of a redemption is its voucher's: the hash of its code stands there
        .outerjoin(
            voucher_state_table,
            (voucher_state_table.c.business_id == operation_table.c.business_id)
            & ("voucher:" + voucher_state_table.c.code_hash == operation_table.c.lane),
        )
        .where(operation_table.c.sale_id == sale_id)
        .order_by(operation_table.c.n, attempt_table.c.number)
    )
    operations: dict[str, Operation] = {}
    attempts: dict[str, list[Try]] = {}
    vouchers: dict[str, VoucherState] = {}
    for row in rows:
        if row.voucher_status is not None:
            state = VoucherState(row.voucher_status, row.voucher_at, row.voucher_via, row.voucher_by_code)
            vouchers[row.id] = state
        operation = operations.setdefault(row.id, operation_of(tx, row))
        tries = attempts.setdefault(row.id, [])
        if row.attempt_number is not None:
            tries.append(_try(row))
        elif operation.state is State.applied:  # a first try that succeeds is not stored: the operation says it all
            tries.append(Try(1, operation.sent_at, operation.updated_at, State.applied, None))
    return [
        OperationHistory(operations[operation_id], tuple(tries), vouchers.get(operation_id))
        for operation_id, tries in attempts.items()
    ]


def _try(row: AnyRow) -> Try:
    reason = Message.restored(row.attempt_reason) if row.attempt_reason else None
    return Try(row.attempt_number, row.attempt_sent_at, row.attempt_at, State(row.attempt_state), reason)
