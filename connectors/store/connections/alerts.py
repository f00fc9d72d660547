"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import exists, literal, or_, select

from connectors.domain.clock import SECOND
from connectors.domain.connection import Health
from connectors.domain.operation import Hold, State
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table, operation_table, watch_table

PATIENCE = 900 * SECOND


_UNWELL = (Health.needs_authorisation, Health.failing)


_HELD, _REJECTED, _NO = (literal(one, literal_execute=True) for one in (State.held.value, State.rejected.value, 0))


# in the words of the indexes, so that both databases use them
held = operation_table.c.state == _HELD


rejected = (operation_table.c.state == _REJECTED) & (operation_table.c.acknowledged == _NO)


# a customer without a card is waited for; that needs nobody
needs_person = (held & operation_table.c.hold.in_([one.value for one in Hold if one is not Hold.no_card]), rejected)
"""The operations that need a person: two conditions, each with an index of its own."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A message to send: `trouble` or its end."""

    connection_id: str
    title: str
    business_id: str
    language: str
    trouble: bool
    email: str = field(repr=False)


def set_email(tx: Transaction, connection_id: str, email: str | None, language: str) -> None:
    """Whom to tell; nobody with `None`."""
    if email is None:
        tx.run(watch_table.delete().where(watch_table.c.connection_id == connection_id))
        return
    values = {"email": tx.vault.encrypt(email), "language": language}
    tx.run(
        tx.insert(watch_table)
        .values(connection_id=connection_id, **values)
        .on_conflict_do_update(index_elements=[watch_table.c.connection_id], set_=values)
    )


def email_of(tx: Transaction, connection_id: str) -> str | None:
    kept = tx.run(select(watch_table.c.email).where(watch_table.c.connection_id == connection_id)).scalar()
    return tx.vault.decrypt(kept) if kept else None


def claim_due(tx: Transaction, limit: int = 50) -> list[Notification]:
    """Notice what has gone wrong or well since the last look, and claim the messages to send now."""
    unwell = connection_table.c.health.in_(_UNWELL)
    waits = [exists().where(operation_table.c.connection_id == connection_table.c.id, one) for one in needs_person]
    trouble = or_(unwell, *waits)
    watched = select(
        watch_table, connection_table.c.title, connection_table.c.business_id, trouble.label("trouble")
    ).join(connection_table, connection_table.c.id == watch_table.c.connection_id)
    rows = tx.run(
        watched.where(
            # somebody who pauses has seen it: nothing is news until the connection works again
            connection_table.c.health.not_in([Health.removed, Health.paused]),
            or_(
                trouble & watch_table.c.since.is_(None),
                ~trouble & watch_table.c.since.is_not(None),
                trouble & watch_table.c.told_at.is_(None) & (watch_table.c.since <= tx.now - PATIENCE),
            ),
        ).limit(limit)
    ).all()
    found: list[Notification] = []
    for row in rows:
        telling = Notification(
            row.connection_id,
            row.title,
            row.business_id,
            row.language,
            bool(row.trouble),
            tx.vault.decrypt(row.email),
        )
        if row.trouble and row.since is None:
            _set_state(tx, row.connection_id, since=tx.now, told_at=None)
        elif row.trouble:
            _set_state(tx, row.connection_id, since=row.since, told_at=tx.now)
            found.append(telling)
        else:
            _set_state(tx, row.connection_id, since=None, told_at=None)
            if row.told_at is not None:
                found.append(telling)
    return found


def mark_unsent(tx: Transaction, telling: Notification) -> None:
    """A message surely did not go out: it is due again."""
    if telling.trouble:
        mine = (watch_table.c.connection_id == telling.connection_id) & watch_table.c.told_at.is_not(None)
        tx.run(watch_table.update().where(mine).values(told_at=None))
    else:  # as if the trouble, told of, had ended only now
        mine = (watch_table.c.connection_id == telling.connection_id) & watch_table.c.since.is_(None)
        tx.run(watch_table.update().where(mine).values(since=tx.now, told_at=tx.now))


def _set_state(tx: Transaction, connection_id: str, *, since: int | None, told_at: int | None) -> None:
    tx.run(
        watch_table.update().where(watch_table.c.connection_id == connection_id).values(since=since, told_at=told_at)
    )
