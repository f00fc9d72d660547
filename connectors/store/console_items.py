"""What every host of the console must find: a form that somebody began, a file, how often somebody tried to sign in.

Owns the table `console_item`: each item is encrypted, has an end, and makes room for newer ones of its kind. What an
item's content means is the console's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, delete, func, select

from connectors.domain.clock import DAY, MINUTE
from connectors.store.engine import Transaction
from connectors.store.errors import WrongKey
from connectors.store.query_parts import AnyRow, in_parts
from connectors.store.schema import console_item_table

_MIB = 1024 * 1024


class ItemKind(StrEnum):
    """What an item is; the values stand in the database."""

    form = "form"
    """A form as it was typed, for the page that is its subject."""
    upload = "upload"
    """A file whose columns are being named, of the connection that is its subject."""
    import_progress = "import"
    """How far the last import of a connection has come, by the connection's id; its subject is the business."""
    attempts = "attempts"
    """How often somebody has tried to sign in lately, by a hash of who it is; its subject is the kind of secret."""


@dataclass(frozen=True, slots=True)
class _Bounds:
    """How long an item of a kind lives (microseconds), and how many of a kind there are, and how many characters."""

    lifetime: int
    items: int
    characters: int


_BOUNDS = {
    ItemKind.form: _Bounds(30 * MINUTE, 500, 16 * _MIB),
    ItemKind.upload: _Bounds(30 * MINUTE, 200, 64 * _MIB),
    ItemKind.import_progress: _Bounds(DAY, 10_000, 64 * _MIB),
    ItemKind.attempts: _Bounds(35 * MINUTE, 10_000, 16 * _MIB),
}


@dataclass(frozen=True, slots=True)
class ConsoleItem:
    """An item, and when it was last written (UTC microseconds)."""

    name: str
    subject: str
    content: str
    written_at: int


def put(tx: Transaction, kind: ItemKind, name: str, subject: str, content: str) -> None:
    """Keep an item in place of the one that has this name; the oldest of its kind go where there are too many."""
    row = {
        "kind": kind,
        "name": name,
        "subject": subject,
        "content": tx.vault.encrypt(content),
        "size": len(content),
        "created_at": tx.now,
        "expires_at": tx.now + _BOUNDS[kind].lifetime,
    }
    statement = tx.insert(console_item_table).values(row)
    tx.run(statement.on_conflict_do_update(index_elements=["kind", "name"], set_=row))
    _make_room(tx, kind)


def _make_room(tx: Transaction, kind: ItemKind) -> None:
    bounds, columns = _BOUNDS[kind], console_item_table.c
    tx.run(delete(console_item_table).where(columns.kind == kind, columns.expires_at <= tx.now))
    newest_first = select(columns.created_at).where(columns.kind == kind).order_by(columns.created_at.desc())
    first_too_many = newest_first.offset(bounds.items).limit(1).scalar_subquery()
    tx.run(delete(console_item_table).where(columns.kind == kind, columns.created_at <= first_too_many))
    # the sum first: how far an import has come is written every second
    if (tx.run(select(func.sum(columns.size)).where(columns.kind == kind)).scalar() or 0) <= bounds.characters:
        return
    size, surplus = 0, []
    for item in tx.run(newest_first.with_only_columns(columns.name, columns.size)):
        size += item.size
        if size > bounds.characters:
            surplus.append(item.name)
    for part in in_parts(surplus):
        tx.run(delete(console_item_table).where(columns.kind == kind, columns.name.in_(part)))


def find(tx: Transaction, kind: ItemKind, name: str) -> ConsoleItem | None:
    """Return an item; `None` where there is none (any more)."""
    items = _read(tx, kind, console_item_table.c.name == name)
    return items[0] if items else None


def of_subject(tx: Transaction, kind: ItemKind, subject: str) -> Sequence[ConsoleItem]:
    """List the items of a kind that have a subject."""
    return _read(tx, kind, console_item_table.c.subject == subject)


def drop(tx: Transaction, kind: ItemKind, name: str) -> None:
    """Delete an item, if it is there."""
    columns = console_item_table.c
    tx.run(delete(console_item_table).where(columns.kind == kind, columns.name == name))


def drop_of_subject(tx: Transaction, kind: ItemKind, subject: str) -> None:
    """Delete the items of a kind that have a subject."""
    columns = console_item_table.c
    tx.run(delete(console_item_table).where(columns.kind == kind, columns.subject == subject))


def sweep(tx: Transaction, limit: int) -> int:
    """Delete items whose time is over; return how many."""
    old = select(console_item_table.c.name).where(console_item_table.c.expires_at <= tx.now).limit(limit)
    is_old = console_item_table.c.name.in_(old) & (console_item_table.c.expires_at <= tx.now)
    return tx.run(delete(console_item_table).where(is_old)).rowcount


def _read(tx: Transaction, kind: ItemKind, is_wanted: ColumnElement[bool]) -> list[ConsoleItem]:
    columns = console_item_table.c
    query = select(console_item_table).where(columns.kind == kind, is_wanted, columns.expires_at > tx.now)
    return [item for row in tx.run(query) if (item := _item_of(tx, row)) is not None]


def _item_of(tx: Transaction, row: AnyRow) -> ConsoleItem | None:
    try:
        return ConsoleItem(row.name, row.subject, tx.vault.decrypt(row.content), row.created_at)
    except WrongKey:  # its key has been taken away: what was begun is begun once more
        return None
