"""Conditions on operations, written as the partial indexes are: a database uses such an index only for the same words.

Owns these conditions, for whoever asks for operations that need a person or are on their way. Which holds need a person
is decided in `connectors.domain.holds`.
"""

from __future__ import annotations

from sqlalchemy import literal

from connectors.domain.connection import WORKING
from connectors.domain.holds import HOLDS_FOR_PERSON
from connectors.domain.operation import Hold, State
from connectors.store.schema import connection_table, operation_table, sale_table

# written into the statement, not bound: a partial index is chosen only where its condition is seen
_HELD, _REJECTED, _NO = (literal(value, literal_execute=True) for value in (State.held.value, State.rejected.value, 0))

# one condition for each partial index; what is asked for less often goes by the connection
is_held = operation_table.c.state == _HELD
is_rejected = (operation_table.c.state == _REJECTED) & (operation_table.c.acknowledged == _NO)
"""Rejected, and nobody has seen it yet."""

is_flagged = operation_table.c.flag.is_not(None)
"""Nothing is to be sent, and yet a person should look."""

worth_an_email = (is_held & operation_table.c.hold.in_([hold.value for hold in HOLDS_FOR_PERSON]), is_rejected)
"""The operations of which a cafe is told by email: two conditions, each with an index of its own."""

needs_person = (*worth_an_email, is_flagged)
"""The operations that need a person."""

_GIFT = literal(Hold.gift.value, literal_execute=True)
is_gift = is_held & (operation_table.c.hold == _GIFT)
"""A gift whose voucher is still to be found."""

finds_voucher = (
    is_gift,
    sale_table.c.id == operation_table.c.sale_id,
    sale_table.c.card_id.is_not(None),
    sale_table.c.customer_hash == sale_table.c.bound_hash,
    connection_table.c.id == operation_table.c.connection_id,
    connection_table.c.health.in_(WORKING),
)
"""That, and there is a card to look for it on, and a connection that works."""

on_the_way = operation_table.c.state.in_(
    [literal(state.value, literal_execute=True) for state in (State.pending, State.sending, State.uncertain)]
)
"""Not settled yet, and not held: to be sent, on the wire, or in doubt."""

_OPEN = (State.pending, State.sending, State.uncertain, State.held)
is_open = operation_table.c.state.in_([literal(state.value, literal_execute=True) for state in _OPEN])
"""Not settled yet. Whoever asks for one of these states asks for this too: SQLite does not see that it follows."""
