"""Hints: receipts that a hook (or a losing snapshot) says to read again, each kept until it has been.

Owns their generations, so that a hook that comes during a fetch is not lost with it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, case, func, select

from connectors.domain.clock import SECOND
from connectors.domain.connection import WORKING
from connectors.store.engine import Transaction
from connectors.store.ledger import tickets
from connectors.store.schema import connection, hint

_PAUSES = (2, 5, 15, 60, 300, 900, 3600)
GIVE_UP = 48 * 3600 * SECOND
_LEASE = 60 * SECOND  # a claimed hint comes back by itself if its worker died


@dataclass(frozen=True, slots=True)
class NewHint:
    connection_id: str
    receipt_id: str
    closed: bool


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
    if not new:
        return
    merged: dict[tuple[str, str], dict[str, object]] = {}
    for one in new:
        values = merged.setdefault(
            (one.connection_id, one.receipt_id),
            {
                "connection_id": one.connection_id,
                "receipt_id": one.receipt_id,
                "generation": tx.now,
                "closed": 0,
                "next_at": tx.now,
                "attempts": 0,
                "created_at": tx.now,
            },
        )
        values["closed"] = int(bool(values["closed"]) or one.closed)
    insert = tx.insert(hint)
    tx.run(
        insert.on_conflict_do_update(
            index_elements=[hint.c.connection_id, hint.c.receipt_id],
            set_={
                "generation": hint.c.generation + 1,
                "closed": case((insert.excluded.closed == 1, 1), else_=hint.c.closed),
                "next_at": insert.excluded.next_at,
                "attempts": 0,
                "created_at": insert.excluded.created_at,  # said anew: given up only long after this
            },
        ),
        list(merged.values()),
    )
    tx.wake.add("hints")


def claim(tx: Transaction, limit: int, only: str | None = None, *, without: Collection[str] = ()) -> list[DueHint]:
    """Claim due hints of working connections (of one; not of some), with a ticket for each."""
    wanted = (
        select(hint)
        .join(connection, connection.c.id == hint.c.connection_id)
        .where(connection.c.health.in_(WORKING), hint.c.next_at <= tx.now)
        .order_by(hint.c.next_at)
        .limit(limit)
    )
    if only:
        wanted = wanted.where(hint.c.connection_id == only)
    if without:
        wanted = wanted.where(hint.c.connection_id.not_in(sorted(without)))
    rows = tx.run(wanted).all()
    if not rows:
        return []
    tx.run(
        hint.update()
        .where(hint.c.connection_id == bindparam("connection"), hint.c.receipt_id == bindparam("receipt"))
        .values(next_at=tx.now + _LEASE),
        [{"connection": row.connection_id, "receipt": row.receipt_id} for row in rows],
    )
    first = tickets(tx, len(rows))
    return [
        DueHint(
            row.connection_id, row.receipt_id, row.generation, bool(row.closed), row.attempts, row.created_at, first + i
        )
        for i, row in enumerate(rows)
    ]


def done(tx: Transaction, hints: Sequence[DueHint]) -> None:
    """Delete hints whose generation did not change since they were claimed; the others are due at once."""
    if not hints:
        return
    mine = (hint.c.connection_id == bindparam("connection")) & (hint.c.receipt_id == bindparam("receipt"))
    keys = [{"connection": h.connection_id, "receipt": h.receipt_id, "seen": h.generation} for h in hints]
    result = tx.run(hint.delete().where(mine, hint.c.generation == bindparam("seen")), keys)
    if result.rowcount != len(hints):
        tx.run(
            hint.update().where(mine, hint.c.generation != bindparam("seen")).values(next_at=tx.now),
            keys,
        )
        tx.wake.add("hints")


def later(tx: Transaction, one: DueHint, *, after: float | None = None) -> bool:
    """Try a hint again after a growing pause (or `after` seconds); `False` where it is given up instead."""
    if tx.now - one.created_at > GIVE_UP:
        done(tx, [one])
        return False
    pause = after if after is not None else _PAUSES[min(one.attempts, len(_PAUSES) - 1)]
    tx.run(
        hint.update()
        .where(
            hint.c.connection_id == one.connection_id,
            hint.c.receipt_id == one.receipt_id,
            hint.c.generation == one.generation,
        )
        .values(next_at=tx.now + int(pause * SECOND), attempts=one.attempts + 1)
    )
    return True


def waiting(tx: Transaction, connection_id: str) -> int:
    return int(tx.run(select(func.count()).select_from(hint).where(hint.c.connection_id == connection_id)).scalar_one())
