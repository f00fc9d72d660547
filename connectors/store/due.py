"""What is due, in one cheap look: most ticks of the clock find nothing, and must cost next to nothing.

Owns the look; claiming what it finds is the other modules'.
"""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, exists, select

from connectors.domain.connection import WORKING
from connectors.domain.operation import State
from connectors.store.engine import Transaction
from connectors.store.schema import connection, errand, hint, identify, operation

_now: BindParameter[int] = bindparam("now")
_working = connection.c.health.in_(WORKING)

_LOOK = select(
    exists()
    .where(_working, (connection.c.next_poll_at <= _now) | (connection.c.next_lookback_at <= _now))
    .label("poll"),
    exists().where(hint.c.next_at <= _now).label("hints"),
    exists().where(identify.c.next_at <= _now).label("identify"),
    exists().where(operation.c.state == State.pending, operation.c.next_at <= _now).label("deliver"),
    exists().where(operation.c.state == State.uncertain, operation.c.next_at <= _now).label("resolve"),
    exists().where(errand.c.state == "asked").label("errands"),
)


def kinds(tx: Transaction) -> set[str]:
    """Which kinds of work have something that may be due: poll, hints, identify, deliver, resolve, errands."""
    row = tx.run(_LOOK, {"now": tx.now}).one()
    return {name for name, due in row._mapping.items() if due}
