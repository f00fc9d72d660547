"""Turns to call tills, lent to the members of a cluster: a row for each account or application that a till counts by.

Owns the table `call_rate`: up to when its turns are given away. Waiting for a turn is `connector_sdk.rate_limit`'s.
"""

from __future__ import annotations

from sqlalchemy import case, delete, select

from connectors.domain.clock import MINUTE, SECOND
from connectors.store.engine import Transaction
from connectors.store.schema import call_rate_table

_MOST_AHEAD = 10 * MINUTE
"""Further ahead nothing is given away: twice the longest pause that a till may ask for."""


def lend(tx: Transaction, name: str, per_second: float, burst: int, turns: int, paused: float) -> float:
    """Give so many turns away; return in how many seconds the first is, which may be past by up to a `burst` of them.

    Turns are `1 / per_second` seconds apart, and none is within `paused` seconds from now. What a member has given away
    by a clock that was put back since, an hour ahead, makes nobody wait.
    """
    spacing = SECOND / per_second
    # an idle account has saved up a burst of turns and no more; after a pause it has none
    earliest = tx.now + int(paused * SECOND if paused > 0 else -burst * spacing)
    given = int(turns * spacing)
    known = call_rate_table.c.given_until
    is_queue = known.between(earliest, tx.now + _MOST_AHEAD)
    statement = tx.insert(call_rate_table).values(name=name, given_until=earliest + given)
    lent = statement.on_conflict_do_update(
        index_elements=["name"], set_={"given_until": case((is_queue, known), else_=earliest) + given}
    )
    until = int(tx.run(lent.returning(known)).scalar_one())
    return (until - given + spacing - tx.now) / SECOND


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move up to when turns are given away with a clock that jumped."""
    later = call_rate_table.update().where(call_rate_table.c.given_until > before)
    tx.run(later.values(given_until=call_rate_table.c.given_until + jump))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete accounts that nobody has called since a moment (UTC microseconds); return how many."""
    old = select(call_rate_table.c.name).where(call_rate_table.c.given_until < before).limit(limit)
    return tx.run(delete(call_rate_table).where(call_rate_table.c.name.in_(old))).rowcount
