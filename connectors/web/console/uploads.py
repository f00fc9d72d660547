"""Files that cafes upload, kept in memory while their columns are named, and how far their imports have come.

Owns the bounds: one file of a business at a time, half an hour, and so much of all together that the oldest goes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field

from connector_sdk.messages import Message
from connectors.domain.clock import MINUTE
from connectors.services import ImportResult

MOST_BYTES = 4 * 1024 * 1024
"""Of a file; larger ones are imported by the command."""
MOST_UNPACKED_BYTES = 64 * 1024 * 1024
"""Of a workbook as it is unpacked: whoever uploads one may have made it to fill our memory."""
_MOST_IN_ALL = 64 * 1024 * 1024
_KEPT_FOR = 30 * MINUTE


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was uploaded at a moment (UTC microseconds); `encoding` is the chosen one, where it is not found."""

    connection_id: str
    name: str
    content: bytes = field(repr=False)
    at: int
    encoding: str | None = None


@dataclass
class ImportProgress:
    """An import that is under way, or has ended: with its result, or with why it could not go on."""

    file_name: str
    business_id: str
    done: float = 0.0
    receipts: int = 0
    named: list[tuple[int, Message]] = field(default_factory=list)
    """Rows that are no receipts, by their lines, and why; the first ones."""
    result: ImportResult | None = None
    error: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self.result is not None or bool(self.error)

    @property
    def percent(self) -> int:
        """How far it has come."""
        return int(self.done * 100)


class Uploads:
    """Uploaded files by a name that nobody guesses."""

    def __init__(self) -> None:
        self._uploads: OrderedDict[str, Upload] = OrderedDict()

    def keep(self, upload: Upload) -> str:
        """Keep a file in place of the connection's former one, and return the name it is kept under."""
        for name, former in list(self._uploads.items()):
            if former.connection_id == upload.connection_id:
                del self._uploads[name]
        name = secrets.token_urlsafe(16)
        self._uploads[name] = upload
        while sum(len(kept.content) for kept in self._uploads.values()) > _MOST_IN_ALL:
            self._uploads.popitem(last=False)
        return name

    def find(self, name: str, connection_id: str, now: int) -> Upload | None:
        """Return a connection's file; `None` where it is not here (any more)."""
        upload = self._uploads.get(name)
        if upload is None or upload.connection_id != connection_id or upload.at + _KEPT_FOR < now:
            return None
        return upload

    def drop(self, name: str) -> None:
        """Forget a file."""
        self._uploads.pop(name, None)
