"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, literal, select, union_all

from connectors.domain.operation import Hold, State
from connectors.store.connections.alerts import held, rejected
from connectors.store.engine import Transaction
from connectors.store.ledger.operations import Operation, operation_of
from connectors.store.schema import (
    operation_table,
)

MOST = 50


# in the words of the index
on_the_way = operation_table.c.state.in_(
    [literal(one.value, literal_execute=True) for one in (State.pending, State.sending, State.uncertain)]
)


# each reason by itself: asked for several at once, SQLite goes through all operations to have them in order
_NEEDS_PERSON = [*(held & (operation_table.c.hold == one.value) for one in Hold if one is not Hold.no_card), rejected]


def needing_person(tx: Transaction, connection_id: str, limit: int = MOST) -> list[Operation]:
    """The operations of a connection that need a person, newest first."""
    return _newest(tx, connection_id, _NEEDS_PERSON, limit)


def without_card(tx: Transaction, connection_id: str, limit: int = MOST) -> list[Operation]:
    """The operations that wait for their customers to have a card, newest first."""
    return _newest(tx, connection_id, [held & (operation_table.c.hold == Hold.no_card)], limit)


def _newest(tx: Transaction, connection_id: str, kinds: Sequence[ColumnElement[bool]], limit: int) -> list[Operation]:
    parts = [
        select(
            select(operation_table)
            .where(operation_table.c.connection_id == connection_id, one)
            .order_by(operation_table.c.seq.desc())
            .limit(limit)
            .subquery()
        )
        for one in kinds
    ]
    found = [operation_of(tx, row) for row in tx.run(union_all(*parts))]
    return sorted(found, key=lambda one: -one.seq)[:limit]
