"""Review: what only a person decides, of operations, of receipts without a card, and of what could not be read.

Owns the refusals; what a decision changes is written by `connectors.sync` and the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.holds import HOLDS, WAITS_FOR_CARD
from connectors.domain.operation import Hold, Kind, State
from connectors.domain.person import Reference
from connectors.services.context import ServiceContext
from connectors.services.people import parse_reference
from connectors.services.refusal import Refusal
from connectors.services.results import RetryResult
from connectors.sevenstamp.client import InvalidKey, Refused, SevenStampClient, SevenStampError
from connectors.sevenstamp.models import Card, HistoryEvent
from connectors.store import inbox, ledger, queries
from connectors.store.engine import Transaction
from connectors.store.inbox.unreadable import UnreadEntry
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.operations import Operation, PlannedOperation
from connectors.store.ledger.sales import SaleRow
from connectors.sync.manual_card_assignment import AT_ONCE, CannotAssign, assign_card, take_card_back
from connectors.sync.tills import NoConnector

_MOST_ENDING = 5
_PROGRESS_PATIENCE = 2.0


class FoundCard(NamedTuple):
    """A card, and by which name it was found."""

    card: Card
    reference: Reference


@contextmanager
def _reading_cards() -> Iterator[None]:
    """Tell whoever looks for a card why 7stamp does not answer. Raises `Refusal`."""
    try:
        yield
    except InvalidKey:
        raise Refusal("7stamp refuses the key of this connection", field="who") from None
    except SevenStampError as error:
        raise Refusal("7stamp cannot be asked right now: {error}.", field="who", error=str(error)) from None


class ReviewService:
    """Carries out what a person decides."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    # --- operations -------------------------------------------------------------------------------------------

    async def retry(self, connection_id: str, operation_id: str) -> None:
        """Let a held or rejected operation go out again. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            operation = ledger.operations.get(tx, connection_id, operation_id)
            if operation.state not in (State.held, State.rejected):
                return False
            _refuse_excess(tx, operation)
            if operation.kind is Kind.voucher_redeemed and operation.redeem_code is None:
                return ledger.operations.look_for_voucher_again(tx, operation, HOLDS[Hold.gift].expires_at(tx.now))
            # without a card there is nobody to send it for: the search for the card begins anew instead
            if operation.hold in WAITS_FOR_CARD:
                return _search_card_again(tx, operation)
            return ledger.operations.retry(tx, operation)

        if not await self._context.write(work):
            raise Refusal("there is nothing to try again: it is neither held nor rejected")

    async def dismiss(self, connection_id: str, operation_id: str) -> None:
        """Give up a held operation. Raises `Refusal`."""
        dismissed = await self._context.write(
            lambda tx: ledger.operations.dismiss(tx, ledger.operations.get(tx, connection_id, operation_id))
        )
        if not dismissed:
            raise Refusal("it is not held: only what is held can be dismissed")

    async def acknowledge(self, connection_id: str, operation_id: str) -> None:
        """Leave a rejected operation at that: it has been seen. Raises `Refusal`."""
        acknowledged = await self._context.write(
            lambda tx: ledger.operations.acknowledge(tx, ledger.operations.get(tx, connection_id, operation_id))
        )
        if not acknowledged:
            raise Refusal("this was not rejected, or has been seen already")

    # --- cards ------------------------------------------------------------------------------------------------

    async def find_card(self, connection: Connection, text: str) -> FoundCard:
        """Find the active card of a phone, an email or a six-digit number that somebody typed. Raises `Refusal`."""
        reference = parse_reference(text, connection.account.country)
        if reference is None:
            raise Refusal("write a phone with its country code, or the six digits on the card", field="who")
        client = self._client_of(connection)
        with _reading_cards():
            cards = await client.cards(**{reference.kind: reference.value})
        # the oldest active one: the client lists a customer's cards oldest first
        card = next((card for card in cards if card.active), None)
        if card is None:
            raise Refusal("no card has this number, phone or email", field="who")
        return FoundCard(card, reference)

    async def give_stamps(self, connection: Connection, sale_id: str, card: Card, reference: Reference) -> int:
        """Give a receipt's stamps to a card, once, and return how many. Raises `Refusal`."""
        # Both are remembered: the name that was typed, and the number, by which the next receipt may name the card.
        known = KnownCard(card.id, card.hint)
        names = [reference, Reference("number", card.number)]
        try:
            row = await self._context.write(lambda tx: assign_card(tx, connection, sale_id, known, names))
        except CannotAssign as error:
            raise Refusal(error.why, field="who") from None
        return row.stamps

    async def take_stamps_back(self, connection: Connection, sale_id: str, within: int = AT_ONCE) -> None:
        """Undo that a receipt's stamps were given by hand within so many microseconds. Raises `Refusal`."""
        try:
            await self._context.write(lambda tx: take_card_back(tx, connection, sale_id, within))
        except CannotAssign as error:
            raise Refusal(error.why) from None

    async def card_progress(self, connection: Connection, card_id: str) -> Card | None:
        """Return a card as it is now; `None` where 7stamp does not say so within two seconds."""
        try:
            return await self._client_of(connection).card(card_id, deadline=_PROGRESS_PATIENCE)
        except (SevenStampError, Refusal):
            return None

    async def cards_ending(self, connection: Connection, digits: str) -> Sequence[Card]:
        """Find the active cards of the till's receipts that end in four digits. Raises `Refusal`.

        7stamp itself finds no card by its end, which is all that receipts and lists show. It must answer for all of
        them: of two cards, the one that it answered for would look like the only one.
        """
        client = self._client_of(connection)

        async def read(card_id: str) -> Card | None:
            try:
                return await client.card(card_id, deadline=_PROGRESS_PATIENCE)
            except Refused:  # there is no such card any more
                return None

        ids = await self._context.store.read(
            lambda tx: queries.receipts.cards_ending(tx, connection.id, digits, _MOST_ENDING)
        )
        with _reading_cards():
            cards = await asyncio.gather(*(read(card_id) for card_id in ids))
        return [card for card in cards if card is not None and card.active]

    async def card_history(self, connection: Connection, card_id: str) -> Sequence[HistoryEvent] | None:
        """Return what 7stamp has in a card's history; `None` where it does not say so within two seconds."""
        try:
            async with asyncio.timeout(_PROGRESS_PATIENCE):
                return await self._client_of(connection).history(card_id)
        except (SevenStampError, Refusal, TimeoutError):
            return None

    def _client_of(self, connection: Connection) -> SevenStampClient:
        """Return a client with a connection's key. Raises `Refusal` without an address of 7stamp."""
        key = self._context.store.vault.decrypt(connection.sevenstamp_key)
        return self._context.sevenstamp.with_key(key)

    # --- what could not be read -------------------------------------------------------------------------------

    async def list_unread(self, connection_id: str, limit: int = 200) -> list[UnreadEntry]:
        """Return what arrived and could not be read, newest first, less what a later reading has overtaken."""
        connection = await self._context.connection(connection_id)
        return await self._context.store.read(lambda tx: inbox.unreadable.waiting(tx, connection, limit))

    async def retry_unread(self, connection_id: str, ids: Sequence[str] | None = None) -> RetryResult:
        """Read what was stored unread (all that waits, by default) with the connection as it is now.

        Raises `Refusal` where the connector is not here.
        """
        connection = await self._context.connection(connection_id)
        chosen = await self._waiting_ids(connection) if ids is None else ids
        try:
            outcome = await self._context.hooks.unread.retry(connection, chosen)
        except NoConnector as error:
            raise Refusal(str(error)) from None
        return RetryResult(read=outcome.read, still_unread=outcome.still, asked=outcome.asked)

    async def unread_body(self, connection_id: str, name: str) -> bytes:
        """Return what arrived, as it came, by its id or the beginning of that. Raises `Refusal`."""
        connection = await self._context.connection(connection_id)
        entry_id = await self._unread_id(connection, name)
        entries = await self._context.store.read(lambda tx: inbox.unreadable.with_bodies(tx, connection_id, [entry_id]))
        return next(entry.body for entry in entries if entry.id == entry_id)

    async def discard_unread(self, connection_id: str, names: Sequence[str]) -> int:
        """Delete what is no sale, by ids or their beginnings, and return how many there were. Raises `Refusal`."""
        connection = await self._context.connection(connection_id)
        # all are resolved before any is deleted: one wrong name deletes none
        ids = [await self._unread_id(connection, name) for name in names]
        return await self._context.write(lambda tx: _discard(tx, connection, ids))

    async def _waiting_ids(self, connection: Connection) -> list[str]:
        return await self._context.store.read(lambda tx: inbox.unreadable.waiting_ids(tx, connection))

    async def _unread_id(self, connection: Connection, name: str) -> str:
        """Return the one id that begins with `name`. Raises `Refusal` for none or several."""
        matches = [entry_id for entry_id in await self._waiting_ids(connection) if entry_id.startswith(name)]
        if not name or len(matches) != 1:
            raise Refusal("there is no '{name}' among what could not be read: see `connectors unread`", name=name)
        return matches[0]


def _discard(tx: Transaction, connection: Connection, ids: Sequence[str]) -> int:
    count = inbox.unreadable.remove(tx, connection.id, ids)
    if count:
        ledger.journal.write(tx, connection.id, Message("hook.left", {"count": count}))
    return count


def _refuse_excess(tx: Transaction, operation: Operation) -> None:
    """Refuse a retry that would give (or take) what the receipt does not call for any more. Raises `Refusal`.

    A held operation counts as planned all the time, so retrying it changes no sum. A rejected one was given up, and
    what the receipt calls for may have been planned anew since, or changed.
    """
    batch = SaleBatch.load(tx, [operation.sale_id])
    sale = batch.rows[operation.sale_id]
    planned = batch.operations[sale.id]
    retried = next(row for row in planned if row.id == operation.id)
    signed = retried.planned().signed
    if operation.state is State.held or not signed:
        return
    given = _stamps_given(planned, retried.owner)
    entitled = _stamps_entitled(sale, retried.owner)
    exceeds = given + signed > entitled if signed > 0 else given + signed < entitled
    if exceeds:
        raise Refusal(
            "receipt {receipt} does not call for that any more: it is entitled to {wanted} stamps for this card, "
            "and {given} are given or on their way",
            receipt=operation.receipt_id,
            wanted=entitled,
            given=given,
        )


def _stamps_given(planned: Sequence[PlannedOperation], owner: str) -> int:
    """Sum the stamps that one owner's operations have given or are to give."""
    ended = (State.cancelled, State.rejected)
    return sum(row.planned().signed for row in planned if row.owner == owner and row.state not in ended)


def _stamps_entitled(sale: SaleRow, owner: str) -> int:
    """Return how many stamps a sale gives one owner: none if another has it now, or if it is not admitted."""
    owns = sale.identified and owner in (sale.card_id, sale.cardless_lane)
    # one that was left out, or closed before the connection began, is not admitted and earns nothing
    return sale.stamps if owns and sale.admitted else 0


def _search_card_again(tx: Transaction, operation: Operation) -> bool:
    """Look for a customer's card once more, from now; return whether the receipt names a customer."""
    # `bound_hash` names the customer for whom the search has ended: without it the sale waits for its card again
    batch = SaleBatch.load(tx, [operation.sale_id])
    sale = batch.rows[operation.sale_id]
    customer = ledger.sales.newest_content(tx, sale).customer
    if not customer:
        return False
    ledger.operations.wait_for_card_again(tx, operation, HOLDS[Hold.no_card].expires_at(tx.now))
    sale.bound_hash = None
    batch.mark_changed(sale)
    batch.search_card(sale, customer, tx.now)
    batch.flush()
    return True
