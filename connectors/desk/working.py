"""Work that is asked for: reading now, previews, history, planning again; here, or as an errand of a running host."""

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
from connector_sdk.redaction import redact
from connector_sdk.sale import Sale, Unreadable
from connectors.desk.ground import Ground
from connectors.desk.refusal import Refusal
from connectors.domain.clock import micros, moment
from connectors.domain.connection import Connection, Health
from connectors.domain.stamps import Earned, rule_in_force, stamps_for
from connectors.store import connections, errands, hints, journal, ledger, outbox, rotation
from connectors.store.connections import Turn
from connectors.store.engine import Transaction
from connectors.store.errands import Errand
from connectors.store.journal import Kept
from connectors.store.ledger import Page
from connectors.sync.delivering import Deliverer
from connectors.sync.identifying import Identifier
from connectors.sync.ingest import entitlement
from connectors.sync.planner import plan_sale
from connectors.sync.previewing import Recent, card_operations, read_recent, recent_of
from connectors.sync.reading import Seen
from connectors.sync.tills import NoConnector

_PAUSE_PATIENCE = 30.0

Progress = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Previewed:
    """A receipt of a preview: what it would earn, or why it cannot be read."""

    sale: Sale | None
    earned: Earned | None
    unreadable: Unreadable | None = None


class Working(Ground):
    """Reading and sending on demand."""

    def _sender(self) -> tuple[Identifier, Deliverer]:
        self.needs_sevenstamp()
        if self._identifier is None or self._deliverer is None:
            raise Refusal(self._without_sevenstamp or "CONNECTORS_SEVENSTAMP_URL is not set")
        return self._identifier, self._deliverer

    async def _working(self, connection_id: str) -> Connection:
        one = await self.get(connection_id)
        if one.health is Health.paused:
            raise Refusal("this connection is paused: resume it first")
        if one.health is Health.needs_authorisation:
            raise Refusal("this connection needs authorisation: give it a new token or key first")
        return one

    async def sync(self, connection_id: str) -> dict[str, Any]:
        """Poll, look-back, hints and delivery once, now; counts by outcome."""
        self._sender()
        await self._working(connection_id)
        began = self._store.clock.now()
        seen = Seen()
        for turn in await self._store.write(lambda tx: connections.due_polls(tx, 1, connection_id)):
            seen.add(await self._reader.poll(turn))
        for turn in await self._store.write(lambda tx: connections.due_lookbacks(tx, 1, connection_id)):
            seen.add(await self._reader.look_back(turn))
        while claimed := await self._store.write(lambda tx: hints.claim(tx, 200, connection_id)):
            seen.add(await self._reader.follow(await self.get(connection_id), claimed))
        return await self._deliver(connection_id, began, seen)

    async def _deliver(self, connection_id: str, began: int, seen: Seen) -> dict[str, Any]:
        identifier, deliverer = self._sender()
        await identifier.round(connection_id)
        await deliverer.resolve(connection_id)
        await deliverer.drain(connection_id)
        if await identifier.round(connection_id):  # a card that was gone is looked for once more
            await deliverer.drain(connection_id)
        counts = await self._store.read(lambda tx: outbox.counts(tx, connection_id, began))
        one = await self.get(connection_id)
        result: dict[str, Any] = {"sales_seen": seen.sales, "sales_changed": seen.stored, "operations": counts}
        if one.health not in (Health.active, Health.paused):
            result["status"] = one.health.value
        return result

    async def unread(self, connection_id: str, limit: int = 200) -> list[Kept]:
        """What arrived and could not be read, newest first, less what a later reading of the till has overtaken."""
        one = await self.get(connection_id)
        return await self._store.read(lambda tx: journal.unread(tx, one, limit))

    async def try_again(self, connection_id: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """Read what was kept (of all that waits, by default) with the connection as it is now; counts."""
        one = await self.get(connection_id)
        wanted = await self._store.read(lambda tx: journal.unread_ids(tx, one)) if ids is None else ids
        try:
            again = await self._hooks.try_again(one, wanted)
        except NoConnector as error:
            raise Refusal(str(error)) from None
        return {"read": again.read, "still_unread": again.still, "asked": again.asked}

    async def unread_body(self, connection_id: str, name: str) -> bytes:
        """What arrived, as it came, by its id or the beginning of that. Raises `Refusal`."""
        found = await self._named_unread(connection_id, name)
        kept = await self._store.read(lambda tx: journal.kept_bodies(tx, connection_id, [found]))
        return next(one.body for one in kept if one.id == found)

    async def _named_unread(self, connection_id: str, name: str) -> str:
        one = await self.get(connection_id)
        ids = await self._store.read(lambda tx: journal.unread_ids(tx, one))
        fitting = [found for found in ids if found.startswith(name)] if name else []
        if len(fitting) != 1:
            raise Refusal("there is no '{name}' among what could not be read: see `connectors unread`", name=name)
        return fitting[0]

    async def leave_unread(self, connection_id: str, ids: Sequence[str]) -> int:
        """Forget what was kept and is no sale, by ids or their beginnings; how many there were. Raises `Refusal`."""
        one = await self.get(connection_id)
        ids = [await self._named_unread(one.id, name) for name in ids]
        return await self._write(lambda tx: self._left(tx, one, ids))

    @staticmethod
    def _left(tx: Transaction, one: Connection, ids: Sequence[str]) -> int:
        number = journal.let_go(tx, one.id, ids)
        if number:
            journal.note(tx, one.id, Message("hook.left", {"count": number}))
        return number

    async def recent(self, name: str, values: Mapping[str, Any], account: TillAccount) -> Recent:
        """An account's newest receipts, read back from the till. Raises `Refusal`."""
        till = self._tills.build(name, values, account)
        try:
            return await read_recent(till, moment(self._store.clock.now()))
        except ConnectorError as error:
            raise Refusal("the till cannot be read: {error}", error=str(error)) from None
        finally:
            await till.aclose()

    async def recent_of(self, one: Connection) -> Recent:
        """The same of a connection; from what has arrived here where its till cannot be read back."""
        found = await self.recent(one.connector, self.settings_of(one), one.account)
        if found.source != "nothing":
            return found
        arrived = await self._store.read(lambda tx: ledger.newest(tx, one.id))
        return recent_of(arrived, moment(self._store.clock.now()), "hooks")

    async def pause_so_far(self, one: Connection) -> tuple[int, int] | None:
        """How many receipts were closed since a pause began, and how many card operations they would be.

        `None` where the till cannot be read back.
        """
        if not (self.connector(one.connector).can("look_back") or self.connector(one.connector).can("poll")):
            return None
        versions = await self._store.read(lambda tx: connections.rules(tx, one.id))
        receipts = operations = 0
        try:
            async with asyncio.timeout(_PAUSE_PATIENCE):
                async for page in self._reader.history(one, moment(one.health_since)):
                    for sale in page.sales:
                        closed = micros(sale.closed_at) if sale.closed_at else 0
                        if closed >= one.health_since and one.covers(sale.location_id):
                            earned = stamps_for(sale, rule_in_force(versions, closed).rule, one.account.zone)
                            receipts += 1
                            operations += card_operations(sale, earned)
        except (ConnectorError, TimeoutError):
            return None
        return receipts, operations

    async def history(self, connection_id: str, since: str, progress: Progress) -> AsyncIterator[Previewed]:
        """Every receipt since a day with what it would earn; stores and sends nothing. Raises `Refusal`."""
        one = await self.get(connection_id)
        start, seen = day(since, one.account.zone), 0
        versions = await self._store.read(lambda tx: connections.rules(tx, one.id))
        try:
            async for page in self._reader.history(one, start):
                seen += len(page.sales)
                if page.checkpoint is not None:
                    done = _share(start, page.checkpoint.at, self._store.clock.now())
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
        one = await self._working(connection_id)
        began = self._store.clock.now()
        start = day(since, one.account.zone)
        ticket = await self._store.write(lambda tx: ledger.tickets(tx, 1))

        async def tell(seen: Seen) -> None:
            done = _share(start, seen.at or start, began)
            await progress({"done": done, "sales_seen": seen.sales, "sales_changed": seen.stored})

        try:
            seen = await self._reader.backfill(Turn(one, ticket), start, tell)
        except (NotSupported, NoConnector, ConnectorError) as error:
            raise Refusal(f"the till cannot be read: {error}; run it again, what was read is kept") from None
        return await self._deliver(connection_id, began, seen)

    async def replan(
        self, connection_id: str, since: str, progress: Progress, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Plan receipts closed since a day by the rule as it is now: the only way in which a rule looks back."""
        one = await self.get(connection_id)
        began = self._store.clock.now()
        start = micros(day(since, one.account.zone))
        ids = await self._store.read(lambda tx: ledger.sales_closed_since(tx, one.id, start))
        changes = {"sales": len(ids), "more": 0, "fewer": 0}
        for at in range(0, len(ids), 200):
            some = ids[at : at + 200]

            def work(tx: Transaction, some: Sequence[str] = some) -> tuple[int, int]:
                return _replan(tx, one, some, write=not dry_run)

            more, fewer = await (self._store.read(work) if dry_run else self._store.write(work))
            changes["more"] += more
            changes["fewer"] += fewer
            await progress({"done": (at + len(some)) / len(ids), **changes})
        if dry_run:
            return changes
        await self._write(lambda tx: journal.note(tx, one.id, Message("connection.replanned", changes)))
        self._sender()
        return changes | await self._deliver(connection_id, began, Seen())

    async def rotate_keys(self, progress: Progress) -> dict[str, Any]:
        """Encrypt everything with a newer key, or go on; who asks meanwhile shares it. Raises `StoreError`."""
        shown = -1.0

        async def tell(done: int, total: int) -> None:
            nonlocal shown
            share = done / total if total else 1.0
            if share >= shown + 0.01:  # where a host does it, each is written down
                shown = share
                await progress({"done": share, "encrypted": done})

        shares = self._rotation.locked()
        async with self._rotation:
            if not shares or self._rotated is None:
                self._rotated = None
                rotated = await rotation.rotate(self._store, tell)
                self._rotated = {
                    "key": rotated.key_id,
                    "encrypted": rotated.encrypted,
                    "unreadable": rotated.unreadable,
                    "former_keys": "yours to remove" if rotated.by_hand else "removed",
                }
            return self._rotated

    async def perform(
        self, kind: str, connection_id: str, params: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """One of the works that a command may leave to a running host."""
        match kind:
            case "sync":
                return await self.sync(connection_id)
            case "backfill":
                return await self.backfill(connection_id, str(params["since"]), progress)
            case "try_again":
                return await self.try_again(connection_id, params.get("ids"))
            case "replan":
                return await self.replan(connection_id, str(params["since"]), progress)
            case "rotate":
                return await self.rotate_keys(progress)
        raise Refusal(f"there is no errand {kind!r}")

    async def claim_errands(self) -> list[Errand]:
        """Take what commands asked for."""
        if not await self._store.read(errands.any_asked):
            return []
        return await self._store.write(errands.claim)

    async def do_errand(self, errand: Errand) -> None:
        """Do one errand and leave its result for whoever waits."""

        async def progress(now: Mapping[str, Any]) -> None:
            await self._store.write(lambda tx: errands.progress(tx, errand.id, now))

        try:
            result = await self.perform(errand.kind, errand.connection_id, errand.params, progress)
            state = "done"
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            result, state = {"error": redact(str(error) or type(error).__name__)}, "failed"
        await self._store.write(lambda tx: errands.finish(tx, errand.id, state, result))


def _replan(tx: Transaction, one: Connection, ids: Sequence[str], *, write: bool) -> tuple[int, int]:
    """Stamps more and fewer by the newest rule, for some sales."""
    newest = connections.rules(tx, one.id)[-1]
    page = Page.load(tx, ids)
    more = fewer = 0
    for row in page.oldest_first():
        sale = ledger.content(tx, row)
        earned = entitlement(row, sale, newest.rule, one.account.zone)
        row.rule_of, row.rule_number, row.pinned = one.id, newest.number, 1
        page.changed(row)
        if earned.stamps == row.stamps:
            continue
        if row.admitted and row.customer_hash is not None:
            more += max(0, earned.stamps - row.stamps)
            fewer += max(0, row.stamps - earned.stamps)
        row.stamps = earned.stamps
        if sale.customer and not row.identified and row.admitted and row.stamps:
            page.identify_later(row, sale.customer, tx.now)
        plan_sale(page, row, one, newest.rule, earned.why)
    if write:
        page.flush()
    return more, fewer


def _share(start: datetime, reached: datetime, end: int) -> float:
    """How much of a stretch of time has been read, from 0 to 1."""
    whole = max(1.0, (moment(end) - start).total_seconds())
    return max(0.0, min(1.0, (reached - start).total_seconds() / whole))


def day(text: str, zone: str) -> datetime:
    """The start of a day (`2026-11-23`) in a zone. Raises `Refusal`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        raise Refusal(f"{text!r} is not a day: write it as 2026-11-23") from None
