"""How far imports have come, told to whoever looks, at whichever host.

Owns that one import of a business is under way at a time, and when one that says nothing more counts as stopped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from connector_sdk.messages import Message
from connectors.domain.clock import SECOND
from connectors.domain.connection import Connection
from connectors.services import ImportResult, Refusal
from connectors.store import console_items
from connectors.store.console_items import ConsoleItem, ItemKind
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.web.console.uploads import Upload, find_upload

log = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0
_SILENT_FOR = 30 * SECOND
_STOPPED = Message("The import stopped. Start it again: what was taken in stays.")
_IS_BUSY = "Another file is being taken in: wait until that has ended."


class UploadGone(Exception):
    """The file of an import is not here any more."""


@dataclass
class ImportProgress:
    """An import that is under way, or has ended: with its result, or with why it could not go on."""

    file_name: str
    done: float = 0.0
    receipts: int = 0
    named: list[tuple[int, Message]] = field(default_factory=list)
    """Rows that are no receipts, by their lines, and why; the first ones."""
    result: ImportResult | None = None
    error: Message | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self.result is not None or self.error is not None

    @property
    def percent(self) -> int:
        """How far it has come."""
        return int(self.done * 100)

    def stop(self) -> None:
        """Say that it does not go on."""
        self.error = _STOPPED

    def stored(self) -> str:
        """Return the progress as text; `restored` is the inverse."""
        return json.dumps(
            {
                "file": self.file_name,
                "done": self.done,
                "receipts": self.receipts,
                "named": [(line, why.stored()) for line, why in self.named],
                "result": self.result.as_json() if self.result is not None else None,
                "error": self.error.stored() if self.error is not None else None,
            }
        )

    @classmethod
    def restored(cls, item: ConsoleItem, now: int) -> ImportProgress:
        """Return the progress that an item holds, as of a moment (UTC microseconds)."""
        values = json.loads(item.content)
        progress = cls(
            values["file"],
            values["done"],
            values["receipts"],
            [(line, Message.restored(why)) for line, why in values["named"]],
            ImportResult.model_validate(values["result"]) if values["result"] is not None else None,
            Message.restored(values["error"]) if values["error"] is not None else None,
        )
        # whoever takes it in writes every second: its host has ended, or was killed
        if not progress.has_ended and item.written_at < now - _SILENT_FOR:
            progress.stop()
        return progress


class Imports:
    """The last import of each connection, for a day after it ended."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, connection: Connection) -> ImportProgress | None:
        """Return how far a connection's last import has come; `None` where there was none lately."""
        return await self._store.read(lambda tx: _find(tx, connection.id))

    async def begin(self, connection: Connection, upload_name: str) -> tuple[Upload, ImportProgress]:
        """Begin to take in an uploaded file, which is nobody else's to take in then.

        Raises `UploadGone`, and `Refusal` where another import of the business is under way.
        """

        def work(tx: Transaction) -> tuple[Upload, ImportProgress]:
            tx.alone("import", connection.business_id)
            upload = find_upload(tx, upload_name, connection.id)
            if upload is None:
                raise UploadGone
            # one of a business at a time: a file of thousands of receipts has the database write for minutes
            if not all(other.has_ended for other in _of_business(tx, connection.business_id)):
                raise Refusal(_IS_BUSY)
            console_items.drop(tx, ItemKind.upload, upload_name)
            progress = ImportProgress(upload.name)
            _put(tx, connection, progress.stored())
            return upload, progress

        return await self._store.write(work)

    async def forget(self, connection: Connection) -> None:
        """Forget the last import of a connection, if it has ended."""

        def work(tx: Transaction) -> None:
            progress = _find(tx, connection.id)
            if progress is not None and progress.has_ended:
                console_items.drop(tx, ItemKind.import_progress, connection.id)

        await self._store.write(work)

    @asynccontextmanager
    async def telling(self, connection: Connection, progress: ImportProgress) -> AsyncIterator[None]:
        """Write every second how far an import has come, and how it ended."""
        writing = asyncio.create_task(self._keep_writing(connection, progress), name="import progress")
        try:
            yield
        finally:
            writing.cancel()
        # not of one that is cancelled: its host ends, whose database is closed already
        await self._write(connection, progress)

    async def _keep_writing(self, connection: Connection, progress: ImportProgress) -> None:
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            await self._write(connection, progress)

    async def _write(self, connection: Connection, progress: ImportProgress) -> None:
        stored = progress.stored()  # here and not in the writer's thread: it is changed meanwhile
        try:
            await self._store.write(lambda tx: _put(tx, connection, stored))
        except StoreError as error:
            log.warning("how far an import has come could not be written: %s", error)


def _put(tx: Transaction, connection: Connection, stored: str) -> None:
    console_items.put(tx, ItemKind.import_progress, connection.id, connection.business_id, stored)


def _find(tx: Transaction, connection_id: str) -> ImportProgress | None:
    item = console_items.find(tx, ItemKind.import_progress, connection_id)
    return ImportProgress.restored(item, tx.now) if item is not None else None


def _of_business(tx: Transaction, business_id: str) -> Sequence[ImportProgress]:
    items = console_items.of_subject(tx, ItemKind.import_progress, business_id)
    return [ImportProgress.restored(item, tx.now) for item in items]
