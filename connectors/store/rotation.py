"""Encrypts everything anew with a newer key, while the database is used, and goes on where it was killed.

Owns the order in which that is safe: the new key is on disk before it is used; the database says which key is in use,
and every transaction that writes looks there; a former key goes only when nothing is encrypted with it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, func, select, tuple_, update

from connectors.store import keyring
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError, WrongKey
from connectors.store.schema import metadata
from connectors.store.vault import MAKE_ONE, Key

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 100
_CHARACTERS_AT_ONCE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation came to: the key in use, how many values were encrypted anew, and how many no key opens."""

    key_id: str
    encrypted: int
    unreadable: int
    by_hand: bool
    """Whether the former keys are in the environment, where only the operator can take them away."""


Progress = Callable[[int, int], Awaitable[None]]
"""Told how many values are done, of how many."""


class NothingToRotate(StoreError):
    """The only key there is, is in use."""

    def __init__(self) -> None:
        super().__init__(
            "there is no newer key than the one in use: "
            f"{MAKE_ONE}, set CONNECTORS_SECRET_KEY to it and CONNECTORS_SECRET_KEYS_OLD to the one used so far, "
            "restart `connectors serve`, and run `connectors keys rotate` again"
        )


async def unfinished(store: Store) -> bool:
    """Whether a rotation was begun and not ended: then `rotate` goes on with it."""
    file = store.vault.file
    two_keys = file is not None and len(await asyncio.to_thread(file.read)) > 1
    return two_keys or await store.read(lambda tx: keyring.rotating(tx.session))


async def rotate(store: Store, progress: Progress, *, rows: int = ROWS_AT_ONCE) -> Rotated:
    """Encrypt everything with the newest key, after making one where keys are in a file; then drop the former keys.

    Killed at any moment, it has lost nothing, and the next call goes on. Raises `StoreError`.
    """
    key = await _newest_key(store)
    if store.vault.key_id != key.id or not await store.read(lambda tx: keyring.rotating(tx.session)):
        await store.write(lambda tx: keyring.begin(tx.session, tx.vault, key))
    total = await store.read(lambda tx: sum(_left(tx, key, column) for column in _columns()))
    await progress(0, total)
    encrypted = unreadable = 0
    for column in _columns():
        async for step in _encrypt_column(store, key, column, rows):
            encrypted += step.encrypted
            unreadable += step.unreadable
            await progress(encrypted, max(total, encrypted))
    if unreadable:
        log.warning("%d values are encrypted with a key that is not known: they stay as they are", unreadable)
    file = store.vault.file
    if file is not None:
        await asyncio.to_thread(file.keep_newest)
    await store.write(lambda tx: keyring.end(tx.session))
    await store.clear_log()
    return Rotated(key.id, encrypted, unreadable, by_hand=file is None)


async def _newest_key(store: Store) -> Key:
    """The key to encrypt with: that of a rotation that was not ended, or else a newer one than is in use."""
    vault = store.vault
    if await unfinished(store):
        if vault.file is not None:
            await asyncio.to_thread(vault.read_file)
        return vault.newest
    if vault.file is not None:
        return await asyncio.to_thread(vault.make_key)
    if vault.newest.id == vault.key_id:
        raise NothingToRotate
    return vault.newest


def _columns() -> Iterator[Column[str]]:
    """Every column that holds ciphertexts."""
    for table in metadata.sorted_tables:
        yield from (column for column in table.columns if column.info.get("encrypted"))


def _with_another_key(key: Key, column: Column[str]) -> ColumnElement[bool]:
    """Whether a text is a ciphertext of another key: its id and a colon stand before it."""
    return column.like("________:gAAAA%") & ~column.like(f"{key.id}:%")


def _left(tx: Transaction, key: Key, column: Column[str]) -> int:
    return int(tx.run(select(func.count()).where(_with_another_key(key, column))).scalar_one())


Place = tuple[str | int, ...]
"""The primary key of a row."""


@dataclass(frozen=True, slots=True)
class _Step:
    """What one transaction came to: the last row it looked at (none were left without), how many it could encrypt."""

    after: Place | None
    encrypted: int = 0
    unreadable: int = 0


async def _encrypt_column(store: Store, key: Key, column: Column[str], rows: int) -> AsyncIterator[_Step]:
    """Encrypt a column's texts anew, a few rows a transaction, in the order of its table's primary key."""
    after: Place | None = None
    while True:
        step = await store.write(lambda tx, after=after: _encrypt_some(tx, key, column, after, rows))  # type: ignore[misc]
        if step.after is None:
            return
        after = step.after
        yield step


def _encrypt_some(tx: Transaction, key: Key, column: Column[str], after: Place | None, rows: int) -> _Step:
    """Encrypt the texts of the next rows after a place."""
    primary = list(metadata.tables[column.table.name].primary_key.columns)
    query = select(*primary, column).where(_with_another_key(key, column)).order_by(*primary).limit(rows)
    found = tx.run(query if after is None else query.where(tuple_(*primary) > tuple_(*after)))
    last: Place | None = None
    encrypted = unreadable = characters = 0
    for row in found:
        last, text = tuple(row[:-1]), row[-1]
        try:
            anew = tx.vault.encrypt(tx.vault.decrypt(text))
        except WrongKey:
            unreadable += 1
            continue
        here = [name == value for name, value in zip(primary, last, strict=True)]
        tx.run(update(column.table).where(*here, column == text).values({column.name: anew}))
        encrypted += 1
        characters += len(text)
        if characters > _CHARACTERS_AT_ONCE:
            break
    found.close()
    return _Step(last, encrypted, unreadable)
