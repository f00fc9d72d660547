"""Reading tills: polls, second looks, fetches of hinted receipts and backfills, all handed to ingest.

Owns checkpoints and what a till's failure does to its connection; when to read is `connectors.runtime.scheduler`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, ConnectorError, NotAuthorised, NotSupported, RateLimited
from connector_sdk.messages import Message
from connector_sdk.sale import Sale, SalePage, SaleStatus, Unreadable
from connectors.domain.clock import DAY, SECOND, micros, moment
from connectors.domain.connection import Connection, Health
from connectors.domain.retry_pauses import LOOKBACK_ENDS_WITHIN, LOOKBACK_EVERY
from connectors.log_lines import about
from connectors.store import connections, inbox, ledger
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.inbox.hints import DueHint
from connectors.store.inbox.unreadable import Origin
from connectors.sync import health, venues
from connectors.sync.account_checks import AccountChecker
from connectors.sync.ingest import Ingestor
from connectors.sync.snapshots import Outcome, Snapshot, Source
from connectors.sync.tills import Tills
from connectors.tracing import step

log = logging.getLogger(__name__)

OVERLAP = 600 * SECOND
"""A poll begins so long before the checkpoint: a till may show a receipt later than the change in it."""
_LOOKBACK_DAYS = 3
_LOOKBACK_MOST_DAYS = 60
"""However long no look-back was made; older days are a backfill's."""
_FETCHES_AT_ONCE = 8
_LEASE_EXTENDED_EVERY = 300.0
"""Seconds after which a long second look says that it goes on, so that no other begins beside it."""


@dataclass(slots=True)
class ReadResult:
    """What a read brought: its receipts, how many were new or changed, and `at`, how far it has come."""

    receipts: set[str] = field(default_factory=set)
    unreadable: int = 0
    stored: int = 0
    changed: set[str] = field(default_factory=set)
    """The receipts that were new or changed, for the connection that was read."""
    at: datetime | None = None

    @property
    def sales(self) -> int:
        """The number of receipts, those that could not be read included."""
        return len(self.receipts) + self.unreadable

    def add(self, other: ReadResult) -> None:
        """Add what another read of the same till brought."""
        self.receipts |= other.receipts
        # what cannot be read has no id to tell it by, and both reads meet it: it is not counted twice
        self.unreadable = max(self.unreadable, other.unreadable)
        self.stored += other.stored


@dataclass(frozen=True, slots=True)
class _FetchedReceipt:
    """A hint, and the receipt as the till shows it now; `None` where it shows nothing."""

    connection: Connection
    hint: DueHint
    sale: Sale | None


class TillReader:
    """Reads tills for connections."""

    def __init__(self, store: Store, tills: Tills, ingestor: Ingestor, accounts: AccountChecker) -> None:
        self._store = store
        self._tills = tills
        self._ingestor = ingestor
        self._accounts = accounts

    # Polls and second looks

    async def poll(self, turn: DueRead) -> ReadResult:
        """Read what changed since the checkpoint less the overlap, for all connections that read alike."""
        readers = [turn.connection, *turn.others]
        since = moment(min(reader.checkpoint_at or reader.began_at for reader in readers) - OVERLAP)
        result = await self._read(turn, readers, lambda till: till.poll(since), Source.poll)
        await self._accounts.check_if_due(turn.connection)
        return result

    async def look_back(self, turn: DueRead) -> ReadResult:
        """Read the last three days whole, and all days on which no second look was made."""
        readers = [turn.connection, *turn.others]
        since = min(self._lookback_from(reader) for reader in readers)
        result = await self._read(turn, readers, lambda till: till.history(since), Source.lookback)
        await self._accounts.check_if_due(turn.connection)
        return result

    def _lookback_from(self, connection: Connection) -> datetime:
        """Return the beginning of the first business day to look back on, in the account's zone."""
        now = self._store.clock.now()
        last = min(connection.last_lookback_at or now, now)  # a clock that was put back must not skip days
        earliest = max(last - _LOOKBACK_DAYS * DAY, now - _LOOKBACK_MOST_DAYS * DAY)
        zone = ZoneInfo(connection.account.zone)
        return moment(earliest).astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)

    async def _readers(self, connection: Connection) -> list[Connection]:
        """Return the connections for which one read of the till serves: this one first."""
        return await self._store.read(lambda tx: connections.schedule.readers_alike(tx, connection))

    async def _read(
        self,
        turn: DueRead,
        readers: Sequence[Connection],
        pages: Callable[[Connector[BaseModel]], AsyncIterator[SalePage]],
        source: Source,
    ) -> ReadResult:
        """Ingest a read page by page; what came before a failure stays ingested.

        The checkpoint promises that everything that changed before it was yielded. So that of a page is written only
        after the page was ingested, and what could not be read of it is kept: with the next page, or with the end of
        the read, in one transaction. A host that dies in between reads the page again. Only polls move it, for a second
        look is not ordered by when receipts changed.
        """
        with about(turn.connection.id), step("read the till", source=source.value):
            return await self._read_pages(turn, readers, pages, source)

    async def _read_pages(
        self,
        turn: DueRead,
        readers: Sequence[Connection],
        pages: Callable[[Connector[BaseModel]], AsyncIterator[SalePage]],
        source: Source,
    ) -> ReadResult:
        connection, result = turn.connection, ReadResult()
        is_lookback = source is Source.lookback
        began = extended = time.monotonic()
        # Those that were there for every page: one that stops, or joins, during the read has missed some of it, and
        # its own checkpoint says from where it is read again.
        served = {reader.id for reader in readers}
        checkpoint_at: int | None = None
        try:
            async for page in pages(self._tills.of(connection)):
                if is_lookback and time.monotonic() - extended > _LEASE_EXTENDED_EVERY:
                    await self._look_back_after([connection.id, *served], LOOKBACK_ENDS_WITHIN)
                    extended = time.monotonic()
                if page.sales or page.unreadable:  # most polls bring nothing, and then there is nothing to look up
                    present = await self._readers(connection)
                    served &= {reader.id for reader in present}
                    if checkpoint_at is not None:
                        await self._set_checkpoint(sorted(served), checkpoint_at)
                    await self._ingest_page(turn, page, source, result, present)
                if source is Source.poll and page.complete_until is not None:
                    checkpoint_at = micros(page.complete_until)
        except NotSupported:
            if is_lookback:
                await self._look_back_after([connection.id, *served], DAY)
            return result
        except StoreError:
            raise  # nothing the till could help: it is read again when the database is well
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the others go on
            if checkpoint_at is not None:
                await self._set_checkpoint(sorted(served), checkpoint_at)
            await self._report_failure(connection, error, sorted(served - {connection.id}))
            if is_lookback:
                await self._look_back_after([connection.id, *served], LOOKBACK_EVERY)
            return result
        self._store.measures.till_call(connection.connector, source.value, time.monotonic() - began)
        pause = self._tills.lookback_pause(connection.connector) if is_lookback else None
        await self._store.gather(_end_reads, _EndedRead(connection, frozenset(served), pause, checkpoint_at))
        return result

    async def _look_back_after(self, ids: Sequence[str], pause: int) -> None:
        await self._store.write(lambda tx: connections.schedule.look_back_after(tx, ids, pause))

    async def _set_checkpoint(self, ids: Sequence[str], at: int) -> None:
        """Move the checkpoint of connections to a moment (UTC microseconds)."""
        await self._store.write(lambda tx: connections.schedule.set_checkpoint(tx, ids, at))

    async def _ingest_page(
        self, turn: DueRead, page: SalePage, source: Source, result: ReadResult, readers: Sequence[Connection]
    ) -> None:
        """Hand a page's receipts to ingest, each for that of the readers to which it belongs."""
        connection = turn.connection
        can_fetch = self._tills.classes[connection.connector].can("fetch")
        targets = await self._store.read(lambda tx: venues.targets(tx, readers, page.sales))
        snapshots = [Snapshot(target, sale, source, turn.ticket, can_fetch) for target, sale in targets.taken]
        outcomes = await self._ingestor.ingest(snapshots)
        await self._ingestor.keep(connection, page.unreadable, Origin.read)
        if targets.uncovered:
            await self._store.write(lambda tx: venues.note_uncovered(tx, readers[0], targets.uncovered))
        result.receipts.update(sale.receipt_id for sale in page.sales)
        result.unreadable += len(page.unreadable)
        result.stored += outcomes.count(Outcome.stored)
        result.changed |= {
            snapshot.sale.receipt_id
            for snapshot, outcome in zip(snapshots, outcomes, strict=True)
            if outcome is Outcome.stored and snapshot.connection.id == connection.id
        }
        if page.complete_until is not None:
            result.at = page.complete_until

    async def _report_failure(self, connection: Connection, error: Exception, others: Sequence[str] = ()) -> None:
        """Decide what a failed read says about the connection, and about others for which it was made."""
        if isinstance(error, NotAuthorised):
            await self._report_refused(connection, error)
            return
        if isinstance(error, ConnectorError):
            text = str(error)
        else:
            name = type(error).__name__
            log.error(
                "connection %s: the connector %s raised %s", connection.id, connection.connector, name, exc_info=error
            )
            # not its text: a library's message may quote what the till answered
            text = f"the connector raised {name}"
        reason, pause = Message("why.text", {"text": text}), _pause_asked_for(error)
        await self._store.write(
            lambda tx: health.record_failed_reads(tx, connection, others, reason, retry_after=pause)
        )

    async def _report_refused(self, connection: Connection, error: NotAuthorised) -> None:
        reason = health.why_refused(error)
        await self._store.write(lambda tx: health.report_unwell(tx, connection, Health.needs_authorisation, reason))

    # Access

    async def renew(self, connection_id: str) -> None:
        """Renew what the till's consent gave a connection, if that is due. Raises what `Renewer.renew` does."""
        await self._tills.renewer.renew(connection_id)

    # Hints

    async def follow_hints(self, connection: Connection, due: Sequence[DueHint]) -> ReadResult:
        """Fetch the receipts that claimed hints name, several at once."""
        result = ReadResult()
        slots = asyncio.Semaphore(_FETCHES_AT_ONCE)

        async def follow(hint: DueHint) -> None:
            async with slots:
                with about(connection.id, hint.receipt_id), step("fetch a receipt"):
                    await self._follow_hint(connection, hint, result)

        async with asyncio.TaskGroup() as group:
            for hint in due:
                group.create_task(follow(hint))
        return result

    async def _follow_hint(self, connection: Connection, hint: DueHint, result: ReadResult) -> None:
        began = time.monotonic()
        try:
            sale = await self._tills.of(connection).fetch(hint.receipt_id)
            self._store.measures.till_call(connection.connector, "fetch", time.monotonic() - began)
        except BadPayload as error:
            await self._ingestor.keep(connection, [Unreadable.of(error, hint.receipt_id)], Origin.read)
            await self._store.write(lambda tx: inbox.hints.finish(tx, [hint]))
            return
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the hint stays
            await self._store.write(
                partial(_ask_later, connection=connection, hint=hint, after=_pause_asked_for(error))
            )
            await self._report_failure(connection, error)
            return
        if sale is not None:
            result.receipts.add(sale.receipt_id)
        outcome = await self._ingest_fetched(connection, hint, sale)
        log.debug("fetched from the till: %s", outcome or "nothing to take in")
        result.stored += int(outcome is Outcome.stored)
        if outcome is Outcome.stored and not hint.attempts:
            self._store.measures.hook_to_sale((self._store.clock.now() - hint.created_at) / SECOND)

    async def _ingest_fetched(self, connection: Connection, hint: DueHint, sale: Sale | None) -> Outcome | None:
        """Ingest what a fetch showed, together with what others brought meanwhile, and settle its hint."""
        try:
            return await self._store.gather(self._settle_hints, _FetchedReceipt(connection, hint, sale))
        except StoreError:
            raise
        except Exception:  # noqa: BLE001 - ingest keeps, for a person, what it cannot take in
            targets = await self._store.read(lambda tx: _targets_of(tx, connection, sale))
            outcomes = await self._ingestor.ingest(_snapshots_of(targets, hint))
            await self._store.write(lambda tx: inbox.hints.finish(tx, [hint]))
            return outcomes[0] if outcomes else None

    def _settle_hints(self, tx: Transaction, fetched: Sequence[_FetchedReceipt]) -> list[Outcome | None]:
        """Ingest what was fetched and delete its hints, in one transaction.

        Whose a receipt is, is looked up here and not before: as it is when the receipt is taken in, and once for all
        receipts of a connection that came together.
        """
        found_for = {receipt.connection.id: receipt.connection for receipt in fetched if receipt.sale is not None}
        readers = connections.schedule.told_alike(tx, list(found_for.values()))
        batches: list[list[Snapshot]] = []
        for receipt in fetched:
            connection = receipt.connection
            targets = _targets_of(tx, connection, receipt.sale, readers.get(connection.id))
            if targets.uncovered:
                venues.note_uncovered(tx, connection, targets.uncovered)
            batches.append(_snapshots_of(targets, receipt.hint))
        outcomes = [batch[0] if batch else None for batch in self._ingestor.ingest_together(tx, batches)]
        finished: list[DueHint] = []
        for receipt, outcome in zip(fetched, outcomes, strict=True):
            if _shows_nothing_new(receipt, outcome):
                _ask_later(tx, receipt.connection, receipt.hint)
            else:
                finished.append(receipt.hint)
        inbox.hints.finish(tx, finished)
        return outcomes

    # History

    async def backfill(
        self, turn: DueRead, since: datetime, progress: Callable[[ReadResult], Awaitable[None]]
    ) -> ReadResult:
        """Ingest everything since a day; receipts from before the connection are admitted.

        Raises `ConnectorError`; what was read before stays ingested.
        """
        result = ReadResult()
        async for page in self.history(turn.connection, since):
            # it admits what came before: only for the connection for which somebody asked
            await self._ingest_page(turn, page, Source.backfill, result, [turn.connection])
            await progress(result)
        return result

    async def read_again(self, turn: DueRead, since: datetime) -> ReadResult:
        """Take in whole days once more, and say what changed. Raises `ConnectorError`; what was read stays ingested."""
        result = ReadResult()
        readers = await self._readers(turn.connection)
        async for page in self.history(turn.connection, since):
            await self._ingest_page(turn, page, Source.lookback, result, readers)
            result.receipts |= {lost.receipt_id for lost in page.unreadable if lost.receipt_id}
        return result

    async def history(self, connection: Connection, since: datetime) -> AsyncIterator[SalePage]:
        """Yield the pages of a till's history since a day, and ingest nothing. Raises `ConnectorError`."""
        async for page in self._tills.of(connection).history(since):
            yield page


@dataclass(frozen=True, slots=True)
class _EndedRead:
    """A read that went through: whom it served from its first page to its last, and how far it came."""

    connection: Connection
    served: frozenset[str]
    lookback_pause: int | None
    """How long until the next second look, where this was one."""
    checkpoint_at: int | None


def _end_reads(tx: Transaction, reads: Sequence[_EndedRead]) -> list[None]:
    """Write down the ends of reads, each as of now: who stopped, or joined, meanwhile was not served to the end."""
    for read in reads:
        served = read.served
        if served != {read.connection.id}:
            served &= {reader.id for reader in connections.schedule.readers_alike(tx, read.connection)}
        is_lookback = read.lookback_pause is not None
        health.record_read(tx, sorted(served), lookback=is_lookback, checkpoint_at=read.checkpoint_at)
        if read.lookback_pause is not None:
            connections.schedule.look_back_after(tx, sorted(served), read.lookback_pause)
    return [None] * len(reads)


def _pause_asked_for(error: Exception) -> float | None:
    """Return the seconds after which a till wants to be asked again, where it said so."""
    return error.retry_after if isinstance(error, RateLimited) else None


def _targets_of(
    tx: Transaction, connection: Connection, sale: Sale | None, readers: Sequence[Connection] | None = None
) -> venues.Targets:
    """Choose who takes in a receipt that was fetched for a connection, of all that are told alike."""
    if sale is None:
        return venues.Targets()
    readers = readers or connections.schedule.told_alike(tx, [connection])[connection.id]
    return venues.targets(tx, readers, [sale])


def _snapshots_of(targets: venues.Targets, hint: DueHint) -> list[Snapshot]:
    """Return the receipt for each connection that takes it in: mostly one."""
    return [Snapshot(target, shown, Source.hint, hint.ticket) for target, shown in targets.taken]


def _shows_nothing_new(receipt: _FetchedReceipt, outcome: Outcome | None) -> bool:
    """Say whether a fetch shows less than the till has said before, so that it is asked again."""
    # either the till said "closed" before it can show that, or it shows an older state than it has pushed
    is_not_closed_yet = receipt.sale is None or receipt.sale.status is SaleStatus.open
    return (receipt.hint.closed and is_not_closed_yet) or outcome is Outcome.lost


def _ask_later(tx: Transaction, connection: Connection, hint: DueHint, after: float | None = None) -> None:
    """Ask for a receipt again after a pause; where three days of asking are over, say so in the journal."""
    if inbox.hints.postpone(tx, hint, after=after):
        return
    sale_id = ledger.sales.sale_id_of(
        tx, connection.business_id, connection.connector, connection.account.id, hint.receipt_id
    )
    message = Message("hint.ended", {"receipt": hint.receipt_id})
    ledger.journal.write(tx, connection.id, message, hint.receipt_id, sale_id=sale_id)
