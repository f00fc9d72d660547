"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, literal, not_, or_, select

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.clock import HOUR
from connectors.domain.connection import Connection
from connectors.store.engine import Transaction
from connectors.store.ledger.journal import of_connection, write
from connectors.store.schema import kept_body_table, kept_table, sale_table, sale_version_table

_LONGEST_REASON = 4000


_LINES_LOOKED_AT = 200


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
        "id": _row_id(tx, connection_id, receipt_id, body),
        "connection_id": connection_id,
        "receipt_id": receipt_id,
        "at": tx.now if at is None else at,
        "place": reason.where[:200],
        "why": _stored_reason(reason),
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


def _row_id(tx: Transaction, connection_id: str, receipt_id: str | None, body: bytes) -> str:
    return tx.vault.hash("kept", connection_id, receipt_id or "", body.decode("latin-1"))


def _stored_reason(reason: BadPayload) -> str:
    stored = reason.said.stored()
    return stored if len(stored) <= _LONGEST_REASON else Message(reason.why[:500]).stored()


def _prune(tx: Transaction, connection_id: str) -> None:
    """Bounded in number and size, the oldest first to go; age is the sweep's."""
    mine = kept_table.c.connection_id == connection_id
    number = tx.run(select(func.count()).select_from(kept_table).where(mine)).scalar_one()
    if number > tx.quotas.kept:
        oldest = select(kept_table.c.id).where(mine).order_by(kept_table.c.at).limit(number - tx.quotas.kept)
        tx.run(delete(kept_table).where(kept_table.c.id.in_(oldest)))
        _journal_full(tx, connection_id)
    _delete_unused_bodies(tx, kept_body_table.c.connection_id == connection_id)
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
        _delete_unused_bodies(tx, kept_body_table.c.connection_id == connection_id)
        _journal_full(tx, connection_id)


def _journal_full(tx: Transaction, connection_id: str) -> None:
    """Say that the oldest of what could not be read went to make room; the same again is said an hour later."""
    recent = of_connection(tx, connection_id, limit=_LINES_LOOKED_AT)
    if any(line.message.id == "hook.kept_full" and line.at > tx.now - HOUR for line in recent):
        return
    write(tx, connection_id, Message("hook.kept_full"))


def _delete_unused_bodies(tx: Transaction, *which: ColumnElement[bool]) -> None:
    """Bodies of which nothing is kept any more go."""
    wanted = (
        select(kept_table.c.id).where(kept_table.c.content == kept_body_table.c.id).correlate(kept_body_table).exists()
    )
    tx.run(delete(kept_body_table).where(*which, not_(wanted)))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete what was kept before a moment and could not be read, at most so many rows; how many that were."""
    old = tx.run(
        select(kept_table.c.id, kept_table.c.content)
        .where(kept_table.c.at < before)
        .order_by(kept_table.c.at)
        .limit(limit)
    ).all()
    if old:
        tx.run(delete(kept_table).where(kept_table.c.id.in_([row.id for row in old])))
        _delete_unused_bodies(tx, kept_body_table.c.id.in_([row.content for row in old if row.content]))
    return len(old)


@dataclass(frozen=True, slots=True)
class UnreadEntry:
    """What could not be understood: `where` in it and `why`, and when it arrived (UTC microseconds)."""

    id: str
    receipt_id: str | None
    at: int
    where: str
    why: Message
    origin: Origin
    body: bytes = field(default=b"", repr=False)


def _entry(row: Any, body: bytes = b"") -> UnreadEntry:
    return UnreadEntry(row.id, row.receipt_id, row.at, row.place, _reason(row.why), Origin(row.source), body)


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


def with_bodies(tx: Transaction, connection_id: str, ids: Sequence[str] | None = None) -> list[UnreadEntry]:
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
        found.append(_decrypted_body(tx, row.body))
    return found


def _with_bodies(tx: Transaction, rows: Sequence[Any]) -> list[UnreadEntry]:
    wanted = {row.content for row in rows if row.content}
    bodies = {
        row.id: _decrypted_body(tx, row.body)
        for row in tx.run(select(kept_body_table.c.id, kept_body_table.c.body).where(kept_body_table.c.id.in_(wanted)))
    }
    return [
        # an older version kept each body beside its reason
        _entry(row, bodies[row.content] if row.content else _decrypted_body(tx, row.body))
        for row in rows
        if not row.content or row.content in bodies
    ]


def _decrypted_body(tx: Transaction, kept_text: str) -> bytes:
    """A body, as it came."""
    return tx.vault.decrypt(kept_text).encode("latin-1")


def first_arrivals(tx: Transaction, connection_id: str, sales: Sequence[Sale], body: bytes) -> dict[str, int]:
    """Of which receipts this very body, or what was read in it, was kept before: receipt → when it arrived first."""
    receipts = [one.receipt_id for one in sales]
    names = {_row_id(tx, connection_id, one, body): one for one in receipts}
    names |= {
        _row_id(tx, connection_id, one.receipt_id, one.model_dump_json().encode()): one.receipt_id for one in sales
    }
    whole = _row_id(tx, connection_id, None, body)
    rows = tx.run(select(kept_table.c.id, kept_table.c.at).where(kept_table.c.id.in_([*names, whole])))
    found = {row.id: row.at for row in rows}
    if whole in found:
        return dict.fromkeys(receipts, found[whole])
    return {names[one]: at for one, at in found.items()}


def without_bodies(tx: Transaction, connection_id: str) -> list[UnreadEntry]:
    """What could not be understood, without its bodies, newest first."""
    mine = select(*_REASON).where(kept_table.c.connection_id == connection_id)
    return [_entry(row) for row in tx.run(mine.order_by(kept_table.c.at.desc(), kept_table.c.id))]


def waiting(tx: Transaction, one: Connection, limit: int) -> list[UnreadEntry]:
    """What waits for a person, newest first: not what a later reading of the till itself has overtaken."""
    waits = select(*_REASON).where(*_waits_for_person(one))
    return [_entry(row) for row in tx.run(waits.order_by(kept_table.c.at.desc(), kept_table.c.id).limit(limit))]


def waiting_ids(tx: Transaction, one: Connection) -> list[str]:
    """All that waits, in the order in which it arrived."""
    return list(
        tx.run(
            select(kept_table.c.id).where(*_waits_for_person(one)).order_by(kept_table.c.at, kept_table.c.id)
        ).scalars()
    )


def _waits_for_person(one: Connection) -> tuple[ColumnElement[bool], ...]:
    return waits_for_person(literal(one.id), literal(one.business_id), literal(one.connector), literal(one.account.id))


def waits_for_person(
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


def remove(tx: Transaction, connection_id: str, ids: Sequence[str]) -> int:
    """What was understood after all, or is not wanted, is kept no longer; how many there were."""
    mine = (kept_table.c.connection_id == connection_id) & kept_table.c.id.in_(ids)
    contents = [one for one in tx.run(select(kept_table.c.content).where(mine)).scalars() if one]
    number = tx.run(kept_table.delete().where(mine)).rowcount
    if contents:
        _delete_unused_bodies(tx, kept_body_table.c.id.in_(contents))
    return number


def replace_after_retry(
    tx: Transaction,
    connection_id: str,
    body: bytes,
    ids: Sequence[str],
    wrong: Sequence[tuple[str | None, BadPayload]],
    at: int,
) -> bool:
    """A hook was tried again: its rows go, but for the receipts that are still `wrong`; whether they were there."""
    names = {_row_id(tx, connection_id, receipt, body): (receipt, reason) for receipt, reason in wrong}
    there = set(
        tx.run(
            select(kept_table.c.id).where(kept_table.c.connection_id == connection_id, kept_table.c.id.in_(ids))
        ).scalars()
    )
    for name, (receipt, reason) in names.items():
        if name in there:
            said = {"place": reason.where[:200], "why": _stored_reason(reason)}
            tx.run(kept_table.update().where(kept_table.c.id == name).values(said))
        else:
            keep(tx, connection_id, receipt, body, reason, Origin.hook, at=at)
    remove(tx, connection_id, sorted(there - names.keys()))
    return bool(there)


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


def bodies_of_former_format_after(
    tx: Transaction, connection_ids: Sequence[str], after: str, limit: int
) -> list[StoredBody]:
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
