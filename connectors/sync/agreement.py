"""Agreement: compares till, ledger and cards of some days, mends what is certain and lists what needs a person.

Owns the order of a comparison, how far it has come, and its bound on calls; which differences there are is decided in
`connectors.domain.agreement`. Mending goes by the ordinary doors: a receipt is ingested, what the card has is settled,
and what it does not have is put in doubt, so that its history is read once more before it is sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from connector_sdk.errors import ConnectorError, NotSupported
from connector_sdk.messages import Message
from connectors.domain.agreement import (
    Days,
    Difference,
    DifferenceKind,
    Shown,
    absence,
    compare,
    last_days,
    next_night,
)
from connectors.domain.clock import HOUR, MINUTE, micros
from connectors.domain.connection import WORKING, Connection, Health
from connectors.domain.events import ReconciliationDiffers
from connectors.domain.operation import IN_DOUBT, Kind, State
from connectors.sevenstamp.client import (
    Applied,
    Refused,
    SevenStamp,
    SevenStampClient,
    SevenStampError,
)
from connectors.sevenstamp.models import HistoryEvent
from connectors.store import connections, counters, ledger
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Store, Transaction
from connectors.store.ledger.agreements import Agreement, Scope
from connectors.store.ledger.operations import Operation
from connectors.sync.doubt_resolution import Timing, recorded_outcome
from connectors.sync.health import report_key_failure
from connectors.sync.settlement import Answer, settle
from connectors.sync.till_reader import TillReader
from connectors.sync.tills import NoConnector

log = logging.getLogger(__name__)

_LANES_AT_ONCE = 20
_CALLS_AT_ONCE = 300
"""So many calls one turn of a night makes of a connection; the rest comes ten minutes later."""
_NEXT_TURN = 10 * MINUTE
_LEASE = HOUR
_UNDER_WAY = 16

Told = Callable[[float], Awaitable[None]]
"""Told how far a comparison has come, from 0 to 1."""


async def _tell_nobody(_done: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What 7stamp shows of one card or voucher, as of `began` (UTC microseconds)."""

    lane: str
    operations: Sequence[Operation]
    began: int
    shown: dict[str, Shown]
    """Operation id → what is shown of it; without those of a card that is gone."""
    other_use: frozenset[str] = frozenset()
    """The ids of redemptions whose voucher somebody else used."""
    events: Sequence[HistoryEvent] = ()
    card_id: str | None = None


class Reconciler:
    """Compares connections: at night by itself, and whenever somebody asks."""

    def __init__(self, store: Store, reader: TillReader, sevenstamp: SevenStamp, timing: Timing) -> None:
        self._store = store
        self._reader = reader
        self._sevenstamp = sevenstamp
        self._timing = timing
        self._under_way: set[str] = set()

    # At night

    async def due(self) -> list[Connection]:
        """Lease the connections whose night has come, as many as have a place; `night` compares each."""
        free = _UNDER_WAY - len(self._under_way)
        if free <= 0 or not await self._store.read(lambda tx: ledger.agreements.due(tx, 1, self._under_way)):
            return []
        leased = await self._store.write(lambda tx: _lease(tx, free, self._under_way))
        self._under_way |= {connection.id for connection in leased}
        return leased

    async def lease(self, connection_id: str) -> Connection | None:
        """Lease a connection whose night has come; `None` where it has not, or somebody else compares it."""
        leased = await self._store.write(lambda tx: _lease(tx, 1, self._under_way, connection_id))
        self._under_way |= {connection.id for connection in leased}
        return leased[0] if leased else None

    async def night(self, connection: Connection) -> None:
        """Compare a connection as far as one turn goes; what fails comes again within the hour."""
        try:
            await self.run(connection, most_calls=_CALLS_AT_ONCE)
        except (ConnectorError, NoConnector, SevenStampError) as error:
            log.info("agreement of %s: %s; it goes on later", connection.id, type(error).__name__)
        finally:
            self._under_way.discard(connection.id)

    # One comparison

    async def run(
        self,
        connection: Connection,
        days: Days | None = None,
        *,
        most_calls: int | None = None,
        tell: Told = _tell_nobody,
    ) -> Agreement:
        """Compare some days (the last ended business days), or go on with what was interrupted.

        With `most_calls` it may end unfinished. Raises `ConnectorError`, `NoConnector` and `SevenStampError`; what was
        compared until then is kept, and the next run goes on from there.
        """
        agreement = await self._begun(connection, days)
        zone = _zone(connection)
        scope = Scope(connection.id, micros(agreement.days.start(zone)), micros(agreement.days.end(zone)))
        if agreement.position is None:
            agreement = await self._compare_till(connection, agreement, scope)
        return await self._compare_cards(connection, agreement, scope, most_calls, tell)

    async def _begun(self, connection: Connection, days: Days | None) -> Agreement:
        """Return the comparison that was interrupted, where it is of these days; or else a new one."""
        last = await self._store.read(lambda tx: ledger.agreements.find(tx, connection.id))
        if last is not None and last.finished_at is None and days in (None, last.days):
            return last
        now = self._store.clock.now()
        agreement = Agreement(connection.id, days or last_days(now, _zone(connection)), now)
        await self._store.write(lambda tx: ledger.agreements.save(tx, agreement, tx.now + _LEASE))
        return agreement

    async def _compare_till(self, connection: Connection, agreement: Agreement, scope: Scope) -> Agreement:
        """Read the till's days once more, and compare its receipts with the ledger's."""
        before = await self._store.read(lambda tx: ledger.agreements.receipts(tx, scope))
        ticket = await self._store.write(lambda tx: counters.issue_tickets(tx, 1))
        try:
            read = await self._reader.read_again(DueRead(connection, ticket), agreement.days.start(_zone(connection)))
        except NotSupported:
            ledger_only = replace(agreement, position="")
            return await self._store.write(lambda tx: _keep(tx, ledger_only, ()))

        def work(tx: Transaction) -> Agreement:
            receipts = ledger.agreements.receipts(tx, scope)
            found = [
                _about(DifferenceKind.changed_unseen, receipt_id, receipts[receipt_id].sale_id)
                for receipt_id in sorted(read.changed & receipts.keys())
            ]
            # only of those that were there before: one that a hook brought meanwhile is younger than the reading
            found += [
                _about(DifferenceKind.not_at_till, receipt_id, receipt.sale_id)
                for receipt_id, receipt in sorted(before.items())
                if receipt.counts and receipt_id not in read.receipts
            ]
            return _keep(tx, replace(agreement, position="", till_read=True), found)

        return await self._store.write(work)

    async def _compare_cards(
        self, connection: Connection, agreement: Agreement, scope: Scope, most_calls: int | None, tell: Told
    ) -> Agreement:
        """Compare one card, or voucher, after the other; one call is on the way at any time."""
        client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
        total = await self._store.read(lambda tx: ledger.agreements.count_lanes(tx, scope))
        calls, done = agreement.calls, 0
        while True:
            after = agreement.position or ""
            lanes = await self._store.read(
                lambda tx, after=after: ledger.agreements.lanes(tx, scope, after, _LANES_AT_ONCE)  # type: ignore[misc]
            )
            if not lanes:
                return await self._store.write(lambda tx, ended=agreement: _finish(tx, connection, ended, scope))  # type: ignore[misc]
            for lane in lanes:
                if most_calls is not None and agreement.calls - calls >= most_calls:
                    return agreement
                agreement = await self._compare_lane(connection, client, agreement, scope, lane)
                done += 1
                await tell(min(1.0, done / max(1, total)))

    async def _compare_lane(
        self, connection: Connection, client: SevenStampClient, agreement: Agreement, scope: Scope, lane: str
    ) -> Agreement:
        # before the call, as when a doubt is settled: it proves an absence only as of the moment it was asked for
        operations = await self._store.read(lambda tx: ledger.agreements.operations(tx, scope, [lane]))
        began = self._store.clock.now()
        try:
            reading = await _read(client, lane, operations, began)
        except SevenStampError as error:
            failure = error
            await self._store.write(lambda tx: report_key_failure(tx, connection.key_hash, failure))
            raise
        calls = 1 if reading.card_id is not None else len(reading.operations)
        counted = replace(agreement, position=lane, calls=agreement.calls + calls)

        def work(tx: Transaction) -> Agreement:
            return _keep(tx, counted, _compare_reading(tx, connection, scope, reading, self._timing))

        return await self._store.write(work)


def _zone(connection: Connection) -> str:
    """Return the zone by whose days and nights a connection is compared: of its (first) venue."""
    return connection.zone_of(connection.scope[0] if connection.scope else None)


def _night_of(connection: Connection, now: int) -> int:
    return next_night(now, _zone(connection), int.from_bytes(connection.id.encode()[-4:], "big"))


def _lease(tx: Transaction, limit: int, without: set[str], only: str | None = None) -> list[Connection]:
    due = ledger.agreements.due(tx, limit, without, only)
    known = connections.registry.by_ids(tx, list(due))
    leased: list[Connection] = []
    for connection_id, due_at in due.items():
        connection = known.get(connection_id)
        if connection is None or connection.health is Health.removed:
            ledger.agreements.unschedule(tx, connection_id)
        elif due_at == 0 or connection.health not in WORKING:
            # not planned yet, or stopped: its night comes again
            ledger.agreements.schedule(tx, connection_id, _night_of(connection, tx.now))
        else:
            # if this host dies, it goes on within the hour
            ledger.agreements.schedule(tx, connection_id, tx.now + _LEASE)
            leased.append(connection)
    return leased


# Reading 7stamp


async def _read(client: SevenStampClient, lane: str, operations: Sequence[Operation], began: int) -> _Reading:
    """Ask 7stamp what it shows of a card's operations, or of a voucher's. Raises `SevenStampError`."""
    if any(operation.kind is Kind.voucher_redeemed for operation in operations):
        return await _read_voucher(client, lane, operations, began)
    card_id = next(operation.card_id for operation in operations if operation.card_id is not None)
    try:
        events = await client.history(card_id)
    except Refused as refusal:
        if (refusal.status, refusal.code) != (404, "card_not_found"):
            raise
        return _Reading(lane, operations, began, {}, card_id=card_id)  # gone, with whatever was on it
    stamps = {event.code: event.stamps for event in events if event.code is not None}
    shown = {
        operation.id: Shown(operation.code in stamps, stamps.get(operation.code))
        for operation in operations
        if operation.card_id == card_id
    }
    return _Reading(lane, operations, began, shown, events=events, card_id=card_id)


async def _read_voucher(client: SevenStampClient, lane: str, operations: Sequence[Operation], began: int) -> _Reading:
    shown: dict[str, Shown] = {}
    others: set[str] = set()
    for operation in operations:
        match await recorded_outcome(client, operation):
            case Refused():
                others.add(operation.id)
            case outcome:
                shown[operation.id] = Shown(isinstance(outcome, Applied))
    return _Reading(lane, operations, began, shown, frozenset(others))


# Comparing and mending


def _compare_reading(
    tx: Transaction, connection: Connection, scope: Scope, reading: _Reading, timing: Timing
) -> list[Difference]:
    """Compare a reading with the ledger, mend what is certain, and return what differed."""
    found: list[Difference] = []
    for operation in reading.operations:
        kind = _difference(tx, operation, reading, timing)
        if kind is not None and _mend(tx, connection, operation, kind):
            found.append(_about(kind, operation.receipt_id, operation.sale_id, operation))
    return found + _foreign(tx, connection, scope, reading)


def _difference(tx: Transaction, operation: Operation, reading: _Reading, timing: Timing) -> DifferenceKind | None:
    if operation.id in reading.other_use:
        return DifferenceKind.other_use if operation.state is State.applied else None
    shown = reading.shown.get(operation.id)
    if shown is None:
        return None  # of a card that is gone
    sent_again = not shown.there and _was_sent_again(tx, operation)
    absent = absence(operation.sent_at or 0, timing.horizon(operation.sent_at), reading.began, sent_again=sent_again)
    return compare(operation.state, operation.count, shown, absent)


def _was_sent_again(tx: Transaction, operation: Operation) -> bool:
    """Say whether a comparison has put an operation in doubt before: what 7stamp loses twice is for a person."""
    lines = ledger.journal.of_sale(tx, operation.sale_id)
    return any(
        line.message.id == f"agreement.{DifferenceKind.not_on_card}"
        and line.message.params.get("operation") == operation.code
        for line in lines
    )


def _mend(tx: Transaction, connection: Connection, operation: Operation, kind: DifferenceKind) -> bool:
    """Mend a difference where that is certain; return whether it is one still, now that nobody else writes."""
    match kind:
        case DifferenceKind.unrecorded if operation.state in IN_DOUBT:
            settle(tx, [Answer(operation, Applied({}), connection.key_hash)])
            return True
        case DifferenceKind.unrecorded:
            return ledger.operations.record_applied(tx, operation)
        case DifferenceKind.not_on_card:
            return ledger.operations.doubt_again(tx, operation)
    return True


def _foreign(tx: Transaction, connection: Connection, scope: Scope, reading: _Reading) -> list[Difference]:
    """List what a card has of this till's receipts of these days and the ledger does not know, or has elsewhere."""
    prefix, found = connection.receipt_prefix, list[Difference]()
    compared = {operation.code for operation in reading.operations}
    for event in reading.events:
        code = event.code or ""
        if code in compared or not code.startswith(prefix) or not scope.start <= micros(event.at) < scope.end:
            continue
        receipt_id = code.removeprefix(prefix).rpartition(":")[0]
        sale_id = ledger.sales.sale_id_of(
            tx, connection.business_id, connection.connector, connection.account.id, receipt_id
        )
        operation = ledger.agreements.find_by_code(tx, sale_id, code)
        if operation is None:
            found.append(_about(DifferenceKind.unknown, receipt_id, sale_id, count=abs(event.stamps)))
        elif operation.card_id != reading.card_id:
            found.append(_about(DifferenceKind.other_card, receipt_id, sale_id, operation))
    return found


def _about(
    kind: DifferenceKind, receipt_id: str, sale_id: str, operation: Operation | None = None, count: int = 0
) -> Difference:
    params: dict[str, object] = {"receipt": receipt_id}
    if operation is not None:
        params |= {"count": operation.count, "operation": operation.code}
    elif count:
        params["count"] = count
    return Difference(kind, receipt_id, sale_id, Message(f"agreement.{kind}", params))


def _keep(tx: Transaction, agreement: Agreement, found: Sequence[Difference]) -> Agreement:
    """Write down how far a comparison has come and what it found, with a line for each receipt that has none yet."""
    for difference in found:
        lines = ledger.journal.of_sale(tx, difference.sale_id) if difference.sale_id else []
        if all(line.message != difference.message for line in lines):
            ledger.journal.write(
                tx, agreement.connection_id, difference.message, difference.receipt_id, sale_id=difference.sale_id
            )
    agreement = agreement.with_differences(found)
    ledger.agreements.save(tx, agreement, tx.now + _NEXT_TURN)
    return agreement


def _finish(tx: Transaction, connection: Connection, agreement: Agreement, scope: Scope) -> Agreement:
    """End a comparison: one line says what came of it, and subscribers hear of differences."""
    receipts = sum(receipt.counts for receipt in ledger.agreements.receipts(tx, scope).values())
    agreement = replace(agreement, finished_at=tx.now, receipts=receipts)
    ledger.agreements.save(tx, agreement, _night_of(connection, tx.now))
    ledger.journal.write(tx, connection.id, outcome_message(agreement))
    if agreement.mended or agreement.still_open:
        days = agreement.days.each()
        tx.events.append(
            ReconciliationDiffers(connection.facts(), days, receipts, agreement.mended, agreement.still_open)
        )
    return agreement


def outcome_message(agreement: Agreement) -> Message:
    """Say what a comparison came to."""
    params: dict[str, object] = {
        "count": agreement.receipts,
        "first": date.fromisoformat(agreement.days.first),
        "last": date.fromisoformat(agreement.days.last),
    }
    if agreement.mended or agreement.still_open:
        return Message("agreement.differs", params | {"mended": agreement.mended, "open": agreement.still_open})
    return Message("agreement.agrees" if agreement.till_read else "agreement.agrees_without_till", params)
