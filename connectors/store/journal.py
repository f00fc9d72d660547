"""The journal, what happened in plain words later, and what was received but could not be understood.

Owns both tables; wording is done when read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select

from connector_sdk.messages import Message
from connectors.domain.clock import DAY
from connectors.store.engine import Transaction
from connectors.store.schema import journal, kept

_KEPT_AT_MOST = 2000
_KEPT_FOR = 90 * DAY


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `at` in UTC microseconds."""

    seq: int
    at: int
    receipt_id: str | None
    message: Message
    sale_id: str | None = None
    by: str | None = None


def insert_lines(tx: Transaction, lines: Sequence[dict[str, Any]]) -> None:
    tx.run(journal.insert(), lines)
    tx.wake.add("journal")


def note(tx: Transaction, connection_id: str, message: Message, receipt_id: str | None = None) -> None:
    """A line about a connection, or about a receipt that is not in the ledger."""
    insert_lines(
        tx,
        [
            {
                "connection_id": connection_id,
                "sale_id": None,
                "receipt_id": receipt_id,
                "at": tx.now,
                "message": message.stored(),
                "by": tx.by,
            }
        ],
    )


def last(tx: Transaction, connection_id: str) -> int:
    """The sequence number of a connection's newest line; 0 where there is none."""
    newest = select(journal.c.seq).where(journal.c.connection_id == connection_id).order_by(journal.c.seq.desc())
    return tx.run(newest.limit(1)).scalar() or 0


def of_sale(tx: Transaction, sale_id: str, limit: int = 200) -> list[Line]:
    """The first `limit` lines about a sale, oldest first."""
    rows = tx.run(select(journal).where(journal.c.sale_id == sale_id).order_by(journal.c.seq).limit(limit))
    return [_line(row) for row in rows]


def _line(row: Any) -> Line:
    return Line(row.seq, row.at, row.receipt_id, Message.restored(row.message), row.sale_id, row.by)


def lines(
    tx: Transaction, connection_id: str, *, after: int = 0, before: int | None = None, limit: int = 200
) -> list[Line]:
    """The last `limit` lines of a connection after a sequence number (and before another), oldest first."""
    rows = tx.run(
        select(journal)
        .where(
            journal.c.connection_id == connection_id,
            journal.c.seq > after,
            *([journal.c.seq < before] if before is not None else []),
        )
        .order_by(journal.c.seq.desc())
        .limit(limit)
    ).all()
    return [_line(row) for row in reversed(rows)]


def keep(tx: Transaction, connection_id: str, receipt_id: str | None, body: bytes, where: str, why: str) -> bool:
    """Keep what could not be understood, encrypted; whether it is new (the same body again is not)."""
    text = body.decode("latin-1")  # any bytes, there and back
    values = {
        "id": tx.vault.hash("kept", connection_id, receipt_id or "", text),
        "connection_id": connection_id,
        "receipt_id": receipt_id,
        "at": tx.now,
        "place": where[:200],
        "why": why[:500],
        "body": tx.vault.encrypt(text),
    }
    if tx.run(tx.insert(kept).values(values).on_conflict_do_nothing()).rowcount == 0:
        return False
    _prune(tx, connection_id)
    return True


def _prune(tx: Transaction, connection_id: str) -> None:
    """Bounded in age and number, the oldest first to go."""
    mine = kept.c.connection_id == connection_id
    tx.run(delete(kept).where(mine, kept.c.at < tx.now - _KEPT_FOR))
    number = tx.run(select(func.count()).select_from(kept).where(mine)).scalar_one()
    if number > _KEPT_AT_MOST:
        oldest = select(kept.c.id).where(mine).order_by(kept.c.at).limit(number - _KEPT_AT_MOST)
        tx.run(delete(kept).where(kept.c.id.in_(oldest)))


def kept_bodies(tx: Transaction, connection_id: str) -> list[tuple[str | None, bytes, str, str]]:
    """What was kept: receipt id, body, where and why, oldest first."""
    rows = tx.run(select(kept).where(kept.c.connection_id == connection_id).order_by(kept.c.at))
    return [(row.receipt_id, tx.vault.decrypt(row.body).encode("latin-1"), row.place, row.why) for row in rows]


def kept_reasons(tx: Transaction, connection_id: str) -> list[tuple[str | None, str, str, int]]:
    """What could not be understood, without its body: receipt id, where, why and when, oldest first."""
    rows = tx.run(
        select(kept.c.receipt_id, kept.c.place, kept.c.why, kept.c.at)
        .where(kept.c.connection_id == connection_id)
        .order_by(kept.c.at)
    )
    return [(row.receipt_id, row.place, row.why, row.at) for row in rows]
