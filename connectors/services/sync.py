"""Reading and sending on demand: sync, previews, backfill, replan.

Owns what a person asks for now; what is due by itself is the scheduler's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connector_sdk.authorisation import Credentials
from connector_sdk.connector import TillAccount
from connector_sdk.errors import ConnectorError, NotSupported
from connector_sdk.messages import Message
from connector_sdk.sale import Sale, SalePage, Unreadable
from connectors.domain.clock import micros, moment
from connectors.domain.connection import Connection, Health
from connectors.domain.numbers import Span
from connectors.domain.stamps import Earned, RuleVersion, rule_in_force, stamps_for
from connectors.services.context import ServiceContext, SettingValues
from connectors.services.refusal import Refusal
from connectors.services.results import Progress, ProgressReport, ReplanCounts, ReplanResult, SyncResult
from connectors.store import connections, counters, inbox, ledger, queries
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.sales import SaleRow
from connectors.store.query_parts import in_parts
from connectors.sync.delivery import Deliverer
from connectors.sync.gift_vouchers import GiftVouchers
from connectors.sync.identification import Identifier
from connectors.sync.planner import entitlement, plan_sale
from connectors.sync.previews import RecentReceipts, card_operations, read_recent, recent_of
from connectors.sync.till_reader import ReadResult
from connectors.sync.tills import NoConnector

MOST_DAYS_BACK = 10 * 366
"""How far back a person may ask for a till's history."""
_PAUSE_PATIENCE = 30.0
_HINTS_AT_ONCE = 200
_REPLANNED_AT_ONCE = 200
MOST_OF_DAYS = 500


@dataclass(frozen=True, slots=True)
class PreviewedReceipt:
    """A receipt of a preview: what it would earn, or why it cannot be read."""

    sale: Sale | None
    earned: Earned | None
    unreadable: Unreadable | None = None
    is_known: bool = False
    """Whether it counts already: to take it in once more gives nothing."""


@dataclass(slots=True)
class HistoryCounts:
    """What a backfill would take in: stamps are those of receipts with a customer.

    `known` receipts count already; `new_with_customer` and `new_stamps` are those of the others.
    """

    receipts: int = 0
    with_customer: int = 0
    stamps: int = 0
    unreadable: int = 0
    known: int = 0
    new_with_customer: int = 0
    new_stamps: int = 0

    def add(self, receipt: PreviewedReceipt) -> None:
        """Count one receipt."""
        self.receipts += 1
        self.unreadable += receipt.unreadable is not None
        self.known += receipt.is_known
        if receipt.sale is not None and receipt.earned is not None and receipt.sale.customer:
            self.with_customer += 1
            self.stamps += receipt.earned.stamps
            if not receipt.is_known:
                self.new_with_customer += 1
                self.new_stamps += receipt.earned.stamps


class PauseCounts(NamedTuple):
    """How many receipts were closed since a pause began, and how many card operations they would be."""

    receipts: int
    operations: int


class _Senders(NamedTuple):
    """The parts that talk to 7stamp."""

    identifier: Identifier
    deliverer: Deliverer
    gifts: GiftVouchers


class SyncService:
    """Reads tills and sends operations when a person asks for it."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    # --- one round, now ---------------------------------------------------------------------------------------

    async def run(self, connection_id: str) -> SyncResult:
        """Poll, look back, follow hints and deliver once, now. Raises `Refusal`."""
        # Both refusals come before the till is read: what would not be sent afterwards need not be read now.
        self._senders()
        await self.require_working(connection_id)
        began = self._context.store.clock.now()
        seen = await self._read_till(connection_id)
        return await self._deliver(connection_id, began, seen)

    async def _read_till(self, connection_id: str) -> ReadResult:
        """Poll, look back and follow every hint that is due."""
        store, reader, seen = self._context.store, self._context.reader, ReadResult()
        # A claim, due or not, moves the next read on: the scheduler does not read the same once more right after.
        for due in await store.write(lambda tx: connections.schedule.lease_polls(tx, 1, connection_id)):
            seen.add(await reader.poll(due))
        for due in await store.write(lambda tx: connections.schedule.lease_lookbacks(tx, 1, connection_id)):
            seen.add(await reader.look_back(due))
        # hints last: what polls have brought answers some of them
        followed = set[str]()
        while claimed := await store.write(lambda tx: inbox.hints.lease(tx, _HINTS_AT_ONCE, connection_id)):
            # a receipt of which the till shows nothing newer stays hinted: it is asked for once here, and then with
            # growing pauses by the scheduler, or a till that contradicts itself would be asked without end
            unfollowed = [hint for hint in claimed if hint.receipt_id not in followed]
            if not unfollowed:
                break
            followed.update(hint.receipt_id for hint in unfollowed)
            seen.add(await reader.follow_hints(await self._context.connection(connection_id), unfollowed))
        return seen

    def _senders(self) -> _Senders:
        """Return the parts that talk to 7stamp. Raises `Refusal` where its address is not set."""
        context = self._context
        if context.identifier is None or context.deliverer is None or context.gifts is None:
            raise context.refusal_without_sevenstamp()
        return _Senders(context.identifier, context.deliverer, context.gifts)

    async def require_working(self, connection_id: str) -> Connection:
        """Return a connection that reads and sends. Raises `Refusal` for one that does not."""
        connection = await self._context.connection(connection_id)
        if connection.health is Health.paused:
            raise Refusal("this connection is paused: resume it first")
        if connection.health is Health.needs_authorisation:
            raise Refusal("this connection needs authorisation: give it a new token or key first")
        return connection

    async def _deliver(self, connection_id: str, began: int, seen: ReadResult) -> SyncResult:
        """Find cards, settle what is in doubt and send what is pending; count what became of it since `began`."""
        # The order matters: customers' cards first, so that what they release goes out in the same round, and the
        # vouchers on those cards that pay for gifts; what is in doubt next, because it blocks the rest of its receipt
        # until it is settled.
        identifier, deliverer, gifts = self._senders()
        await identifier.round(connection_id)
        await gifts.round(connection_id)
        await deliverer.resolve(connection_id)
        await deliverer.drain(connection_id)
        if await identifier.round(connection_id):  # a card that was gone is looked for once more
            await deliverer.drain(connection_id)
        counts = await self._context.store.read(lambda tx: queries.operations.counts_by_state(tx, connection_id, began))
        health = (await self._context.connection(connection_id)).health
        return SyncResult(
            sales_seen=seen.sales,
            sales_changed=seen.stored,
            operations=counts,
            status=None if health in (Health.active, Health.paused) else health.value,
        )

    # --- previews ---------------------------------------------------------------------------------------------

    async def recent_receipts(
        self, name: str, values: SettingValues, account: TillAccount, credentials: Credentials | None = None
    ) -> RecentReceipts:
        """Read an account's newest receipts back from its till. Raises `Refusal`."""
        till = self._context.tills.build(name, values, account, credentials)
        try:
            return await read_recent(till, moment(self._context.store.clock.now()))
        except ConnectorError as error:
            raise _till_unreadable(error) from None
        finally:
            await till.aclose()

    async def recent_receipts_of(self, connection: Connection) -> RecentReceipts:
        """Read a connection's newest receipts; those that arrived here where its till cannot be read back.

        Raises `Refusal`.
        """
        values = self._context.settings_of(connection)
        # A till that only posts cannot be read back: what it has posted so far is the best there is.
        credentials = self._context.tills.credentials_of(connection)
        recent = await self.recent_receipts(connection.connector, values, connection.account, credentials)
        if recent.source != "nothing":
            return recent
        arrived = await self._context.store.read(lambda tx: ledger.sales.newest_closed(tx, connection.id))
        return recent_of(arrived, moment(self._context.store.clock.now()), "hooks")

    async def receipts_of_days(self, connection: Connection, days: Span) -> Sequence[Sale]:
        """List the receipts of some days that have arrived here, at most the newest `MOST_OF_DAYS`."""
        first, last = (start_of_day(day, connection.account.zone) for day in (days.days[0], days.days[-1]))
        since, until = micros(first), micros(last + timedelta(days=1))
        return await self._context.store.read(
            lambda tx: ledger.sales.newest_closed(tx, connection.id, MOST_OF_DAYS, since, until)
        )

    async def poll_soon(self, connection_id: str) -> None:
        """Bring a young connection's next read forward: somebody waits for its first receipt."""
        await self._context.store.write(lambda tx: connections.schedule.poll_soon(tx, connection_id))

    async def count_since_pause(self, connection: Connection) -> PauseCounts | None:
        """Count the receipts that were closed since a pause began.

        `None` where the till cannot be read back, or not within half a minute.
        """
        connector_class = self._context.connector_class(connection.connector)
        if not (connector_class.can("history") or connector_class.can("poll")):
            return None
        versions = await self._rule_versions(connection)
        receipts = operations = 0
        try:
            async with asyncio.timeout(_PAUSE_PATIENCE):
                # what changed since the pause may have been closed before it: only the moment of closing counts
                async for page in self._context.reader.history(connection, moment(connection.health_since)):
                    for sale in page.sales:
                        if _closed_at(sale) >= connection.health_since and connection.covers(sale.location_id):
                            receipts += 1
                            operations += card_operations(sale, _earned(sale, versions, connection))
        except (ConnectorError, TimeoutError):
            return None
        return PauseCounts(receipts, operations)

    async def preview_history(
        self, connection_id: str, since: str, progress: Progress
    ) -> AsyncIterator[PreviewedReceipt]:
        """Yield every receipt since a day with what it would earn; stores and sends nothing. Raises `Refusal`."""
        connection = await self._context.connection(connection_id)
        start, seen = start_of_day(since, connection.account.zone), 0
        versions = await self._rule_versions(connection)
        try:
            async for page in self._context.reader.history(connection, start):
                seen += len(page.sales)
                if page.complete_until is not None:
                    done = _share(start, page.complete_until, self._context.store.clock.now())
                    await progress(ProgressReport(done=done, sales_seen=seen))
                known = await self._known_receipts(connection, page.sales)
                for previewed in _previewed(page, versions, connection):
                    is_known = previewed.sale is not None and previewed.sale.receipt_id in known
                    yield replace(previewed, is_known=is_known)
        except ConnectorError as error:
            raise _till_unreadable(error) from None

    async def _known_receipts(self, connection: Connection, sales: Sequence[Sale]) -> set[str]:
        """Return which receipts count already, by their numbers at the till."""
        business_id, connector, account_id = connection.business_id, connection.connector, connection.account.id

        def read(tx: Transaction) -> set[str]:
            numbers = {
                ledger.sales.sale_id_of(tx, business_id, connector, account_id, sale.receipt_id): sale.receipt_id
                for sale in sales
            }
            parts = in_parts(list(numbers))
            return {numbers[sale_id] for part in parts for sale_id in queries.receipts.admitted_among(tx, part)}

        return await self._context.store.read(read)

    async def previewer(self, connection: Connection) -> Callable[[Sale], PreviewedReceipt]:
        """Return what works out what a receipt of a connection would earn, by the rules as they are now."""
        versions = await self._rule_versions(connection)
        return lambda sale: PreviewedReceipt(sale, _earned(sale, versions, connection))

    async def deliver(self, connection_id: str, began: int) -> SyncResult:
        """Find cards and send what is pending, and count what became of it since a moment. Raises `Refusal`."""
        return await self._deliver(connection_id, began, ReadResult())

    async def _rule_versions(self, connection: Connection) -> list[RuleVersion]:
        return await self._context.store.read(lambda tx: connections.rules.of_connection(tx, connection.id))

    # --- history ----------------------------------------------------------------------------------------------

    async def backfill(self, connection_id: str, since: str, progress: Progress) -> SyncResult:
        """Take in a till's history since a day; receipts from before the connection are admitted. Raises `Refusal`."""
        self._senders()
        connection = await self.require_working(connection_id)
        began = self._context.store.clock.now()
        start = start_of_day(since, connection.account.zone)
        # One ticket for all of it, issued before the first page: a snapshot that arrives while the history is read is
        # newer than whatever the history says of the same receipt.
        ticket = await self._context.store.write(lambda tx: counters.issue_tickets(tx, 1))

        async def report(seen: ReadResult) -> None:
            done = _share(start, seen.at or start, began)
            await progress(ProgressReport(done=done, sales_seen=seen.sales, sales_changed=seen.stored))

        try:
            seen = await self._context.reader.backfill(DueRead(connection, ticket), start, report)
        except (NotSupported, NoConnector, ConnectorError) as error:
            raise Refusal(f"the till cannot be read: {error}; run it again, what was read is kept") from None
        return await self._deliver(connection_id, began, seen)

    async def count_replan(self, connection_id: str, since: str, progress: Progress) -> ReplanCounts:
        """Count what `replan` would change; stores and sends nothing. Raises `Refusal`."""
        connection = await self._context.connection(connection_id)
        return await self._replan_all(connection, since, progress, write=False)

    async def replan(self, connection_id: str, since: str, progress: Progress) -> ReplanResult:
        """Plan receipts closed since a day by the rule as it is now: the only way in which a rule looks back.

        Raises `Refusal`.
        """
        connection = await self._context.connection(connection_id)
        began = self._context.store.clock.now()
        counts = await self._replan_all(connection, since, progress, write=True)
        line = Message("connection.replanned", counts.as_json())
        await self._context.write(lambda tx: ledger.journal.write(tx, connection.id, line))
        delivered = await self._deliver(connection_id, began, ReadResult())
        return ReplanResult(**counts.model_dump(), **delivered.model_dump())

    async def _replan_all(self, connection: Connection, since: str, progress: Progress, *, write: bool) -> ReplanCounts:
        """Replan a connection's receipts since a day, a few hundred a transaction."""
        start = micros(start_of_day(since, connection.account.zone))
        ids = await self._context.store.read(lambda tx: ledger.sales.ids_closed_since(tx, connection.id, start))
        run = self._context.store.write if write else self._context.store.read
        counts = ReplanCounts()
        for sale_ids in in_parts(ids, _REPLANNED_AT_ONCE):
            changes = await run(lambda tx, sale_ids=sale_ids: _replan(tx, connection, sale_ids, write=write))  # type: ignore[misc]
            counts = counts.plus(changes)
            # `sales` is how many there are in all, as it has always been: the share says how many are done
            share = counts.sales / len(ids)
            report = ProgressReport(done=share, sales=len(ids), more=counts.more, fewer=counts.fewer)
            await progress(report)
        return counts


def _replan(tx: Transaction, connection: Connection, sale_ids: Sequence[str], *, write: bool) -> ReplanCounts:
    """Plan some sales by the newest rule and count the stamps more and fewer; without `write` nothing is stored."""
    newest = connections.rules.of_connection(tx, connection.id)[-1]
    batch = SaleBatch.load(tx, sale_ids)
    more = fewer = 0
    # A batch writes nothing before `flush`: a count without writing plans in memory and leaves it at that.
    for row in batch.oldest_first():
        difference = _replan_sale(tx, batch, row, connection, newest)
        more += max(0, difference)
        fewer += max(0, -difference)
    if write:
        batch.flush()
    return ReplanCounts(sales=len(sale_ids), more=more, fewer=fewer)


def _replan_sale(tx: Transaction, batch: SaleBatch, row: SaleRow, connection: Connection, version: RuleVersion) -> int:
    """Plan a sale by a rule version, and return how many stamps more (or, negative, fewer) its customer gets."""
    sale = ledger.sales.newest_content(tx, row)
    earned = entitlement(row, sale, version.rule, connection.zone_of(row.location_id))
    # pinned: from now on this sale's corrections are planned by this version, whatever was in force when it closed
    row.rule_of, row.rule_number, row.pinned = connection.id, version.number, 1
    batch.mark_changed(row)
    if earned.stamps == row.stamps:
        return 0
    # a receipt without a customer earns what nobody gets: it is planned, and not counted
    counts = row.admitted and row.customer_hash is not None
    difference = earned.stamps - row.stamps if counts else 0
    row.stamps = earned.stamps
    is_named = sale.customer is not None and row.customer_hash is not None
    if sale.customer and is_named and not row.identified and row.admitted and row.stamps:
        batch.search_card(row, sale.customer, tx.now)
    plan_sale(batch, row, connection, version.rule, earned.why)
    return difference


def _previewed(page: SalePage, versions: Sequence[RuleVersion], connection: Connection) -> Iterator[PreviewedReceipt]:
    """Yield what a page's receipts at the connection's locations would earn, and those that cannot be read."""
    for sale in page.sales:
        if connection.covers(sale.location_id):
            yield PreviewedReceipt(sale, _earned(sale, versions, connection))
    for unreadable in page.unreadable:
        yield PreviewedReceipt(None, None, unreadable)


def _earned(sale: Sale, versions: Sequence[RuleVersion], connection: Connection) -> Earned:
    """Return what a sale earns by the rule that was in force when it was closed."""
    rule = rule_in_force(versions, _closed_at(sale)).rule
    return stamps_for(sale, rule, connection.zone_of(sale.location_id))


def _closed_at(sale: Sale) -> int:
    """Return when a sale was closed (UTC microseconds); 0 for one that is open."""
    return micros(sale.closed_at) if sale.closed_at else 0


def _till_unreadable(error: ConnectorError) -> Refusal:
    return Refusal("the till cannot be read: {error}", error=str(error))


def _share(start: datetime, reached: datetime, end: int) -> float:
    """Return how much of a stretch of time has been read, from 0 to 1."""
    whole = max(1.0, (moment(end) - start).total_seconds())
    return max(0.0, min(1.0, (reached - start).total_seconds() / whole))


def start_of_day(text: str, zone: str) -> datetime:
    """Return the start of a day (`2026-11-23`) in a zone. Raises `Refusal`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        raise Refusal(f"{text!r} is not a day: write it as 2026-11-23") from None
