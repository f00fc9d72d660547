"""Reading and sending on demand: sync, previews, backfill, replan.

Owns what a person asks for now; what is due by itself is the scheduler's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from connector_sdk.connector import TillAccount
from connector_sdk.errors import ConnectorError, NotSupported
from connector_sdk.messages import Message
from connector_sdk.sale import Sale, Unreadable
from connectors.domain.clock import micros, moment
from connectors.domain.connection import Connection, Health
from connectors.domain.stamps import Earned, rule_in_force, stamps_for
from connectors.services.context import ServiceContext
from connectors.services.refusal import Refusal
from connectors.store import connections, counters, inbox, ledger, queries
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.sync.delivery import Deliverer
from connectors.sync.identification import Identifier
from connectors.sync.planner import entitlement, plan_sale
from connectors.sync.previews import RecentReceipts, card_operations, read_recent, recent_of
from connectors.sync.till_reader import ReadResult
from connectors.sync.tills import NoConnector

_PAUSE_PATIENCE = 30.0
Progress = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Previewed:
    """A receipt of a preview: what it would earn, or why it cannot be read."""

    sale: Sale | None
    earned: Earned | None
    unreadable: Unreadable | None = None


class SyncService:
    """TODO."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def run(self, connection_id: str) -> dict[str, Any]:
        """Poll, look-back, hints and delivery once, now; counts by outcome."""
        self._sender()
        await self._require_working(connection_id)
        began = self._context.store.clock.now()
        seen = ReadResult()
        for turn in await self._context.store.write(lambda tx: connections.schedule.claim_polls(tx, 1, connection_id)):
            seen.add(await self._context.reader.poll(turn))
        for turn in await self._context.store.write(
            lambda tx: connections.schedule.claim_lookbacks(tx, 1, connection_id)
        ):
            seen.add(await self._context.reader.look_back(turn))
        while claimed := await self._context.store.write(lambda tx: inbox.hints.claim(tx, 200, connection_id)):
            seen.add(await self._context.reader.follow_hints(await self._context.connection(connection_id), claimed))
        return await self._deliver(connection_id, began, seen)

    def _sender(self) -> tuple[Identifier, Deliverer]:
        self._context.require_sevenstamp()
        if self._context.identifier is None or self._context.deliverer is None:
            raise Refusal(self._context.without_sevenstamp or "CONNECTORS_SEVENSTAMP_URL is not set")
        return self._context.identifier, self._context.deliverer

    async def _require_working(self, connection_id: str) -> Connection:
        one = await self._context.connection(connection_id)
        if one.health is Health.paused:
            raise Refusal("this connection is paused: resume it first")
        if one.health is Health.needs_authorisation:
            raise Refusal("this connection needs authorisation: give it a new token or key first")
        return one

    async def _deliver(self, connection_id: str, began: int, seen: ReadResult) -> dict[str, Any]:
        identifier, deliverer = self._sender()
        await identifier.round(connection_id)
        await deliverer.resolve(connection_id)
        await deliverer.drain(connection_id)
        if await identifier.round(connection_id):  # a card that was gone is looked for once more
            await deliverer.drain(connection_id)
        counts = await self._context.store.read(lambda tx: queries.operations.counts_by_state(tx, connection_id, began))
        one = await self._context.connection(connection_id)
        result: dict[str, Any] = {"sales_seen": seen.sales, "sales_changed": seen.stored, "operations": counts}
        if one.health not in (Health.active, Health.paused):
            result["status"] = one.health.value
        return result

    async def recent_receipts(self, name: str, values: Mapping[str, Any], account: TillAccount) -> RecentReceipts:
        """An account's newest receipts, read back from the till. Raises `Refusal`."""
        till = self._context.tills.build(name, values, account)
        try:
            return await read_recent(till, moment(self._context.store.clock.now()))
        except ConnectorError as error:
            raise Refusal("the till cannot be read: {error}", error=str(error)) from None
        finally:
            await till.aclose()

    async def recent_receipts_of(self, one: Connection) -> RecentReceipts:
        """The same of a connection; from what has arrived here where its till cannot be read back."""
        found = await self.recent_receipts(one.connector, self._context.settings_of(one), one.account)
        if found.source != "nothing":
            return found
        arrived = await self._context.store.read(lambda tx: ledger.sales.newest_closed(tx, one.id))
        return recent_of(arrived, moment(self._context.store.clock.now()), "hooks")

    async def count_since_pause(self, one: Connection) -> tuple[int, int] | None:
        """How many receipts were closed since a pause began, and how many card operations they would be.

        `None` where the till cannot be read back.
        """
        if not (
            self._context.connector_class(one.connector).can("look_back")
            or self._context.connector_class(one.connector).can("poll")
        ):
            return None
        versions = await self._context.store.read(lambda tx: connections.rules.of_connection(tx, one.id))
        receipts = operations = 0
        try:
            async with asyncio.timeout(_PAUSE_PATIENCE):
                async for page in self._context.reader.history(one, moment(one.health_since)):
                    for sale in page.sales:
                        closed = micros(sale.closed_at) if sale.closed_at else 0
                        if closed >= one.health_since and one.covers(sale.location_id):
                            earned = stamps_for(sale, rule_in_force(versions, closed).rule, one.account.zone)
                            receipts += 1
                            operations += card_operations(sale, earned)
        except (ConnectorError, TimeoutError):
            return None
        return receipts, operations

    async def preview_history(self, connection_id: str, since: str, progress: Progress) -> AsyncIterator[Previewed]:
        """Every receipt since a day with what it would earn; stores and sends nothing. Raises `Refusal`."""
        one = await self._context.connection(connection_id)
        start, seen = start_of_day(since, one.account.zone), 0
        versions = await self._context.store.read(lambda tx: connections.rules.of_connection(tx, one.id))
        try:
            async for page in self._context.reader.history(one, start):
                seen += len(page.sales)
                if page.checkpoint is not None:
                    done = _share(start, page.checkpoint.at, self._context.store.clock.now())
                    await progress({"done": done, "sales_seen": seen})
                for sale in page.sales:
                    if one.covers(sale.location_id):
                        closed = micros(sale.closed_at) if sale.closed_at else 0
                        rule = rule_in_force(versions, closed).rule
                        yield Previewed(sale, stamps_for(sale, rule, one.account.zone))
                for unreadable in page.unreadable:
                    yield Previewed(None, None, unreadable)
        except ConnectorError as error:
            raise Refusal("the till cannot be read: {error}", error=str(error)) from None

    async def backfill(self, connection_id: str, since: str, progress: Progress) -> dict[str, Any]:
        """History through the same door; receipts from before the connection are admitted."""
        self._sender()
        one = await self._require_working(connection_id)
        began = self._context.store.clock.now()
        start = start_of_day(since, one.account.zone)
        ticket = await self._context.store.write(lambda tx: counters.issue_tickets(tx, 1))

        async def tell(seen: ReadResult) -> None:
            done = _share(start, seen.at or start, began)
            await progress({"done": done, "sales_seen": seen.sales, "sales_changed": seen.stored})

        try:
            seen = await self._context.reader.backfill(DueRead(one, ticket), start, tell)
        except (NotSupported, NoConnector, ConnectorError) as error:
            raise Refusal(f"the till cannot be read: {error}; run it again, what was read is kept") from None
        return await self._deliver(connection_id, began, seen)

    async def replan(
        self, connection_id: str, since: str, progress: Progress, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Plan receipts closed since a day by the rule as it is now: the only way in which a rule looks back."""
        one = await self._context.connection(connection_id)
        began = self._context.store.clock.now()
        start = micros(start_of_day(since, one.account.zone))
        ids = await self._context.store.read(lambda tx: ledger.sales.ids_closed_since(tx, one.id, start))
        changes = {"sales": len(ids), "more": 0, "fewer": 0}
        for at in range(0, len(ids), 200):
            some = ids[at : at + 200]

            def work(tx: Transaction, some: Sequence[str] = some) -> tuple[int, int]:
                return _replan(tx, one, some, write=not dry_run)

            more, fewer = await (self._context.store.read(work) if dry_run else self._context.store.write(work))
            changes["more"] += more
            changes["fewer"] += fewer
            await progress({"done": (at + len(some)) / len(ids), **changes})
        if dry_run:
            return changes
        await self._context.write(lambda tx: ledger.journal.write(tx, one.id, Message("connection.replanned", changes)))
        self._sender()
        return changes | await self._deliver(connection_id, began, ReadResult())


def _replan(tx: Transaction, one: Connection, ids: Sequence[str], *, write: bool) -> tuple[int, int]:
    """Stamps more and fewer by the newest rule, for some sales."""
    newest = connections.rules.of_connection(tx, one.id)[-1]
    page = SaleBatch.load(tx, ids)
    more = fewer = 0
    for row in page.oldest_first():
        sale = ledger.sales.newest_content(tx, row)
        earned = entitlement(row, sale, newest.rule, one.account.zone)
        row.rule_of, row.rule_number, row.pinned = one.id, newest.number, 1
        page.mark_changed(row)
        if earned.stamps == row.stamps:
            continue
        if row.admitted and row.customer_hash is not None:
            more += max(0, earned.stamps - row.stamps)
            fewer += max(0, row.stamps - earned.stamps)
        row.stamps = earned.stamps
        if sale.customer and not row.identified and row.admitted and row.stamps:
            page.search_card(row, sale.customer, tx.now)
        plan_sale(page, row, one, newest.rule, earned.why)
    if write:
        page.flush()
    return more, fewer


def _share(start: datetime, reached: datetime, end: int) -> float:
    """How much of a stretch of time has been read, from 0 to 1."""
    whole = max(1.0, (moment(end) - start).total_seconds())
    return max(0.0, min(1.0, (reached - start).total_seconds() / whole))


def start_of_day(text: str, zone: str) -> datetime:
    """The start of a day (`2026-11-23`) in a zone. Raises `Refusal`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        raise Refusal(f"{text!r} is not a day: write it as 2026-11-23") from None
