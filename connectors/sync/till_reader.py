"""Reading tills: polls, look-backs, hints and backfills, each a stream of pages through the one door.

Owns checkpoints and what a till's failure does to its connection; when to read is `connectors.running`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, ConnectorError, MissingRight, NotAuthorised, NotSupported, RateLimited
from connector_sdk.messages import Message
from connector_sdk.sale import Checkpoint, SalePage, SaleStatus, Unreadable
from connectors.domain.clock import DAY, SECOND, micros, moment
from connectors.domain.connection import Connection, Health
from connectors.store import connections, inbox, ledger
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.inbox.hints import DueHint
from connectors.store.inbox.unreadable import Origin
from connectors.sync import health
from connectors.sync.ingest import Ingestor
from connectors.sync.snapshots import Outcome, Snapshot, Source
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

OVERLAP = 600 * SECOND
_LOOKBACK_DAYS = 3
_LOOKBACK_MOST_DAYS = 60
_FETCHES_AT_ONCE = 8


@dataclass(slots=True)
class Seen:
    """What a read brought: its receipts, how many were new or changed, and how far it has come."""

    receipts: set[str] = field(default_factory=set)
    unreadable: int = 0
    stored: int = 0
    at: datetime | None = None

    @property
    def sales(self) -> int:
        return len(self.receipts) + self.unreadable

    def add(self, other: Seen) -> None:
        self.receipts |= other.receipts
        self.unreadable = max(self.unreadable, other.unreadable)
        self.stored += other.stored


class TillReader:
    """Reads tills for connections."""

    def __init__(self, store: Store, tills: Tills, ingestor: Ingestor) -> None:
        self._store = store
        self._tills = tills
        self._ingestor = ingestor

    async def poll(self, turn: DueRead) -> Seen:
        """The fast read, from the checkpoint less the overlap."""
        one = turn.connection
        since = Checkpoint(at=moment((one.checkpoint_at or one.began_at) - OVERLAP))
        return await self._read(turn, lambda till: till.poll(since), Source.poll)

    async def look_back(self, turn: DueRead) -> Seen:
        """The thorough read: the last three days whole, and all days on which no look-back was made."""
        one = turn.connection
        seen = await self._read(turn, lambda till: till.look_back(self._lookback_from(one)), Source.lookback)
        await self._learn_hook_name(one)
        return seen

    async def _learn_hook_name(self, one: Connection) -> None:
        """Ask once what the till's hooks call an account: connections from before this was asked do not know it."""
        connector_class = self._tills.classes.get(one.connector)
        if one.account.hook_name or connector_class is None or not connector_class.can("route"):
            return
        try:
            account = await self._tills.of(one).check()
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the next look-back asks again
            log.info("connection %s: its account could not be asked: %s", one.id, type(error).__name__)
            return
        name = account.hook_name
        if name:
            await self._store.write(lambda tx: connections.registry.set_hook_name(tx, one.id, name))

    def _lookback_from(self, one: Connection) -> datetime:
        now = self._store.clock.now()
        last = min(one.last_lookback_at or now, now)
        earliest = max(last - _LOOKBACK_DAYS * DAY, now - _LOOKBACK_MOST_DAYS * DAY)
        zone = ZoneInfo(one.account.zone)
        return moment(earliest).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)

    async def _read(
        self, turn: DueRead, pages: Callable[[Connector[Any]], AsyncIterator[SalePage]], source: Source
    ) -> Seen:
        one, seen = turn.connection, Seen()
        try:
            async for page in pages(self._tills.of(one)):
                await self._take(one, page, source, turn.ticket, seen)
                if source is Source.poll and page.checkpoint is not None:
                    at = micros(page.checkpoint.at)
                    await self._store.write(lambda tx, at=at: connections.schedule.set_checkpoint(tx, one.id, at))  # type: ignore[misc]
        except NotSupported:
            return seen
        except StoreError:
            raise  # nothing the till could help: it is read again when the database is well
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the others go on
            await self.failed(one, error)
            return seen
        await self._store.write(lambda tx: health.record_read(tx, one.id, lookback=source is Source.lookback))
        return seen

    async def _take(self, one: Connection, page: SalePage, source: Source, ticket: int, seen: Seen) -> None:
        till_fetches = self._tills.classes[one.connector].can("fetch")
        arrivals = [Snapshot(one, sale, source, ticket, till_fetches) for sale in page.sales]
        outcomes = await self._ingestor.ingest(arrivals)
        await self._ingestor.keep(one, page.unreadable, Origin.read)
        seen.receipts.update(sale.receipt_id for sale in page.sales)
        seen.unreadable += len(page.unreadable)
        seen.stored += outcomes.count(Outcome.stored)
        if page.checkpoint is not None:
            seen.at = page.checkpoint.at

    async def failed(self, one: Connection, error: Exception) -> None:
        """A read failed: decide what that says about the connection."""
        if not isinstance(error, ConnectorError):
            log.error(
                "connection %s: the connector %s raised %s", one.id, one.connector, type(error).__name__, exc_info=error
            )
        if isinstance(error, NotAuthorised):
            reason = Message("why.till_refuses")
            if isinstance(error, MissingRight):
                reason = Message("why.missing_right", {"right": error.right})
            await self._store.write(lambda tx: health.report_unwell(tx, one, Health.needs_authorisation, reason))
            return
        pause = error.retry_after if isinstance(error, RateLimited) else None
        text = str(error) if isinstance(error, ConnectorError) else f"the connector raised {type(error).__name__}"
        reason = Message("why.text", {"text": text})
        await self._store.write(lambda tx: health.record_failed_read(tx, one, reason, retry_after=pause))

    # --- hints ------------------------------------------------------------------------------------------------

    async def follow(self, one: Connection, due: Sequence[DueHint]) -> Seen:
        """Fetch the receipts that claimed hints name, several at once."""
        seen = Seen()
        slots = asyncio.Semaphore(_FETCHES_AT_ONCE)

        async def fetch(hint: DueHint) -> None:
            async with slots:
                await self._follow_one(one, hint, seen)

        async with asyncio.TaskGroup() as group:
            for hint in due:
                group.create_task(fetch(hint))
        return seen

    async def _follow_one(self, one: Connection, hint: DueHint, seen: Seen) -> None:
        try:
            sale = await self._tills.of(one).fetch(hint.receipt_id)
        except BadPayload as error:
            await self._ingestor.keep(one, [Unreadable.of(error, hint.receipt_id)], Origin.read)
            await self._store.write(lambda tx: inbox.hints.finish(tx, [hint]))
            return
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the hint stays
            pause = error.retry_after if isinstance(error, RateLimited) else None
            await self._store.write(lambda tx: _ask_later(tx, one, hint, after=pause))
            await self.failed(one, error)
            return
        arrival = Snapshot(one, sale, Source.hint, hint.ticket) if sale is not None else None
        if sale is not None:
            seen.receipts.add(sale.receipt_id)
        try:
            outcome = await self._store.gather(self._settle_hints, (one, hint, arrival))
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - the door keeps what it cannot take in
            outcome = next(iter(await self._ingestor.ingest([arrival] if arrival else [])), None)
            await self._store.write(lambda tx: inbox.hints.finish(tx, [hint]))
        seen.stored += int(outcome is Outcome.stored)

    def _settle_hints(
        self, tx: Transaction, items: Sequence[tuple[Connection, DueHint, Snapshot | None]]
    ) -> list[Outcome | None]:
        """Ingest what was fetched and delete its hints, in one transaction."""
        batches = [[arrival] if arrival else [] for _, _, arrival in items]
        outcomes = [batch[0] if batch else None for batch in self._ingestor.ingest_together(tx, batches)]
        finished: list[DueHint] = []
        for (connection, hint, arrival), outcome in zip(items, outcomes, strict=True):
            # the till said "closed" before it could show it, or shows an older state than it has pushed
            not_yet = hint.closed and (arrival is None or arrival.sale.status is SaleStatus.open)
            if not_yet or outcome is Outcome.lost:
                _ask_later(tx, connection, hint)
            else:
                finished.append(hint)
        inbox.hints.finish(tx, finished)
        return outcomes

    # --- history ----------------------------------------------------------------------------------------------

    async def backfill(self, turn: DueRead, since: datetime, progress: Callable[[Seen], Any]) -> Seen:
        """Everything since a day through the same door; receipts from before the connection are admitted."""
        one, seen = turn.connection, Seen()
        async for page in self._tills.of(one).look_back(since):
            await self._take(one, page, Source.backfill, turn.ticket, seen)
            await progress(seen)
        return seen

    async def history(self, one: Connection, since: datetime) -> AsyncIterator[SalePage]:
        """The same pages, only read: for previews."""
        async for page in self._tills.of(one).look_back(since):
            yield page


def _ask_later(tx: Transaction, connection: Connection, hint: DueHint, *, after: float | None = None) -> None:
    """Ask for a receipt again after a pause; where three days of asking are over, say so in the journal."""
    if not inbox.hints.postpone(tx, hint, after=after):
        sale_id = ledger.sales.sale_id_of(
            tx, connection.business_id, connection.connector, connection.account.id, hint.receipt_id
        )
        message = Message("hint.ended", {"receipt": hint.receipt_id})
        ledger.journal.write(tx, connection.id, message, hint.receipt_id, sale_id=sale_id)
