"""What could not be read: whole hooks, receipts as they were read of a till, sales that could not be taken in.

Owns the tables `kept` (a row for each receipt, and why) and `kept_body` (each body once, encrypted), and their bounds
in number and size. Reading a body again is `connectors.sync.unread_retries`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, delete, func, literal, not_, or_, select

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.clock import HOUR
from connectors.domain.connection import Connection
from connectors.store.engine import Transaction
from connectors.store.ledger import journal
from connectors.store.query_parts import AnyRow
from connectors.store.schema import kept_body_table, kept_table, sale_table, sale_version_table

_LONGEST_REASON = 4000
_LINES_LOOKED_AT = 200
_ENCODING = "latin-1"
"""Any bytes, as text of the same length, and back."""


class Origin(StrEnum):
    """Where a body is from; stored with each row."""

    hook = "hook"
    """A whole hook, of which this receipt (or all of it) could not be read."""
    read = "read"
    """One receipt, as it was read of the till."""
    sale = "sale"
    """A sale that was read well, and could not be taken in."""


@dataclass(frozen=True, slots=True)
class UnreadEntry:
    """A receipt (or a whole hook) that could not be read: `where` in it, `why`, and when it arrived (microseconds)."""

    id: str
    receipt_id: str | None
    at: int
    where: str
    why: Message
    origin: Origin
    body: bytes = field(default=b"", repr=False)


class StillUnread(NamedTuple):
    """A receipt that a retry could not read either (`None`: the whole hook), and why."""

    receipt_id: str | None
    reason: BadPayload


# Keeping


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
    """Keep what could not be read; say whether it is new (the same body again is not).

    However many receipts of one body cannot be read, the body is stored once. `at` is when it arrived (UTC
    microseconds), where that is not now.
    """
    # by content: sent again by a till that got no answer, it is the same body
    body_id = tx.vault.hash("kept body", connection_id, body.decode(_ENCODING))
    row = {
        "id": _row_id(tx, connection_id, receipt_id, body),
        "connection_id": connection_id,
        "receipt_id": receipt_id,
        "at": tx.now if at is None else at,
        "place": reason.where[:200],
        "why": _stored_reason(reason),
        "body": "",
        "source": origin.value,
        "content": body_id,
    }
    # known: neither stored nor journalled again, however often the till repeats it
    if tx.run(tx.insert(kept_table).values(row).on_conflict_do_nothing()).rowcount == 0:
        return False
    _store_body(tx, connection_id, body_id, body)
    return True


def _store_body(tx: Transaction, connection_id: str, body_id: str, body: bytes) -> None:
    # of 500 receipts in one body, 499 find it stored: it is encrypted once
    stored = tx.run(kept_body_table.update().where(kept_body_table.c.id == body_id).values(size=len(body)))
    if stored.rowcount:
        return
    encrypted = tx.vault.encrypt(body.decode(_ENCODING))
    row = {"id": body_id, "connection_id": connection_id, "size": len(body), "body": encrypted}
    insert = tx.insert(kept_body_table).values(row)  # another writer may be as quick
    tx.run(insert.on_conflict_do_update(index_elements=[kept_body_table.c.id], set_={"size": len(body)}))
    _prune(tx, connection_id)


def _row_id(tx: Transaction, connection_id: str, receipt_id: str | None, body: bytes) -> str:
    return tx.vault.hash("kept", connection_id, receipt_id or "", body.decode(_ENCODING))


def _stored_reason(reason: BadPayload) -> str:
    stored = reason.said.stored()
    # a plugin's reason may quote what it read: long ones are cut to their first words
    return stored if len(stored) <= _LONGEST_REASON else Message(reason.why[:500]).stored()


def _prune(tx: Transaction, connection_id: str) -> None:
    """Delete the oldest beyond the bounds in number and size, and say so; what is too old is `sweep`'s."""
    # by number, then by size: each bound is its own
    deleted = _prune_rows(tx, connection_id)
    _delete_unused_bodies(tx, kept_body_table.c.connection_id == connection_id)
    deleted += _prune_bodies(tx, connection_id)
    if deleted:
        _journal_full(tx, connection_id)


def _prune_rows(tx: Transaction, connection_id: str) -> int:
    of_connection = kept_table.c.connection_id == connection_id
    number = tx.run(select(func.count()).select_from(kept_table).where(of_connection)).scalar_one()
    surplus = int(number) - tx.quotas.unread
    if surplus > 0:
        oldest = select(kept_table.c.id).where(of_connection).order_by(kept_table.c.at).limit(surplus)
        tx.run(delete(kept_table).where(kept_table.c.id.in_(oldest)))
    return max(surplus, 0)


def _prune_bodies(tx: Transaction, connection_id: str) -> int:
    newest_first = (
        select(kept_body_table.c.id, kept_body_table.c.size)
        .join(kept_table, kept_table.c.content == kept_body_table.c.id)
        .where(kept_body_table.c.connection_id == connection_id)
        .group_by(kept_body_table.c.id, kept_body_table.c.size)
        .order_by(func.max(kept_table.c.at).desc())
    )
    size, surplus = 0, []
    # the newest stay: the oldest have been looked at longest
    for row in tx.run(newest_first):
        size += row.size
        if size > tx.quotas.unread_bytes:
            surplus.append(row.id)
    if surplus:
        of_connection = kept_table.c.connection_id == connection_id
        tx.run(delete(kept_table).where(of_connection, kept_table.c.content.in_(surplus)))
        _delete_unused_bodies(tx, kept_body_table.c.connection_id == connection_id)
    return len(surplus)


def _journal_full(tx: Transaction, connection_id: str) -> None:
    """Say that the oldest of what could not be read went to make room; at most once an hour."""
    recent = journal.of_connection(tx, connection_id, limit=_LINES_LOOKED_AT)
    if not any(line.message.id == "hook.kept_full" and line.at > tx.now - HOUR for line in recent):
        journal.write(tx, connection_id, Message("hook.kept_full"))


def _delete_unused_bodies(tx: Transaction, condition: ColumnElement[bool]) -> None:
    """Delete the bodies that a condition says and that no row names any more."""
    is_used = select(kept_table.c.id).where(kept_table.c.content == kept_body_table.c.id).correlate(kept_body_table)
    tx.run(delete(kept_body_table).where(condition, not_(is_used.exists())))


def remove(tx: Transaction, connection_id: str, ids: Sequence[str]) -> int:
    """Delete what was read after all, or is not wanted; return how many entries there were."""
    entries = (kept_table.c.connection_id == connection_id) & kept_table.c.id.in_(ids)
    body_ids = [body_id for body_id in tx.run(select(kept_table.c.content).where(entries)).scalars() if body_id]
    number = tx.run(kept_table.delete().where(entries)).rowcount
    if body_ids:
        _delete_unused_bodies(tx, kept_body_table.c.id.in_(body_ids))
    return number


def replace_after_retry(
    tx: Transaction,
    connection_id: str,
    body: bytes,
    ids: Sequence[str],
    unread: Sequence[StillUnread],
    at: int,
) -> bool:
    """Reprocess a stored hook's rows, keeping its arrival time: delete them but for what is still `unread`.

    `ids` are the rows as they were read before; say whether any of them was still there.
    """
    entries = (kept_table.c.connection_id == connection_id) & kept_table.c.id.in_(ids)
    present = set(tx.run(select(kept_table.c.id).where(entries)).scalars())
    still_unread = {_row_id(tx, connection_id, receipt_id, body): (receipt_id, reason) for receipt_id, reason in unread}
    for row_id, (receipt_id, reason) in still_unread.items():
        if row_id in present:
            columns = {"place": reason.where[:200], "why": _stored_reason(reason)}
            tx.run(kept_table.update().where(kept_table.c.id == row_id).values(columns))
        else:
            keep(tx, connection_id, receipt_id, body, reason, Origin.hook, at=at)
    remove(tx, connection_id, sorted(present - still_unread.keys()))
    return bool(present)


def move_all(tx: Transaction, former_ids: Sequence[str], connection_id: str) -> None:
    """Hand what could not be read over to the connection that adopts what removed ones left."""
    former = list(former_ids)
    entries, bodies = kept_table.c.connection_id.in_(former), kept_body_table.c.connection_id.in_(former)
    tx.run(kept_table.update().where(entries).values(connection_id=connection_id))
    tx.run(kept_body_table.update().where(bodies).values(connection_id=connection_id))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete what was kept before a moment, at most `limit` entries; return how many."""
    oldest = select(kept_table.c.id, kept_table.c.content).where(kept_table.c.at < before).order_by(kept_table.c.at)
    expired = tx.run(oldest.limit(limit)).all()
    if expired:
        tx.run(delete(kept_table).where(kept_table.c.id.in_([row.id for row in expired])))
        _delete_unused_bodies(tx, kept_body_table.c.id.in_([row.content for row in expired if row.content]))
    return len(expired)


# Reading

_ENTRY = (
    kept_table.c.id,
    kept_table.c.receipt_id,
    kept_table.c.at,
    kept_table.c.place,
    kept_table.c.why,
    kept_table.c.source,
)
_ENTRY_WITH_BODY = (*_ENTRY, kept_table.c.content, kept_table.c.body)


def _entry(row: AnyRow, body: bytes = b"") -> UnreadEntry:
    return UnreadEntry(row.id, row.receipt_id, row.at, row.place, _reason(row.why), Origin(row.source), body)


def _reason(text: str) -> Message:
    """Restore a reason; those of an older version are plain text."""
    try:
        return Message.restored(text)
    except (ValueError, TypeError, AttributeError):
        return Message(text)


def with_bodies(tx: Transaction, connection_id: str, ids: Sequence[str] | None = None) -> list[UnreadEntry]:
    """Read entries with their bodies, oldest first: all, or some ids and whatever came in the same hooks."""
    conditions: list[ColumnElement[bool]] = [kept_table.c.connection_id == connection_id]
    if ids is not None:
        bodies = select(kept_table.c.content).where(kept_table.c.id.in_(ids), *conditions)
        # one receipt of a hook is read again with the whole hook: only so is it known what else is in it
        same_hook = and_(kept_table.c.source == Origin.hook, kept_table.c.content.in_(bodies))
        conditions.append(or_(kept_table.c.id.in_(ids), same_hook))
    rows = tx.run(select(*_ENTRY_WITH_BODY).where(*conditions).order_by(kept_table.c.at, kept_table.c.id)).all()
    return _with_bodies(tx, rows)


def _with_bodies(tx: Transaction, rows: Sequence[AnyRow]) -> list[UnreadEntry]:
    body_ids = {row.content for row in rows if row.content}
    query = select(kept_body_table.c.id, kept_body_table.c.body).where(kept_body_table.c.id.in_(body_ids))
    bodies = {row.id: _decrypted_body(tx, row.body) for row in tx.run(query)}
    return [
        # an older version kept each body beside its reason
        _entry(row, bodies[row.content] if row.content else _decrypted_body(tx, row.body))
        for row in rows
        if not row.content or row.content in bodies
    ]


def newest_hooks(tx: Transaction, connection_id: str, limit: int, most_bytes: int) -> list[bytes]:
    """Read the last hooks that could not be read, each once, newest first, and no more than `most_bytes` in all."""
    newest = (
        select(kept_body_table.c.body, kept_body_table.c.size)
        .join(kept_table, kept_table.c.content == kept_body_table.c.id)
        .where(kept_table.c.connection_id == connection_id, kept_table.c.source == Origin.hook)
        .group_by(kept_body_table.c.id, kept_body_table.c.body, kept_body_table.c.size)
        .order_by(func.max(kept_table.c.at).desc())
        .limit(limit)
    )
    hooks: list[bytes] = []
    left = most_bytes
    for row in tx.run(newest):
        # the newest that fit: a large one ends the list, for what is older is less like what comes next
        left -= row.size
        if left < 0:
            break
        hooks.append(_decrypted_body(tx, row.body))
    return hooks


def _decrypted_body(tx: Transaction, text: str) -> bytes:
    return tx.vault.decrypt(text).encode(_ENCODING)


def first_arrivals(tx: Transaction, connection_id: str, sales: Sequence[Sale], body: bytes) -> dict[str, int]:
    """Map receipt id to when this body, or this sale of it, was first stored unread (UTC microseconds)."""
    receipts = {_row_id(tx, connection_id, sale.receipt_id, body): sale.receipt_id for sale in sales}
    # a sale that could not be taken in is kept by its own content, not by the hook's
    receipts |= {
        _row_id(tx, connection_id, sale.receipt_id, sale.model_dump_json().encode()): sale.receipt_id for sale in sales
    }
    whole = _row_id(tx, connection_id, None, body)
    query = select(kept_table.c.id, kept_table.c.at).where(kept_table.c.id.in_([*receipts, whole]))
    arrivals = {row.id: row.at for row in tx.run(query)}
    if whole in arrivals:
        return dict.fromkeys((sale.receipt_id for sale in sales), arrivals[whole])
    return {receipts[row_id]: at for row_id, at in arrivals.items()}


def without_bodies(tx: Transaction, connection_id: str) -> list[UnreadEntry]:
    """Read all entries of a connection without their bodies, newest first."""
    query = select(*_ENTRY).where(kept_table.c.connection_id == connection_id)
    return [_entry(row) for row in tx.run(query.order_by(kept_table.c.at.desc(), kept_table.c.id))]


def waiting(tx: Transaction, connection: Connection, limit: int) -> list[UnreadEntry]:
    """Read what waits for a person, newest first, without bodies."""
    query = select(*_ENTRY).where(*_waits_for_person(connection))
    return [_entry(row) for row in tx.run(query.order_by(kept_table.c.at.desc(), kept_table.c.id).limit(limit))]


def waiting_ids(tx: Transaction, connection: Connection) -> list[str]:
    """List the ids of all that waits for a person, as it arrived."""
    query = select(kept_table.c.id).where(*_waits_for_person(connection))
    return list(tx.run(query.order_by(kept_table.c.at, kept_table.c.id)).scalars())


def _waits_for_person(connection: Connection) -> tuple[ColumnElement[bool], ...]:
    return waits_for_person(
        literal(connection.id),
        literal(connection.business_id),
        literal(connection.connector),
        literal(connection.account.id),
    )


def waits_for_person(
    connection_id: ColumnElement[str],
    business_id: ColumnElement[str],
    connector: ColumnElement[str],
    account_id: ColumnElement[str],
) -> tuple[ColumnElement[bool], ...]:
    """Build the conditions for what waits for a person, of the connection that these columns (or values) say.

    Not what a later reading of the till itself has overtaken. What was pushed later overtakes nothing: it may be older,
    or lack a refund.
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
        # the outer query may name sales itself; only `kept` is meant from outside
        .correlate_except(sale_table, sale_version_table)
        .exists()
    )
    return kept_table.c.connection_id == connection_id, not_(overtaken)


# Erasing customers


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A body that could not be read, decrypted; `id` is the body's, or in older databases the entry's."""

    id: str
    connection_id: str
    text: str = field(repr=False)


def bodies_after(tx: Transaction, connection_ids: Sequence[str], after: str, limit: int) -> list[StoredBody]:
    """Read the next bodies of some connections, in the order of their ids."""
    query = select(kept_body_table.c.id, kept_body_table.c.connection_id, kept_body_table.c.body).where(
        kept_body_table.c.connection_id.in_(connection_ids), kept_body_table.c.id > after
    )
    rows = tx.run(query.order_by(kept_body_table.c.id).limit(limit))
    return [StoredBody(row.id, row.connection_id, tx.vault.decrypt(row.body)) for row in rows]


def bodies_of_former_format_after(
    tx: Transaction, connection_ids: Sequence[str], after: str, limit: int
) -> list[StoredBody]:
    """Read the next bodies that an older version kept beside their reasons, in the order of their entries' ids."""
    query = select(kept_table.c.id, kept_table.c.connection_id, kept_table.c.body).where(
        kept_table.c.connection_id.in_(connection_ids), kept_table.c.content.is_(None), kept_table.c.id > after
    )
    rows = tx.run(query.order_by(kept_table.c.id).limit(limit))
    return [StoredBody(row.id, row.connection_id, tx.vault.decrypt(row.body)) for row in rows]


def delete_bodies(tx: Transaction, ids: Sequence[str]) -> None:
    """Delete bodies, with the reasons why they could not be read."""
    tx.run(delete(kept_table).where(or_(kept_table.c.content.in_(ids), kept_table.c.id.in_(ids))))
    tx.run(delete(kept_body_table).where(kept_body_table.c.id.in_(ids)))
