"""TODO docstring."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select

from connector_sdk.messages import Message
from connectors.domain.events import Wakeup
from connectors.domain.person import MASKED_CARD, Traces
from connectors.store.engine import Transaction
from connectors.store.schema import journal_table


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One line: `at` in UTC microseconds."""

    seq: int
    at: int
    receipt_id: str | None
    message: Message
    sale_id: str | None = None
    by: str | None = None


def stored_message(tx: Transaction, message: Message) -> str:
    """A line's message as it is kept: JSON text, encrypted where it names a redeem code."""
    text = message.stored()
    names_code = message.id == "sale.redeems" or message.id.endswith(".voucher_redeemed")
    return tx.vault.encrypt(text) if names_code else text


def _decrypted(tx: Transaction, text: str) -> str:
    return text if text.startswith("[") else tx.vault.decrypt(text)


def _restored(tx: Transaction, text: str) -> Message:
    return Message.restored(_decrypted(tx, text))


def insert_lines(tx: Transaction, lines: Sequence[dict[str, Any]]) -> None:
    tx.run(journal_table.insert(), lines)
    tx.wakeups.add(Wakeup.journal)


def write(
    tx: Transaction,
    connection_id: str,
    message: Message,
    receipt_id: str | None = None,
    *,
    sale_id: str | None = None,
) -> None:
    """Write a line about a connection, or about a receipt (which may not be in the ledger)."""
    insert_lines(
        tx,
        [
            {
                "connection_id": connection_id,
                "sale_id": sale_id,
                "receipt_id": receipt_id,
                "at": tx.now,
                "message": stored_message(tx, message),
                "by": tx.by,
            }
        ],
    )


def newest_seq(tx: Transaction, connection_id: str) -> int:
    """The sequence number of a connection's newest line; 0 where there is none."""
    newest = (
        select(journal_table.c.seq)
        .where(journal_table.c.connection_id == connection_id)
        .order_by(journal_table.c.seq.desc())
    )
    return tx.run(newest.limit(1)).scalar() or 0


def of_sale(tx: Transaction, sale_id: str, limit: int = 200) -> list[JournalLine]:
    """The first `limit` lines about a sale, oldest first."""
    rows = tx.run(
        select(journal_table).where(journal_table.c.sale_id == sale_id).order_by(journal_table.c.seq).limit(limit)
    )
    return [_line(tx, row) for row in rows]


def _line(tx: Transaction, row: Any) -> JournalLine:
    return JournalLine(row.seq, row.at, row.receipt_id, _restored(tx, row.message), row.sale_id, row.by)


def of_connection(
    tx: Transaction, connection_id: str, *, after: int = 0, before: int | None = None, limit: int = 200
) -> list[JournalLine]:
    """The last `limit` lines of a connection after a sequence number (and before another), oldest first."""
    rows = tx.run(
        select(journal_table)
        .where(
            journal_table.c.connection_id == connection_id,
            journal_table.c.seq > after,
            *([journal_table.c.seq < before] if before is not None else []),
        )
        .order_by(journal_table.c.seq.desc())
        .limit(limit)
    ).all()
    return [_line(tx, row) for row in reversed(rows)]


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete the oldest lines, those written before a moment, at most so many; how many that were."""
    oldest = tx.run(select(journal_table.c.seq, journal_table.c.at).order_by(journal_table.c.seq).limit(limit)).all()
    old = [row.seq for row in oldest if row.at < before]
    if old:
        tx.run(journal_table.delete().where(journal_table.c.seq.in_(old)))
    return len(old)


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line of the journal, its message as JSON text in the clear."""

    seq: int
    sale_id: str | None
    text: str = field(repr=False)


def lines_after(tx: Transaction, connection_ids: Sequence[str], after: int, limit: int) -> list[StoredLine]:
    """The next lines of some connections, oldest first."""
    rows = tx.run(
        select(journal_table.c.seq, journal_table.c.sale_id, journal_table.c.message)
        .where(journal_table.c.connection_id.in_(connection_ids), journal_table.c.seq > after)
        .order_by(journal_table.c.seq)
        .limit(limit)
    )
    return [StoredLine(row.seq, row.sale_id, _decrypted(tx, row.message)) for row in rows]


def lines_of_sales(tx: Transaction, sale_ids: Sequence[str]) -> list[StoredLine]:
    """All lines about some sales."""
    rows = tx.run(
        select(journal_table.c.seq, journal_table.c.sale_id, journal_table.c.message).where(
            journal_table.c.sale_id.in_(sale_ids)
        )
    )
    return [StoredLine(row.seq, row.sale_id, _decrypted(tx, row.message)) for row in rows]


def masked_lines(stored: Sequence[StoredLine], traces: Traces, cards: Collection[str]) -> list[StoredLine]:
    """Those lines that show a person, with names masked, and the last digits of these cards in lines about sales."""
    found: list[StoredLine] = []
    for line in stored:
        masked = _masked(Message.restored(line.text), traces, cards if line.sale_id is not None else ()).stored()
        if masked != line.text:
            found.append(StoredLine(line.seq, line.sale_id, masked))
    return found


def replace_lines(tx: Transaction, lines: Sequence[StoredLine]) -> None:
    """Write lines anew, each in its place."""
    change = (
        journal_table.update().where(journal_table.c.seq == bindparam("seq_")).values(message=bindparam("message_"))
    )
    tx.run(change, [{"seq_": line.seq, "message_": stored_message(tx, Message.restored(line.text))} for line in lines])


def _masked(message: Message, traces: Traces, cards: Collection[str]) -> Message:
    params: dict[str, Any] = {}
    for name, value in message.params.items():
        if isinstance(value, Message):
            params[name] = _masked(value, traces, cards)
        elif name == "card" and value in cards:
            params[name] = MASKED_CARD
        else:
            params[name] = traces.masked(value) if isinstance(value, str) else value
    return Message(traces.masked(message.id), params)
