"""Files that cafes upload, kept while their columns are named, where every host finds them.

Owns how a file is stored and that a connection has one; for how long, and how much of all together, is
`connectors.store.console_items`'.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field

from connectors.store import console_items
from connectors.store.console_items import ConsoleItem, ItemKind
from connectors.store.engine import Store, Transaction

MOST_BYTES = 4 * 1024 * 1024
"""Of a file; larger ones are imported by the command."""
MOST_UNPACKED_BYTES = 64 * 1024 * 1024
"""Of a workbook as it is unpacked: whoever uploads one may have made it to fill our memory."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was uploaded for a connection; `encoding` is the chosen one, where it is not found."""

    connection_id: str
    name: str
    content: bytes = field(repr=False)
    encoding: str | None = None

    def stored(self) -> str:
        """Return the file as text; `restored` is the inverse."""
        # base64 and not a JSON text: of a workbook's bytes most would be escaped
        return json.dumps([self.name, self.encoding, base64.b64encode(self.content).decode()])

    @classmethod
    def restored(cls, item: ConsoleItem) -> Upload:
        """Return the file that an item holds."""
        name, encoding, content = json.loads(item.content)
        return cls(item.subject, name, base64.b64decode(content), encoding)


class Uploads:
    """Uploaded files by a name that nobody guesses."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def keep(self, upload: Upload) -> str:
        """Keep a file in place of the connection's former one, and return the name it is kept under."""
        name, content = secrets.token_urlsafe(16), upload.stored()

        def work(tx: Transaction) -> None:
            console_items.drop_of_subject(tx, ItemKind.upload, upload.connection_id)
            console_items.put(tx, ItemKind.upload, name, upload.connection_id, content)

        await self._store.write(work)
        return name

    async def find(self, name: str, connection_id: str) -> Upload | None:
        """Return a connection's file; `None` where it is not here (any more)."""
        return await self._store.read(lambda tx: find_upload(tx, name, connection_id))


def find_upload(tx: Transaction, name: str, connection_id: str) -> Upload | None:
    """Return a connection's file; `None` where it is not here (any more)."""
    item = console_items.find(tx, ItemKind.upload, name)
    return Upload.restored(item) if item is not None and item.subject == connection_id else None
