"""TODO docstring."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, exists, select

from connectors.domain.connection import WORKING
from connectors.domain.events import Wakeup
from connectors.domain.operation import State
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table, errand_table, hint_table, identify_table, operation_table

_now: BindParameter[int] = bindparam("now")


_working = connection_table.c.health.in_(WORKING)


_LOOK = select(
    exists()
    .where(_working, (connection_table.c.next_poll_at <= _now) | (connection_table.c.next_lookback_at <= _now))
    .label("poll"),
    exists().where(hint_table.c.next_at <= _now).label("hints"),
    exists().where(identify_table.c.next_at <= _now).label("identify"),
    exists().where(operation_table.c.state == State.pending, operation_table.c.next_at <= _now).label("deliver"),
    exists().where(operation_table.c.state == State.uncertain, operation_table.c.next_at <= _now).label("resolve"),
    exists().where(errand_table.c.state == "asked").label("commands"),
)


def kinds(tx: Transaction) -> set[Wakeup]:
    """List the kinds of work of which something may be due now."""
    row = tx.run(_LOOK, {"now": tx.now}).one()
    return {Wakeup(name) for name, due in row._mapping.items() if due}
