"""TODO docstring."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, case, func, select

from connector_sdk.messages import Message
from connectors.domain.clock import HOUR, SECOND
from connectors.domain.connection import WORKING, Connection, Health
from connectors.domain.events import Wakeup
from connectors.store import ledger
from connectors.store.connections.registry import connection_of, report_unwell, set_health
from connectors.store.counters import issue_tickets
from connectors.store.engine import Transaction
from connectors.store.schema import (
    connection_table,
)

LOOKBACK_EVERY = HOUR


_POLL_WITHOUT_HOOKS = 60


_POLL_WITH_HOOKS = 900


_HOOKS_ARRIVE = 24 * HOUR  # hooks count as arriving while the last is no older than this


def read_back_now(tx: Transaction, connection_id: str) -> None:
    """Read the last business days whole as soon as may be."""
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(next_lookback_at=tx.now))
    tx.wakeups.add(Wakeup.poll)


def poll_soon(tx: Transaction, connection_id: str, pause: int = 5 * SECOND, young: int = HOUR) -> None:
    """Read a young connection's till again `pause` after the last read: somebody waits for its first receipt."""
    soon = func.coalesce(connection_table.c.last_poll_at, 0) + pause
    tx.run(
        connection_table.update()
        .where(
            connection_table.c.id == connection_id,
            connection_table.c.health == Health.active,
            connection_table.c.failures == 0,
            connection_table.c.began_at > tx.now - young,
            soon <= tx.now,
            connection_table.c.next_poll_at > tx.now,
        )
        .values(next_poll_at=tx.now)
    )
    tx.wakeups.add(Wakeup.poll)


def poll_now(tx: Transaction, connection_id: str) -> None:
    """Read the till at once, so that its own answer says how the connection is doing; at most every ten seconds.

    A till that fails is read again with growing pauses, which a hook does not shorten.
    """
    due = func.coalesce(connection_table.c.last_poll_at, 0) + 10 * SECOND
    tx.run(
        connection_table.update()
        .where(
            connection_table.c.id == connection_id,
            connection_table.c.health.in_(WORKING),
            connection_table.c.failures == 0,
            connection_table.c.next_poll_at > tx.now,
        )
        .values(next_poll_at=case((due > tx.now, due), else_=tx.now))
    )
    tx.wakeups.add(Wakeup.poll)


@dataclass(frozen=True, slots=True)
class DueRead:
    """A read that is due and claimed; `ticket` orders what it will see."""

    connection: Connection
    ticket: int


def _poll_pause(one: Connection, now: int) -> int:
    hooks = one.last_hook_at is not None and now - one.last_hook_at < _HOOKS_ARRIVE
    seconds = one.poll_seconds or (_POLL_WITH_HOOKS if hooks else _POLL_WITHOUT_HOOKS)
    backoff = min(2**one.failures, 64)
    return _jittered(min(seconds * backoff, max(seconds, 3600)) * SECOND)


def _jittered(pause: int) -> int:
    return int(pause * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load


def claim_polls(tx: Transaction, limit: int, only: str | None = None) -> list[DueRead]:
    """Claim the polls that are due (or one connection's, due or not) and say when each is next."""
    return _claim(tx, connection_table.c.next_poll_at, limit, only, _poll_pause)


def claim_lookbacks(tx: Transaction, limit: int, only: str | None = None) -> list[DueRead]:
    """The same for look-backs."""
    return _claim(tx, connection_table.c.next_lookback_at, limit, only, lambda _one, _now: _jittered(LOOKBACK_EVERY))


def _claim(tx: Transaction, column: Any, limit: int, only: str | None, pause: Any) -> list[DueRead]:
    wanted = select(connection_table).where(connection_table.c.health.in_(WORKING))
    wanted = wanted.where(connection_table.c.id == only) if only else wanted.where(column <= tx.now)
    rows = [connection_of(row) for row in tx.run(wanted.order_by(column).limit(limit))]
    if not rows:
        return []
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == bindparam("id_"))
        .values({column.name: bindparam("next_at")}),
        [{"id_": one.id, "next_at": tx.now + pause(one, tx.now)} for one in rows],
    )
    first = issue_tickets(tx, len(rows))
    return [DueRead(one, first + number) for number, one in enumerate(rows)]


def record_hooks(tx: Transaction, ids: Sequence[str]) -> None:
    """Note that hooks arrive."""
    tx.run(connection_table.update().where(connection_table.c.id.in_(sorted(set(ids)))).values(last_hook_at=tx.now))


def set_checkpoint(tx: Transaction, connection_id: str, checkpoint_at: int) -> None:
    """Everything changed at the till before then has been ingested."""
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(checkpoint_at=checkpoint_at))


def record_read(tx: Transaction, connection_id: str, *, lookback: bool) -> None:
    """A read went through to its end."""
    values: dict[str, Any] = {"last_poll_at": tx.now, "failures": 0}
    if lookback:
        values["last_lookback_at"] = tx.now
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(values))
    row = tx.run(select(connection_table.c.health).where(connection_table.c.id == connection_id)).one()
    if row.health == Health.failing:
        set_health(tx, connection_id, Health.active, None)


def record_failed_read(tx: Transaction, seen: Connection, reason: Message, *, retry_after: float | None) -> None:
    """A read failed: try later, and say so once it keeps failing."""
    connection_id = seen.id
    failures = tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(failures=connection_table.c.failures + 1)
        .returning(connection_table.c.failures)
    ).scalar_one()
    if retry_after is not None:
        tx.run(
            connection_table.update()
            .where(connection_table.c.id == connection_id)
            .values(next_poll_at=tx.now + int(retry_after * SECOND))
        )
    if failures >= 3:
        report_unwell(tx, seen, Health.failing, reason)
    elif failures == 1:
        ledger.journal.write(tx, connection_id, Message("connection.slow", {"why": reason}))
