"""Hints: receipts to read again, because a hook named them or two snapshots could not be ordered.

Owns the table `hint` and the generations in it: a hook that comes while its receipt is being fetched raises the
generation, and the fetch then deletes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from sqlalchemy import ColumnElement, bindparam, case, func, select

from connectors.domain.clock import MINUTE, SECOND
from connectors.domain.connection import WORKING
from connectors.domain.events import Wakeup
from connectors.domain.retry_pauses import HINT_ENDS_AFTER, hint_pause
from connectors.store.counters import issue_tickets
from connectors.store.dialect import Insert, insert_into
from connectors.store.engine import Transaction
from connectors.store.query_parts import claiming
from connectors.store.schema import connection_table, hint_table

_LEASE = MINUTE
"""A claimed hint is due again after this, by itself, if whoever claimed it died."""


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
    """A claimed hint; `ticket` orders what its fetch will see, `created_at` is in UTC microseconds."""

    connection_id: str
    receipt_id: str
    generation: int
    closed: bool
    attempts: int
    created_at: int
    ticket: int


def leave(tx: Transaction, hints: Sequence[NewHint]) -> None:
    """Leave hints, or raise the generation of those that are there."""
    # one row for each receipt, however often it is named: thousands of hooks of one receipt cost one fetch
    # a till's word first: where both name a receipt, the doubt only raises the generation once more
    for said in (True, False):
        rows = _rows(tx, [hint for hint in hints if hint.said is said])
        if rows:
            tx.run_each(_leaving(tx.session.dialect.name, said=said), rows)
            tx.wakeups.add(Wakeup.hints)


@cache
def _leaving(dialect: str, *, said: bool) -> Insert:
    """Build the insert of hints that a till `said`, which begin anew where they are there, or of doubts."""
    insert = insert_into(dialect, hint_table)
    changes: dict[str, ColumnElement[int] | int] = {
        "generation": hint_table.c.generation + 1,
        "closed": case((insert.excluded.closed == 1, 1), else_=hint_table.c.closed),
    }
    if said:
        changes |= {"next_at": insert.excluded.next_at, "attempts": 0, "created_at": insert.excluded.created_at}
    keys = [hint_table.c.connection_id, hint_table.c.receipt_id]
    return insert.on_conflict_do_update(index_elements=keys, set_=changes)


def _rows(tx: Transaction, hints: Sequence[NewHint]) -> list[dict[str, object]]:
    """Build one row of each receipt, closed where any of its hints says so."""
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for hint in hints:
        row = rows.setdefault(
            (hint.connection_id, hint.receipt_id),
            {
                "connection_id": hint.connection_id,
                "receipt_id": hint.receipt_id,
                "generation": tx.now,
                "closed": 0,
                "next_at": tx.now,
                "attempts": 0,
                "created_at": tx.now,
            },
        )
        row["closed"] = int(bool(row["closed"]) or hint.closed)
    return list(rows.values())


_IS_KEY = (hint_table.c.connection_id == bindparam("connection")) & (hint_table.c.receipt_id == bindparam("receipt"))
_LEASED = hint_table.update().where(_IS_KEY).values(next_at=bindparam("until"))
_FINISHED = hint_table.delete().where(_IS_KEY, hint_table.c.generation == bindparam("claimed"))


def lease(tx: Transaction, limit: int, only: str | None = None, *, without: Collection[str] = ()) -> list[DueHint]:
    """Lease due hints of working connections (of one; not of some), with a ticket for each."""
    query = (
        select(hint_table)
        .join(connection_table, connection_table.c.id == hint_table.c.connection_id)
        # a paused connection's hints wait: they are followed when it is resumed
        .where(connection_table.c.health.in_(WORKING), hint_table.c.next_at <= tx.now)
        .order_by(hint_table.c.next_at)
        .limit(limit)
    )
    if only:
        query = query.where(hint_table.c.connection_id == only)
    if without:
        query = query.where(hint_table.c.connection_id.not_in(sorted(without)))
    rows = tx.run(claiming(query, hint_table)).all()
    if not rows:
        return []
    until = tx.now + _LEASE
    leases = [{"connection": row.connection_id, "receipt": row.receipt_id, "until": until} for row in rows]
    tx.run_each(_LEASED, leases)
    first = issue_tickets(tx, len(rows))
    return [
        DueHint(
            connection_id=row.connection_id,
            receipt_id=row.receipt_id,
            generation=row.generation,
            closed=bool(row.closed),
            attempts=row.attempts,
            created_at=row.created_at,
            ticket=first + number,
        )
        for number, row in enumerate(rows)
    ]


def due_connections(tx: Transaction, limit: int) -> list[str]:
    """List working connections that have a hint to follow now."""
    query = (
        select(hint_table.c.connection_id)
        .join(connection_table, connection_table.c.id == hint_table.c.connection_id)
        .where(connection_table.c.health.in_(WORKING), hint_table.c.next_at <= tx.now)
        .group_by(hint_table.c.connection_id)
        .order_by(func.min(hint_table.c.next_at))
    )
    return list(tx.run(query.limit(limit)).scalars())


def finish(tx: Transaction, hints: Sequence[DueHint]) -> None:
    """Delete hints whose generation is the same as when they were claimed; the others are due at once."""
    if not hints:
        return
    keys = [
        {"connection": hint.connection_id, "receipt": hint.receipt_id, "claimed": hint.generation} for hint in hints
    ]
    deleted = tx.run_each(_FINISHED, keys)
    # a hook came during the fetch: what was fetched may be older than what it told of
    if deleted != len(hints):
        raised = hint_table.update().where(_IS_KEY, hint_table.c.generation != bindparam("claimed"))
        tx.run(raised.values(next_at=tx.now), keys)
        tx.wakeups.add(Wakeup.hints)


def postpone(tx: Transaction, hint: DueHint, *, after: float | None = None) -> bool:
    """Follow a hint again after a growing pause (or `after` seconds); `False` where three days are over and it ends.

    A hook that came meanwhile makes it due at once: the till has something new to show.
    """
    key = _key_of(hint)
    is_same = key & (hint_table.c.created_at == hint.created_at)
    # unless a hook came meanwhile: then it has a younger `created_at`, and goes on
    if tx.now - hint.created_at > HINT_ENDS_AFTER:
        return tx.run(hint_table.delete().where(is_same)).rowcount == 0
    pause = int(after * SECOND) if after is not None else hint_pause(hint.attempts)
    tx.run(hint_table.update().where(is_same).values(next_at=tx.now + pause, attempts=hint.attempts + 1))
    tx.run(hint_table.update().where(key, hint_table.c.created_at != hint.created_at).values(next_at=tx.now))
    return True


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times of fetches to come with a clock that jumped."""
    later = hint_table.update().where(hint_table.c.next_at > before)
    tx.run(later.values(next_at=hint_table.c.next_at + jump))


def _key_of(hint: DueHint) -> ColumnElement[bool]:
    return (hint_table.c.connection_id == hint.connection_id) & (hint_table.c.receipt_id == hint.receipt_id)


def count_of(tx: Transaction, connection_id: str) -> int:
    """Count the hints of a connection."""
    number = select(func.count()).select_from(hint_table)
    return int(tx.run(number.where(hint_table.c.connection_id == connection_id)).scalar_one())


def hand_over(tx: Transaction, from_id: str, to_id: str) -> None:
    """Leave all hints of one connection with another one, and delete them where they were."""
    rows = tx.run(select(hint_table).where(hint_table.c.connection_id == from_id)).all()
    leave(tx, [NewHint(to_id, row.receipt_id, bool(row.closed)) for row in rows])
    delete_of_connection(tx, from_id)


def delete_of_connection(tx: Transaction, connection_id: str) -> None:
    """Delete the hints of a connection that is removed."""
    tx.run(hint_table.delete().where(hint_table.c.connection_id == connection_id))
