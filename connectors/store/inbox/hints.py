"""TODO docstring."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, case, func, select

from connectors.domain.clock import DAY, SECOND
from connectors.domain.connection import WORKING
from connectors.domain.events import Wakeup
from connectors.store.counters import issue_tickets
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table, hint_table

_PAUSES = (2, 5, 15, 60, 300, 900, 3600)


GIVE_UP = 3 * DAY


_LEASE = 60 * SECOND  # a claimed hint comes back by itself if its worker died


@dataclass(frozen=True, slots=True)
class NewHint:
    """A receipt to read again; `closed` where the till said that it was paid and closed.

    `said` tells a till's own word (a hook) from our own doubt (a snapshot that lost): only a till's word begins the
    pauses and the three days anew, or a till that contradicts itself would be asked without end.
    """

    connection_id: str
    receipt_id: str
    closed: bool
    said: bool = True


@dataclass(frozen=True, slots=True)
class DueHint:
    """A claimed hint; `ticket` orders what its fetch will see."""

    connection_id: str
    receipt_id: str
    generation: int
    closed: bool
    attempts: int
    created_at: int
    ticket: int


def leave(tx: Transaction, new: Sequence[NewHint]) -> None:
    """Leave hints, or raise the generation of those that are there."""
    said = _merged(tx, [left for left in new if left.said])
    doubted = _merged(tx, [left for left in new if not left.said])
    insert = tx.insert(hint_table)
    raised = {
        "generation": hint_table.c.generation + 1,
        "closed": case((insert.excluded.closed == 1, 1), else_=hint_table.c.closed),
    }
    anew = {
        "next_at": insert.excluded.next_at,
        "attempts": 0,
        "created_at": insert.excluded.created_at,  # given up only long after this
    }
    for rows, changes in ((said, raised | anew), (doubted, raised)):
        if rows:
            keys = [hint_table.c.connection_id, hint_table.c.receipt_id]
            tx.run(insert.on_conflict_do_update(index_elements=keys, set_=changes), rows)
            tx.wakeups.add(Wakeup.hints)


def _merged(tx: Transaction, new: Sequence[NewHint]) -> list[dict[str, object]]:
    """Make one row of each receipt, closed where any of its hints says so."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for left in new:
        values = rows.setdefault(
            (left.connection_id, left.receipt_id),
            {
                "connection_id": left.connection_id,
                "receipt_id": left.receipt_id,
                "generation": tx.now,
                "closed": 0,
                "next_at": tx.now,
                "attempts": 0,
                "created_at": tx.now,
            },
        )
        values["closed"] = int(bool(values["closed"]) or left.closed)
    return list(rows.values())


def claim(tx: Transaction, limit: int, only: str | None = None, *, without: Collection[str] = ()) -> list[DueHint]:
    """Claim due hints of working connections (of one; not of some), with a ticket for each."""
    wanted = (
        select(hint_table)
        .join(connection_table, connection_table.c.id == hint_table.c.connection_id)
        .where(connection_table.c.health.in_(WORKING), hint_table.c.next_at <= tx.now)
        .order_by(hint_table.c.next_at)
        .limit(limit)
    )
    if only:
        wanted = wanted.where(hint_table.c.connection_id == only)
    if without:
        wanted = wanted.where(hint_table.c.connection_id.not_in(sorted(without)))
    rows = tx.run(wanted).all()
    if not rows:
        return []
    tx.run(
        hint_table.update()
        .where(hint_table.c.connection_id == bindparam("connection"), hint_table.c.receipt_id == bindparam("receipt"))
        .values(next_at=tx.now + _LEASE),
        [{"connection": row.connection_id, "receipt": row.receipt_id} for row in rows],
    )
    first = issue_tickets(tx, len(rows))
    return [
        DueHint(
            row.connection_id, row.receipt_id, row.generation, bool(row.closed), row.attempts, row.created_at, first + i
        )
        for i, row in enumerate(rows)
    ]


def finish(tx: Transaction, hints: Sequence[DueHint]) -> None:
    """Delete hints whose generation did not change since they were claimed; the others are due at once."""
    if not hints:
        return
    mine = (hint_table.c.connection_id == bindparam("connection")) & (hint_table.c.receipt_id == bindparam("receipt"))
    keys = [{"connection": h.connection_id, "receipt": h.receipt_id, "seen": h.generation} for h in hints]
    result = tx.run(hint_table.delete().where(mine, hint_table.c.generation == bindparam("seen")), keys)
    if result.rowcount != len(hints):
        tx.run(
            hint_table.update().where(mine, hint_table.c.generation != bindparam("seen")).values(next_at=tx.now),
            keys,
        )
        tx.wakeups.add(Wakeup.hints)


def postpone(tx: Transaction, one: DueHint, *, after: float | None = None) -> bool:
    """Try a hint again after a growing pause (or `after` seconds); `False` where three days are over and it ends.

    A hook that came meanwhile makes it due at once: the till has something new to show.
    """
    mine = (hint_table.c.connection_id == one.connection_id) & (hint_table.c.receipt_id == one.receipt_id)
    if tx.now - one.created_at > GIVE_UP:
        return tx.run(hint_table.delete().where(mine, hint_table.c.created_at == one.created_at)).rowcount == 0
    pause = after if after is not None else _PAUSES[min(one.attempts, len(_PAUSES) - 1)]
    tx.run(
        hint_table.update()
        .where(mine, hint_table.c.created_at == one.created_at)
        .values(next_at=tx.now + int(pause * SECOND), attempts=one.attempts + 1)
    )
    tx.run(hint_table.update().where(mine, hint_table.c.created_at != one.created_at).values(next_at=tx.now))
    return True


def count_of(tx: Transaction, connection_id: str) -> int:
    return int(
        tx.run(
            select(func.count()).select_from(hint_table).where(hint_table.c.connection_id == connection_id)
        ).scalar_one()
    )
