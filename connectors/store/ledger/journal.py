"""The journal: what happened to connections and receipts, as message ids and parameters.

Owns the table `journal`; lines are worded when they are read, in the reader's language, by whoever shows them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select

from connector_sdk.messages import Message
from connectors.domain.events import Wakeup
from connectors.domain.person import MASKED_CARD, PersonMatcher
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow, in_parts
from connectors.store.schema import journal_table

_INSERT = journal_table.insert()


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One line: `at` in UTC microseconds, `by` the person who asked for the change, if any."""

    seq: int
    at: int
    receipt_id: str | None
    message: Message
    sale_id: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line to write, about a connection or one of its receipts (which may not be in the ledger)."""

    connection_id: str
    message: Message = field(repr=False)
    receipt_id: str | None = None
    sale_id: str | None = None


def write_lines(tx: Transaction, lines: Sequence[NewLine]) -> None:
    """Write lines as of now, in the name of whoever the transaction is made for."""
    if not lines:
        return
    rows = [
        {
            "connection_id": line.connection_id,
            "sale_id": line.sale_id,
            "receipt_id": line.receipt_id,
            "at": tx.now,
            "message": _encoded(tx, line.message),
            "by": tx.by,
        }
        for line in lines
    ]
    tx.run_each(_INSERT, rows)
    tx.wakeups.add(Wakeup.journal)


def write(
    tx: Transaction,
    connection_id: str,
    message: Message,
    receipt_id: str | None = None,
    *,
    sale_id: str | None = None,
) -> None:
    """Write one line."""
    write_lines(tx, [NewLine(connection_id, message, receipt_id, sale_id)])


def _encoded(tx: Transaction, message: Message) -> str:
    """Encode a message as JSON text, encrypted where it names a redeem code: whoever reads a code can use it."""
    text = message.stored()
    names_code = message.id == "sale.redeems" or message.id.endswith(".voucher_redeemed")
    return tx.vault.encrypt(text) if names_code else text


def _decrypted(tx: Transaction, text: str) -> str:
    # a message in the clear is a JSON list; encrypted text begins with its key's id
    return text if text.startswith("[") else tx.vault.decrypt(text)


def newest_seq(tx: Transaction, connection_id: str) -> int:
    """Return the sequence number of a connection's newest line; 0 where there is none."""
    newest = (
        select(journal_table.c.seq)
        .where(journal_table.c.connection_id == connection_id)
        .order_by(journal_table.c.seq.desc())
    )
    return tx.run(newest.limit(1)).scalar() or 0


def of_sale(tx: Transaction, sale_id: str, limit: int = 200) -> list[JournalLine]:
    """Read the first `limit` lines about a sale, oldest first."""
    query = select(journal_table).where(journal_table.c.sale_id == sale_id).order_by(journal_table.c.seq)
    return [_line(tx, row) for row in tx.run(query.limit(limit))]


def newest_of_sale(tx: Transaction, sale_id: str, limit: int = 200) -> list[JournalLine]:
    """Read the last `limit` lines about a sale, oldest first."""
    query = select(journal_table).where(journal_table.c.sale_id == sale_id).order_by(journal_table.c.seq.desc())
    return [_line(tx, row) for row in reversed(tx.run(query.limit(limit)).all())]


def of_connection(
    tx: Transaction, connection_id: str, *, after: int = 0, before: int | None = None, limit: int = 200
) -> list[JournalLine]:
    """Read the last `limit` lines of a connection after a sequence number (and before another), oldest first."""
    # newest first with a limit, then turned round: the last lines are wanted, in the order in which they happened
    query = select(journal_table).where(
        journal_table.c.connection_id == connection_id,
        journal_table.c.seq > after,
    )
    if before is not None:
        query = query.where(journal_table.c.seq < before)
    rows = tx.run(query.order_by(journal_table.c.seq.desc()).limit(limit)).all()
    return [_line(tx, row) for row in reversed(rows)]


def _line(tx: Transaction, row: AnyRow) -> JournalLine:
    message = Message.restored(_decrypted(tx, row.message))
    return JournalLine(row.seq, row.at, row.receipt_id, message, row.sale_id, row.by)


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete the oldest lines, those written before a moment, at most `limit`; return how many."""
    # by sequence number, which is the primary key: the oldest lines are read without going through the table
    oldest = tx.run(select(journal_table.c.seq, journal_table.c.at).order_by(journal_table.c.seq).limit(limit)).all()
    expired = [row.seq for row in oldest if row.at < before]
    if expired:
        tx.run(journal_table.delete().where(journal_table.c.seq.in_(expired)))
    return len(expired)


# Erasing customers: lines are masked where they stand, so that what happened to a receipt can still be read.


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line's message as JSON text in the clear."""

    seq: int
    sale_id: str | None
    text: str = field(repr=False)


_STORED = select(journal_table.c.seq, journal_table.c.sale_id, journal_table.c.message)


def lines_after(tx: Transaction, connection_ids: Sequence[str], after: int, limit: int) -> list[StoredLine]:
    """Read the next lines of some connections, oldest first."""
    page = _STORED.where(journal_table.c.connection_id.in_(connection_ids), journal_table.c.seq > after)
    rows = tx.run(page.order_by(journal_table.c.seq).limit(limit))
    return [StoredLine(row.seq, row.sale_id, _decrypted(tx, row.message)) for row in rows]


def lines_of_sales(tx: Transaction, sale_ids: Sequence[str]) -> list[StoredLine]:
    """Read all lines about some sales."""
    rows = tx.run(_STORED.where(journal_table.c.sale_id.in_(sale_ids)))
    return [StoredLine(row.seq, row.sale_id, _decrypted(tx, row.message)) for row in rows]


def sales_with_lines(tx: Transaction, sale_ids: Sequence[str]) -> set[str]:
    """Return those of these sales of which there is a line."""
    told = select(journal_table.c.sale_id).distinct()
    return {
        sale_id
        for part in in_parts(sale_ids)
        for sale_id in tx.run(told.where(journal_table.c.sale_id.in_(part))).scalars()
    }


def masked_lines(lines: Sequence[StoredLine], person: PersonMatcher, card_hints: Collection[str]) -> list[StoredLine]:
    """Return the lines that show a person, with names masked, and in lines about sales the digits of these cards."""
    changed: list[StoredLine] = []
    for line in lines:
        hints = card_hints if line.sale_id is not None else ()
        # messages nest: a reason inside a line may hold a name as well
        masked = _masked(Message.restored(line.text), person, hints).stored()
        if masked != line.text:
            changed.append(StoredLine(line.seq, line.sale_id, masked))
    return changed


def _masked(message: Message, person: PersonMatcher, card_hints: Collection[str]) -> Message:
    params: dict[str, object] = {}
    for name, value in message.params.items():
        if isinstance(value, Message):
            params[name] = _masked(value, person, card_hints)
        elif name == "card" and value in card_hints:
            params[name] = MASKED_CARD
        else:
            params[name] = person.mask(value) if isinstance(value, str) else value
    return Message(person.mask(message.id), params)


def replace_lines(tx: Transaction, lines: Sequence[StoredLine]) -> None:
    """Write lines anew, each in its place."""
    change = (
        journal_table.update().where(journal_table.c.seq == bindparam("seq_")).values(message=bindparam("message_"))
    )
    tx.run(change, [{"seq_": line.seq, "message_": _encoded(tx, Message.restored(line.text))} for line in lines])
