"""Loyalty effects: what an event of 7stamp settles, releases and makes known here.

Owns which event does what; an event that is out of order or years late changes nothing newer. Afterwards connectors and
plugins are told, from disk and again where one fails, and never in the way of stamps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from connector_sdk.loyalty import (
    CardIssued,
    CardSaved,
    LoyaltyEvent,
    StampAdded,
    VoucherExpired,
    VoucherIssued,
    VoucherRedeemed,
)
from connectors.domain.clock import SECOND, micros
from connectors.domain.connection import WORKING, Connection
from connectors.domain.events import Wakeup
from connectors.domain.operation import Kind
from connectors.domain.person import Reference, parse_phone
from connectors.sevenstamp.client import Applied, Refused, SevenStamp, SevenStampError
from connectors.store import connections, counters, inbox, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.loyalty_events import Stage, StoredEvent
from connectors.store.ledger.voucher_states import VoucherState
from connectors.sync.settlement import Answer, settle
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

UNKNOWN_CARDS = "events of 7stamp for cards we do not know"
"""The counter of events for cards, or businesses, that the ledger does not know."""

PluginCall = Callable[[LoyaltyEvent, Collection[str]], Awaitable[Mapping[str, bool]]]
"""Tells plugins of an event, but those of these names; maps each one's name to whether it took it."""

_AT_ONCE = 200
_TOLD_AT_ONCE = 16
_CALL_SECONDS = 10.0
"""How long a connector may take to hear of an event."""
_READ_PAUSES = (5, 30, 120, 600)
_TELL_PAUSES = (60, 300, 1800, 7200, 21600)
"""Seconds before a card is read again, or a connector told again; after the last of them it is given up."""
_OF_PLUGIN = "plugin "
"""Stands before a plugin's name among those who have heard of an event; connections stand there by their ids."""


class LoyaltyEffects:
    """Lets the events that arrived take effect, and tells of them."""

    def __init__(self, store: Store, tills: Tills, sevenstamp: SevenStamp, call_plugins: PluginCall) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp
        self._call_plugins = call_plugins

    # What an event does here

    async def round(self) -> int:
        """Let events that are due take effect, oldest first; return how many those were."""
        events = await self._store.write(lambda tx: inbox.loyalty_events.lease(tx, Stage.arrived, _AT_ONCE))
        await asyncio.gather(*(self._take_effect(event) for event in events))
        return len(events)

    async def _take_effect(self, stored: StoredEvent) -> None:
        event = stored.event
        if event is None:
            return
        try:
            names = await self._names_of(stored.business_id, event)
        except SevenStampError as error:
            await self._read_later(stored, error)
            return
        await self._store.gather(_apply_all, (stored, names))

    async def _names_of(self, business_id: str, event: LoyaltyEvent) -> Sequence[Reference]:
        """Return the names by which sales may wait for a new card; 7stamp is asked where the event has none.

        Raises `SevenStampError`.
        """
        if not isinstance(event, CardIssued | CardSaved) or not _is_of(event, business_id):
            return ()
        customer, card_id = event.customer, event.card.id
        phone, email, number = customer.phone, customer.email, event.card.number
        if not (phone or email) and card_id is not None:
            connection = await self._store.read(lambda tx: _working_connection(tx, business_id))
            if connection is None:
                return ()
            client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
            try:
                card = await client.card(card_id)
            except Refused:
                return ()  # gone already
            phone, email, number = card.customer.phone, card.customer.email, card.number
        return _references(phone, email, number)

    async def _read_later(self, stored: StoredEvent, error: SevenStampError) -> None:
        """Come back to an event whose card could not be read; in the end the search's own pauses find the card."""
        if stored.attempts >= len(_READ_PAUSES):
            log.warning("event %s: its card could not be read: %s", stored.event_id, type(error).__name__)
            await self._store.gather(_apply_all, (stored, ()))
            return
        pause = _READ_PAUSES[stored.attempts] * SECOND
        await self._store.write(lambda tx: inbox.loyalty_events.try_later(tx, stored, tx.now + pause))

    # Whom it is told

    async def tell_round(self) -> int:
        """Tell connectors and plugins of events that are due, oldest first; return how many those were."""
        events = await self._store.write(lambda tx: inbox.loyalty_events.lease(tx, Stage.settled, _AT_ONCE))
        slots = asyncio.Semaphore(_TOLD_AT_ONCE)

        async def tell(event: StoredEvent) -> None:
            async with slots:
                await self._tell(event)

        # each event by itself: a connector that hangs delays the others by a place of sixteen, and for ten seconds
        await asyncio.gather(*(tell(event) for event in events))
        return len(events)

    async def _tell(self, stored: StoredEvent) -> None:
        event = stored.event
        if event is None:
            return
        known = {name.removeprefix(_OF_PLUGIN) for name in stored.told if name.startswith(_OF_PLUGIN)}
        took = {f"{_OF_PLUGIN}{name}": did for name, did in (await self._call_plugins(event, known)).items()}
        for connection in await self._store.read(lambda tx: _working_connections(tx, stored.business_id)):
            if connection.id not in stored.told:
                took[connection.id] = await self._tell_connector(connection, event)
        told = {name for name, did in took.items() if did}
        await self._store.write(lambda tx: _conclude_telling(tx, stored, told, failed=len(told) < len(took)))

    async def _tell_connector(self, connection: Connection, event: LoyaltyEvent) -> bool:
        """Tell one connection's connector; say whether that is done with."""
        connector_class = self._tills.classes.get(connection.connector)
        if connector_class is None or not connector_class.can("on_loyalty_event"):
            return True
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                await self._tills.of(connection).on_loyalty_event(event)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and stamps go on
            log.warning("connection %s: on_loyalty_event raised %s", connection.id, type(error).__name__)
            return False
        return True


def _is_of(event: LoyaltyEvent, business_id: str) -> bool:
    """Say whether an event is of the business at whose address it came; one that names none is."""
    return event.business_id in ("", business_id)


def _references(phone: str | None, email: str | None, number: str | None) -> list[Reference]:
    e164 = parse_phone(phone, None) if phone else None
    names = (("phone", e164), ("email", email.strip().lower() if email else None), ("number", number))
    return [Reference(kind, value) for kind, value in names if value]


def _working_connections(tx: Transaction, business_id: str) -> list[Connection]:
    connected = connections.registry.all_of_business(tx, business_id)
    return [connection for connection in connected if connection.health in WORKING]


def _working_connection(tx: Transaction, business_id: str) -> Connection | None:
    return next(iter(_working_connections(tx, business_id)), None)


def _apply_all(tx: Transaction, items: Sequence[tuple[StoredEvent, Sequence[Reference]]]) -> list[None]:
    """Let events take effect, those of many in one transaction."""
    for stored, names in items:
        if stored.event is not None and inbox.loyalty_events.move_on(tx, stored, Stage.settled):
            _apply(tx, stored.business_id, stored.event, names)
    return [None] * len(items)


def _apply(tx: Transaction, business_id: str, event: LoyaltyEvent, names: Sequence[Reference]) -> None:
    if not _is_of(event, business_id):
        return  # of another business than its address is of: kept, and of no effect
    match event:
        case CardIssued() | CardSaved():
            ledger.card_searches.wake(tx, business_id, ledger.cards.customers_named(tx, business_id, names))
        case StampAdded(code=str(code)):
            _settle_applied(tx, business_id, code, Kind.stamps_added)
        case VoucherRedeemed(code=str(code)):
            _settle_applied(tx, business_id, code, Kind.voucher_redeemed)
    if isinstance(event, VoucherIssued | VoucherRedeemed | VoucherExpired):
        _record_voucher(tx, business_id, event)


def _settle_applied(tx: Transaction, business_id: str, code: str, kind: Kind) -> None:
    """Settle an operation whose answer was lost, or is still to come: 7stamp tells that it was applied.

    One that is on the wire is settled as well: its code is of this operation alone, and what its sender hears later is
    about a try that is settled already.
    """
    operation = ledger.operations.find_in_doubt(tx, business_id, code)
    if operation is None or operation.kind is not kind:
        return
    settle(tx, [Answer(operation, Applied({}), "")])
    tx.wakeups.add(Wakeup.deliver)  # what waited behind it may go out


def _record_voucher(tx: Transaction, business_id: str, event: VoucherIssued | VoucherRedeemed | VoucherExpired) -> None:
    """Keep what became of a voucher, for the pages of receipts that name its code."""
    if event.voucher.redeem_code is None:
        return
    # by the event's own name: the status inside may be of a language, or of a moment later
    status = event.event.removeprefix("voucher_")
    state = VoucherState(status, micros(event.at), event.voucher.redeemed_via, event.code)
    ledger.voucher_states.record(tx, business_id, event.voucher.redeem_code, state)


def _conclude_telling(tx: Transaction, stored: StoredEvent, told: set[str], *, failed: bool) -> None:
    """End with an event that everybody heard of, or come back to it for those who failed."""
    if failed and stored.attempts < len(_TELL_PAUSES):
        at = tx.now + _TELL_PAUSES[stored.attempts] * SECOND
        inbox.loyalty_events.try_later(tx, stored, at, told)
        return
    if failed:
        log.error("event %s: a connector could not be told of it and is told no more", stored.event_id)
    is_known = _is_known(tx, stored)
    if inbox.loyalty_events.move_on(tx, stored, Stage.done if is_known else Stage.unknown) and not is_known:
        counters.raise_counter(tx, UNKNOWN_CARDS)


def _is_known(tx: Transaction, stored: StoredEvent) -> bool:
    """Say whether an event is of this business, and of a card that some receipt of it had."""
    event = stored.event
    if event is None or not _is_of(event, stored.business_id):
        return False
    card_id = event.card.id
    return card_id is None or (
        ledger.cards.is_known(tx, stored.business_id, card_id)
        or ledger.operations.is_card_known(tx, stored.business_id, card_id)
    )
