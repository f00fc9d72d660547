"""The journal, what happened in plain words later, and what was received but could not be understood.

Owns both tables; wording is done when read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, func, literal, not_, or_, select

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.clock import HOUR
from connectors.domain.connection import Connection
from connectors.domain.person import MASKED_CARD, Traces
from connectors.store.engine import Transaction
from connectors.store.schema import journal_table, kept_body_table, kept_table, sale_table, sale_version_table

_LONGEST_REASON = 4000
_LOOKED_BACK = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One line: `at` in UTC microseconds."""

    seq: int
    at: int
    receipt_id: str | None
    message: Message
    sale_id: str | None = None
    by: str | None = None


def stored(tx: Transaction, message: Message) -> str:
    """A line's message as it is kept: JSON text, encrypted where it names a redeem code."""
    text = message.stored()
    names_code = message.id == "sale.redeems" or message.id.endswith(".voucher_redeemed")
    return tx.vault.encrypt(text) if names_code else text


def _opened_text(tx: Transaction, text: str) -> str:
    return text if text.startswith("[") else tx.vault.decrypt(text)


def _restored(tx: Transaction, text: str) -> Message:
    return Message.restored(_opened_text(tx, text))


def insert_lines(tx: Transaction, lines: Sequence[dict[str, Any]]) -> None:
    tx.run(journal_table.insert(), lines)
    tx.wake.add("journal")


def note(
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
                "message": stored(tx, message),
                "by": tx.by,
            }
        ],
    )


def last(tx: Transaction, connection_id: str) -> int:
    """The sequence number of a connection's newest line; 0 where there is none."""
    newest = (
        select(journal_table.c.seq)
        .where(journal_table.c.connection_id == connection_id)
        .order_by(journal_table.c.seq.desc())
    )
    return tx.run(newest.limit(1)).scalar() or 0


def of_sale(tx: Transaction, sale_id: str, limit: int = 200) -> list[Line]:
    """The first `limit` lines about a sale, oldest first."""
    rows = tx.run(
        select(journal_table).where(journal_table.c.sale_id == sale_id).order_by(journal_table.c.seq).limit(limit)
    )
    return [_line(tx, row) for row in rows]


def _line(tx: Transaction, row: Any) -> Line:
    return Line(row.seq, row.at, row.receipt_id, _restored(tx, row.message), row.sale_id, row.by)


def lines(
    tx: Transaction, connection_id: str, *, after: int = 0, before: int | None = None, limit: int = 200
) -> list[Line]:
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


class Origin(StrEnum):
    """What a kept body is: a whole hook, a receipt as it was read of a till, or a sale that could not be taken in."""

    hook = "hook"
    read = "read"
    sale = "sale"


def keep(
    tx: Transaction,
    connection_id: str,
    receipt_id: str | None,
    body: bytes,
    reason: BadPayload,
    origin: Origin,
    *,
    at: int | None = None,
) -> bool:
    """Keep what could not be understood, encrypted; whether it is new (the same body again is not).

    However many receipts of one body cannot be read, it is kept once. `at` is when it arrived (UTC microseconds), where
    that is not now.
    """
    text = body.decode("latin-1")  # any bytes, there and back
    content = tx.vault.hash("kept body", connection_id, text)
    values = {
        "id": _kept_id(tx, connection_id, receipt_id, body),
        "connection_id": connection_id,
        "receipt_id": receipt_id,
        "at": tx.now if at is None else at,
        "place": reason.where[:200],
        "why": _kept_reason(reason),
        "body": "",
        "source": origin.value,
        "content": content,
    }
    if tx.run(tx.insert(kept_table).values(values).on_conflict_do_nothing()).rowcount == 0:
        return False
    # of 500 receipts in one body, 499 find it kept: it is encrypted once
    touched = tx.run(kept_body_table.update().where(kept_body_table.c.id == content).values(size=len(body)))
    if touched.rowcount == 0:
        row = {"id": content, "connection_id": connection_id, "size": len(body), "body": tx.vault.encrypt(text)}
        insert = tx.insert(kept_body_table).values(row)  # another writer may be as quick
        tx.run(insert.on_conflict_do_update(index_elements=[kept_body_table.c.id], set_={"size": len(body)}))
        _prune(tx, connection_id)
    return True


def _kept_id(tx: Transaction, connection_id: str, receipt_id: str | None, body: bytes) -> str:
    return tx.vault.hash("kept", connection_id, receipt_id or "", body.decode("latin-1"))


def _kept_reason(reason: BadPayload) -> str:
    stored = reason.said.stored()
    return stored if len(stored) <= _LONGEST_REASON else Message(reason.why[:500]).stored()


def _prune(tx: Transaction, connection_id: str) -> None:
    """Bounded in number and size, the oldest first to go; age is the sweep's."""
    mine = kept_table.c.connection_id == connection_id
    number = tx.run(select(func.count()).select_from(kept_table).where(mine)).scalar_one()
    if number > tx.quotas.kept:
        oldest = select(kept_table.c.id).where(mine).order_by(kept_table.c.at).limit(number - tx.quotas.kept)
        tx.run(delete(kept_table).where(kept_table.c.id.in_(oldest)))
        _tell_full(tx, connection_id)
    _forget_bodies(tx, kept_body_table.c.connection_id == connection_id)
    bodies = (
        select(kept_body_table.c.id, kept_body_table.c.size)
        .join(kept_table, kept_table.c.content == kept_body_table.c.id)
        .where(kept_body_table.c.connection_id == connection_id)
        .group_by(kept_body_table.c.id, kept_body_table.c.size)
        .order_by(func.max(kept_table.c.at).desc())
    )
    size, old = 0, []
    for row in tx.run(bodies):
        size += row.size
        if size > tx.quotas.kept_bytes:
            old.append(row.id)
    if old:
        tx.run(delete(kept_table).where(mine, kept_table.c.content.in_(old)))
        _forget_bodies(tx, kept_body_table.c.connection_id == connection_id)
        _tell_full(tx, connection_id)


def _tell_full(tx: Transaction, connection_id: str) -> None:
    """Say that the oldest of what could not be read went to make room; the same again is said an hour later."""
    recent = lines(tx, connection_id, limit=_LOOKED_BACK)
    if any(line.message.id == "hook.kept_full" and line.at > tx.now - HOUR for line in recent):
        return
    note(tx, connection_id, Message("hook.kept_full"))


def _forget_bodies(tx: Transaction, *which: ColumnElement[bool]) -> None:
    """Bodies of which nothing is kept any more go."""
    wanted = (
        select(kept_table.c.id).where(kept_table.c.content == kept_body_table.c.id).correlate(kept_body_table).exists()
    )
    tx.run(delete(kept_body_table).where(*which, not_(wanted)))


def sweep_bodies(tx: Transaction, before: int, limit: int) -> int:
    """Delete what was kept before a moment and could not be read, at most so many rows; how many that were."""
    old = tx.run(
        select(kept_table.c.id, kept_table.c.content)
        .where(kept_table.c.at < before)
        .order_by(kept_table.c.at)
        .limit(limit)
    ).all()
    if old:
        tx.run(delete(kept_table).where(kept_table.c.id.in_([row.id for row in old])))
        _forget_bodies(tx, kept_body_table.c.id.in_([row.content for row in old if row.content]))
    return len(old)


def sweep_lines(tx: Transaction, before: int, limit: int) -> int:
    """Delete the oldest lines, those written before a moment, at most so many; how many that were."""
    oldest = tx.run(select(journal_table.c.seq, journal_table.c.at).order_by(journal_table.c.seq).limit(limit)).all()
    old = [row.seq for row in oldest if row.at < before]
    if old:
        tx.run(journal_table.delete().where(journal_table.c.seq.in_(old)))
    return len(old)


@dataclass(frozen=True, slots=True)
class Kept:
    """What could not be understood: `where` in it and `why`, and when it arrived (UTC microseconds)."""

    id: str
    receipt_id: str | None
    at: int
    where: str
    why: Message
    origin: Origin
    body: bytes = field(default=b"", repr=False)


def _kept(row: Any, body: bytes = b"") -> Kept:
    return Kept(row.id, row.receipt_id, row.at, row.place, _reason(row.why), Origin(row.source), body)


def _reason(text: str) -> Message:
    """Why, as it is kept; reasons of an older version are plain text."""
    try:
        return Message.restored(text)
    except (ValueError, TypeError, AttributeError):
        return Message(text)


_REASON = (
    kept_table.c.id,
    kept_table.c.receipt_id,
    kept_table.c.at,
    kept_table.c.place,
    kept_table.c.why,
    kept_table.c.source,
)
_WITH_BODY = (*_REASON, kept_table.c.content, kept_table.c.body)


def kept_bodies(tx: Transaction, connection_id: str, ids: Sequence[str] | None = None) -> list[Kept]:
    """What was kept, with its bodies, oldest first: all of it, or some ids and whatever came in the same body."""
    mine = [kept_table.c.connection_id == connection_id]
    if ids is not None:
        together = select(kept_table.c.content).where(kept_table.c.id.in_(ids), *mine)
        mine.append(
            or_(kept_table.c.id.in_(ids), and_(kept_table.c.source == Origin.hook, kept_table.c.content.in_(together)))
        )
    rows = tx.run(select(*_WITH_BODY).where(*mine).order_by(kept_table.c.at, kept_table.c.id)).all()
    return _with_bodies(tx, rows)


def newest_hooks(tx: Transaction, connection_id: str, limit: int, most_bytes: int) -> list[bytes]:
    """The last hooks that could not be understood, each once, newest first, and no more than fit."""
    newest = (
        select(kept_body_table.c.body, kept_body_table.c.size)
        .join(kept_table, kept_table.c.content == kept_body_table.c.id)
        .where(kept_table.c.connection_id == connection_id, kept_table.c.source == Origin.hook)
        .group_by(kept_body_table.c.id, kept_body_table.c.body, kept_body_table.c.size)
        .order_by(func.max(kept_table.c.at).desc())
        .limit(limit)
    )
    found: list[bytes] = []
    left = most_bytes
    for row in tx.run(newest):
        left -= row.size
        if left < 0:
            break
        found.append(_opened(tx, row.body))
    return found


def _with_bodies(tx: Transaction, rows: Sequence[Any]) -> list[Kept]:
    wanted = {row.content for row in rows if row.content}
    bodies = {
        row.id: _opened(tx, row.body)
        for row in tx.run(select(kept_body_table.c.id, kept_body_table.c.body).where(kept_body_table.c.id.in_(wanted)))
    }
    return [
        # an older version kept each body beside its reason
        _kept(row, bodies[row.content] if row.content else _opened(tx, row.body))
        for row in rows
        if not row.content or row.content in bodies
    ]


def _opened(tx: Transaction, kept_text: str) -> bytes:
    """A body, as it came."""
    return tx.vault.decrypt(kept_text).encode("latin-1")


def arrived_before(tx: Transaction, connection_id: str, sales: Sequence[Sale], body: bytes) -> dict[str, int]:
    """Of which receipts this very body, or what was read in it, was kept before: receipt → when it arrived first."""
    receipts = [one.receipt_id for one in sales]
    names = {_kept_id(tx, connection_id, one, body): one for one in receipts}
    names |= {
        _kept_id(tx, connection_id, one.receipt_id, one.model_dump_json().encode()): one.receipt_id for one in sales
    }
    whole = _kept_id(tx, connection_id, None, body)
    rows = tx.run(select(kept_table.c.id, kept_table.c.at).where(kept_table.c.id.in_([*names, whole])))
    found = {row.id: row.at for row in rows}
    if whole in found:
        return dict.fromkeys(receipts, found[whole])
    return {names[one]: at for one, at in found.items()}


def kept_reasons(tx: Transaction, connection_id: str) -> list[Kept]:
    """What could not be understood, without its bodies, newest first."""
    mine = select(*_REASON).where(kept_table.c.connection_id == connection_id)
    return [_kept(row) for row in tx.run(mine.order_by(kept_table.c.at.desc(), kept_table.c.id))]


def unread(tx: Transaction, one: Connection, limit: int) -> list[Kept]:
    """What waits for a person, newest first: not what a later reading of the till itself has overtaken."""
    waits = select(*_REASON).where(*_waits(one))
    return [_kept(row) for row in tx.run(waits.order_by(kept_table.c.at.desc(), kept_table.c.id).limit(limit))]


def unread_ids(tx: Transaction, one: Connection) -> list[str]:
    """All that waits, in the order in which it arrived."""
    return list(
        tx.run(select(kept_table.c.id).where(*_waits(one)).order_by(kept_table.c.at, kept_table.c.id)).scalars()
    )


def _waits(one: Connection) -> tuple[ColumnElement[bool], ...]:
    return waiting(literal(one.id), literal(one.business_id), literal(one.connector), literal(one.account.id))


def waiting(
    connection_id: ColumnElement[Any],
    business_id: ColumnElement[Any],
    connector: ColumnElement[Any],
    account_id: ColumnElement[Any],
) -> tuple[ColumnElement[bool], ...]:
    """What of `kept` waits for a person, for the connection that these columns (or values) say.

    Only a reading of the till itself overtakes: what was pushed later may be older, or lack a refund.
    """
    overtaken = (
        select(sale_table.c.id)
        .join(
            sale_version_table,
            (sale_version_table.c.sale_id == sale_table.c.id) & (sale_version_table.c.number == sale_table.c.versions),
        )
        .where(
            sale_table.c.business_id == business_id,
            sale_table.c.connector == connector,
            sale_table.c.account_id == account_id,
            sale_table.c.receipt_id == kept_table.c.receipt_id,
            sale_version_table.c.ticket.is_not(None),
            sale_version_table.c.seen_at > kept_table.c.at,
        )
        .correlate_except(sale_table, sale_version_table)
        .exists()
    )
    return kept_table.c.connection_id == connection_id, not_(overtaken)


def let_go(tx: Transaction, connection_id: str, ids: Sequence[str]) -> int:
    """What was understood after all, or is not wanted, is kept no longer; how many there were."""
    mine = (kept_table.c.connection_id == connection_id) & kept_table.c.id.in_(ids)
    contents = [one for one in tx.run(select(kept_table.c.content).where(mine)).scalars() if one]
    number = tx.run(kept_table.delete().where(mine)).rowcount
    if contents:
        _forget_bodies(tx, kept_body_table.c.id.in_(contents))
    return number


def still_unread(
    tx: Transaction,
    connection_id: str,
    body: bytes,
    ids: Sequence[str],
    wrong: Sequence[tuple[str | None, BadPayload]],
    at: int,
) -> bool:
    """A hook was tried again: its rows go, but for the receipts that are still `wrong`; whether they were there."""
    names = {_kept_id(tx, connection_id, receipt, body): (receipt, reason) for receipt, reason in wrong}
    there = set(
        tx.run(
            select(kept_table.c.id).where(kept_table.c.connection_id == connection_id, kept_table.c.id.in_(ids))
        ).scalars()
    )
    for name, (receipt, reason) in names.items():
        if name in there:
            said = {"place": reason.where[:200], "why": _kept_reason(reason)}
            tx.run(kept_table.update().where(kept_table.c.id == name).values(said))
        else:
            keep(tx, connection_id, receipt, body, reason, Origin.hook, at=at)
    let_go(tx, connection_id, sorted(there - names.keys()))
    return bool(there)


# --- erasing customers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredBody:
    """What could not be read, opened; `id` is the body's, or in older databases the row's."""

    id: str
    connection_id: str
    text: str = field(repr=False)


def bodies_after(tx: Transaction, connection_ids: Sequence[str], after: str, limit: int) -> list[StoredBody]:
    """The next kept bodies of some connections, in the order of their ids."""
    rows = tx.run(
        select(kept_body_table.c.id, kept_body_table.c.connection_id, kept_body_table.c.body)
        .where(kept_body_table.c.connection_id.in_(connection_ids), kept_body_table.c.id > after)
        .order_by(kept_body_table.c.id)
        .limit(limit)
    )
    return [StoredBody(row.id, row.connection_id, tx.vault.decrypt(row.body)) for row in rows]


def old_bodies_after(tx: Transaction, connection_ids: Sequence[str], after: str, limit: int) -> list[StoredBody]:
    """The same of what an older version kept beside its reason."""
    rows = tx.run(
        select(kept_table.c.id, kept_table.c.connection_id, kept_table.c.body)
        .where(kept_table.c.connection_id.in_(connection_ids), kept_table.c.content.is_(None), kept_table.c.id > after)
        .order_by(kept_table.c.id)
        .limit(limit)
    )
    return [StoredBody(row.id, row.connection_id, tx.vault.decrypt(row.body)) for row in rows]


def delete_bodies(tx: Transaction, ids: Sequence[str]) -> None:
    """Delete kept bodies, with the reasons why they could not be read."""
    tx.run(delete(kept_table).where(or_(kept_table.c.content.in_(ids), kept_table.c.id.in_(ids))))
    tx.run(delete(kept_body_table).where(kept_body_table.c.id.in_(ids)))


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
    return [StoredLine(row.seq, row.sale_id, _opened_text(tx, row.message)) for row in rows]


def lines_of_sales(tx: Transaction, sale_ids: Sequence[str]) -> list[StoredLine]:
    """All lines about some sales."""
    rows = tx.run(
        select(journal_table.c.seq, journal_table.c.sale_id, journal_table.c.message).where(
            journal_table.c.sale_id.in_(sale_ids)
        )
    )
    return [StoredLine(row.seq, row.sale_id, _opened_text(tx, row.message)) for row in rows]


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
    tx.run(change, [{"seq_": line.seq, "message_": stored(tx, Message.restored(line.text))} for line in lines])


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
