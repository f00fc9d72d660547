"""A cache of what previews need of tills: newest receipts and menu, read once while somebody chooses a rule.

Owns how long and how much is remembered, and that a till is read once however many ask at the same time; the reading
itself is `connectors.services.sync`' and `checks`'.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from connector_sdk.authorisation import Credentials
from connector_sdk.connector import MenuItem, TillAccount
from connector_sdk.sale import Sale
from connectors.domain.connection import Connection
from connectors.services import Refusal, Services
from connectors.store.connections.drafts import Draft
from connectors.sync.previews import RecentReceipts

_LIFETIME = 600.0
_FRESH = 60.0
"""Seconds: a page that is opened shows no older reading, and a till is not read more often for it."""
_RETRY_AFTER = 20.0
"""Seconds in which a till that could not be read is not read again: the preview asks at every key that is pressed."""
_MOST_ENTRIES = 200

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class TillReading:
    """A till's newest receipts and its menu."""

    recent: RecentReceipts
    menu: list[MenuItem]

    @property
    def failed(self) -> bool:
        """`True` where the till could not be read."""
        return self.recent.source == "unread"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A reading, whether it goes on or is done; both times are on the monotonic clock, in seconds."""

    began: float
    until: float
    reading: asyncio.Task[TillReading]

    def usable(self, now: float) -> bool:
        """Return whether to wait for this reading or take its result, instead of reading the till again."""
        if not self.reading.done():
            return True
        return now <= self.until and not self.reading.cancelled() and self.reading.exception() is None


class TillCache:
    """Readings of tills by draft or connection, and sales that drafts have captured, both for some minutes."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._captured: OrderedDict[str, tuple[float, list[Sale]]] = OrderedDict()

    async def captured_sales(self, key: str, read: Callable[[], Awaitable[list[Sale]]]) -> list[Sale]:
        """Return the sales of captured requests, read with `read` once for each key."""
        # keys hold a hash of the requests: another request makes another key, and old ones are dropped by number
        until, sales = self._captured.get(key, (0.0, []))
        if until < time.monotonic():
            sales = await read()
            self._captured[key] = (time.monotonic() + _LIFETIME, sales)
            _drop_oldest(self._captured)
        return sales

    async def of_draft(self, services: Services, draft: Draft, account: TillAccount) -> TillReading:
        """Read the till account that a draft's settings open."""
        name, values, grant = draft.connector, draft.content.values, draft.content.given_grant
        credentials = Credentials(grant) if grant is not None else None

        async def read() -> TillReading:
            recent = await services.sync.recent_receipts(name, values, account, credentials)
            return TillReading(recent, await services.checks.read_menu(name, values, account, credentials))

        return await self._read_once(f"{draft.id} {account.id}", read)

    async def of_connection(self, services: Services, connection: Connection, *, fresh: bool = False) -> TillReading:
        """Read a connection's till; where it cannot be read back, take the receipts that have arrived here.

        A `fresh` reading is at most a minute old.
        """

        async def read() -> TillReading:
            recent = await services.sync.recent_receipts_of(connection)
            values, credentials = services.connections.access_of(connection)
            menu = await services.checks.read_menu(connection.connector, values, connection.account, credentials)
            return TillReading(recent, menu)

        # the generation changes with the settings: they may open another menu
        return await self._read_once(f"{connection.id} {connection.generation}", read, fresh=fresh)

    async def _read_once(
        self, key: str, read: Callable[[], Awaitable[TillReading]], *, fresh: bool = False
    ) -> TillReading:
        now = time.monotonic()
        entry = self._entries.get(key)
        if entry is None or not entry.usable(now) or (fresh and now - entry.began > _FRESH):
            entry = _Entry(now, now + _LIFETIME, asyncio.create_task(_read_or_fail(read)))
            self._entries[key] = entry
            _drop_oldest(self._entries)
        # shielded: whoever leaves the page must not cancel the reading that others wait for
        reading = await asyncio.shield(entry.reading)
        if reading.failed and key in self._entries:
            # shortened, not dropped: the preview must not ask a till that is down at every key pressed
            stored = self._entries[key]
            self._entries[key] = _Entry(stored.began, min(stored.until, now + _RETRY_AFTER), entry.reading)
        return reading


async def _read_or_fail(read: Callable[[], Awaitable[TillReading]]) -> TillReading:
    """Read a till; a reading that failed is a value too, so that it is remembered like others."""
    try:
        return await read()
    except (Refusal, ValidationError):
        return TillReading(RecentReceipts((), 0, "unread"), [])


def _drop_oldest(entries: OrderedDict[str, Value]) -> None:
    while len(entries) > _MOST_ENTRIES:
        entries.popitem(last=False)
