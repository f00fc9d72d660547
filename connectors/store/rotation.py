"""Encrypts everything anew with a newer key, while the database is used, and goes on where it was killed.

Owns the order in which that is safe: the new key is on disk before it is used; the database says which key is in use,
and every transaction that writes looks there; a former key goes only when nothing is encrypted with it any more. It
updates encrypted columns of every table, and is the one module beside migrations that writes tables of others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, Select, func, select, tuple_, update

from connectors.store import keyring
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError, WrongKey
from connectors.store.query_parts import AnyRow
from connectors.store.schema import metadata
from connectors.store.vault import MAKE_ONE, Key

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 100
"""How many rows a transaction encrypts at most: other writers wait no longer than that takes."""
_CHARACTERS_AT_ONCE = 4 * 1024 * 1024
"""A transaction ends before its rows if they are as long as this: bodies of hooks may be."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to: the key in use, how many values were encrypted anew, and how many no key opens."""

    key_id: str
    encrypted: int
    unreadable: int
    by_hand: bool
    """Whether the former keys are in the environment, where only the operator can take them away."""


Progress = Callable[[int, int], Awaitable[None]]
"""Told how many values are encrypted anew, of how many."""


class NothingToRotate(StoreError):
    """The only key that is known is in use already."""

    def __init__(self) -> None:
        super().__init__(
            "there is no newer key than the one in use: "
            f"{MAKE_ONE}, set CONNECTORS_SECRET_KEY to it and CONNECTORS_SECRET_KEYS_OLD to the one used so far, "
            "restart `connectors serve`, and run `connectors keys rotate` again"
        )


async def is_unfinished(store: Store) -> bool:
    """Return whether a rotation was begun and not ended: then `rotate` goes on with it."""
    file = store.vault.file
    # killed between making a key and using it, only the file knows of the rotation
    two_keys = file is not None and len(await asyncio.to_thread(file.read)) > 1
    return two_keys or await store.read(lambda tx: keyring.is_rotating(tx.session))


async def rotate(store: Store, progress: Progress, *, rows: int = ROWS_AT_ONCE) -> Rotated:
    """Encrypt everything with the newest key, after making one where keys are in a file; then drop the former keys.

    Killed at any moment, it has lost nothing, and the next call goes on. Raises `StoreError`.
    """
    key = await _begin(store)
    total = await store.read(lambda tx: sum(_count_left(tx, key, column) for column in _encrypted_columns()))
    await progress(0, total)
    encrypted = unreadable = 0
    for column in _encrypted_columns():
        async for step in _encrypt_column(store, key, column, rows):
            encrypted += step.encrypted
            unreadable += step.unreadable
            await progress(encrypted, max(total, encrypted))
    if unreadable:
        log.warning("%d values are encrypted with a key that is not known: they stay as they are", unreadable)
    await _finish(store)
    return Rotated(key.id, encrypted, unreadable, by_hand=store.vault.file is None)


async def _begin(store: Store) -> Key:
    """Return the key to encrypt with, after the database says that it is in use."""
    # The new key is on disk before it is used. Once `begin` is committed, every transaction that writes uses it: no
    # value is encrypted with a former key any more, so the values still to be done only become fewer.
    key = await _newest_key(store)
    if store.vault.key_id != key.id or not await store.read(lambda tx: keyring.is_rotating(tx.session)):
        await store.write(lambda tx: keyring.begin(tx.session, tx.vault, key))
    return key


async def _finish(store: Store) -> None:
    """Drop the former keys from the key file, note that the rotation has ended, and clear what is left of it."""
    # Former keys go before the mark of the rotation does: killed in between, the next start sees an unfinished
    # rotation and comes here again.
    if store.vault.file is not None:
        await asyncio.to_thread(store.vault.file.keep_newest)
    await store.write(lambda tx: keyring.end(tx.session))
    # the former ciphertexts still stand in pages of the log, and whoever has a former key could read them there
    await store.clear_log()


async def _newest_key(store: Store) -> Key:
    """Return the key of a rotation that was not ended, or else a newer one than is in use.

    Raises `NothingToRotate` where keys are in the environment and none is newer.
    """
    vault = store.vault
    if await is_unfinished(store):
        if vault.file is not None:
            await asyncio.to_thread(vault.read_file)
        return vault.newest
    if vault.file is not None:
        return await asyncio.to_thread(vault.make_key)
    if vault.newest.id == vault.key_id:
        raise NothingToRotate
    return vault.newest


def _encrypted_columns() -> Iterator[Column[str]]:
    """Yield every column that holds ciphertexts."""
    # marked in the schema, so that a new column cannot be forgotten here; a test compares marks and contents
    for table in metadata.sorted_tables:
        yield from (column for column in table.columns if column.info.get("encrypted"))


def _has_another_key(key: Key, column: Column[str]) -> ColumnElement[bool]:
    """Return the condition that a text is a ciphertext of another key: its id and a colon stand before it."""
    # eight characters, a colon, and what every Fernet token begins with; other texts in such columns do not look so
    return column.like("________:gAAAA%") & ~column.like(f"{key.id}:%")


def _count_left(tx: Transaction, key: Key, column: Column[str]) -> int:
    return int(tx.run(select(func.count()).where(_has_another_key(key, column))).scalar_one())


PrimaryKey = tuple[str | int, ...]
"""The values of a row's primary key, in the order of its columns."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What one transaction came to: how many values it encrypted anew, and how many no key opens."""

    after: PrimaryKey | None
    """The last row it looked at: the next step begins behind it; `None` where there was none left."""
    encrypted: int = 0
    unreadable: int = 0


async def _encrypt_column(store: Store, key: Key, column: Column[str], rows: int) -> AsyncIterator[_Step]:
    """Encrypt a column's texts anew, a few rows a transaction, in the order of its table's primary key."""
    # In that order because a value that no key opens stays as it is: by "the first that are left" each step would find
    # the same ones for ever.
    after: PrimaryKey | None = None
    while True:
        query = _rows_after(key, column, after, rows)
        step = await store.write(lambda tx, query=query: _encrypt_rows(tx, column, query))  # type: ignore[misc]
        if step.after is None:
            return
        after = step.after
        yield step


def _primary_key(column: Column[str]) -> list[Column[str | int]]:
    return list(metadata.tables[column.table.name].primary_key.columns)


def _rows_after(key: Key, column: Column[str], after: PrimaryKey | None, rows: int) -> Select[*tuple[object, ...]]:
    """Select primary key and text of the next rows that have another key."""
    primary = _primary_key(column)
    query = select(*primary, column).where(_has_another_key(key, column)).order_by(*primary).limit(rows)
    return query if after is None else query.where(tuple_(*primary) > tuple_(*after))


def _encrypt_rows(tx: Transaction, column: Column[str], query: Select[*tuple[object, ...]]) -> _Step:
    """Encrypt the texts of some rows, as many as a transaction should hold."""
    last: PrimaryKey | None = None
    encrypted = unreadable = characters = 0
    result = tx.run(query)
    for row in result:
        last, text = tuple(row[:-1]), str(row[-1])
        if not _encrypt_row(tx, column, row):
            unreadable += 1
            continue
        encrypted += 1
        characters += len(text)
        if characters > _CHARACTERS_AT_ONCE:
            break
    result.close()
    return _Step(last, encrypted, unreadable)


def _encrypt_row(tx: Transaction, column: Column[str], row: AnyRow) -> bool:
    """Encrypt one row's text with the key in use; return whether a known key opens it."""
    # `column == text` in the update: on PostgreSQL another process may have changed the row since it was read. Then
    # the update finds nothing, and what was written is of the newer key already.
    values: PrimaryKey = tuple(row)
    primary, text = values[:-1], str(values[-1])
    try:
        encrypted = tx.vault.encrypt(tx.vault.decrypt(text))
    except WrongKey:
        return False
    here = [name == value for name, value in zip(_primary_key(column), primary, strict=True)]
    tx.run(update(column.table).where(*here, column == text).values({column.name: encrypted}))
    return True
