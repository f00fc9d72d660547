"""Review: what only a person decides, of operations, of receipts without a card, and of what could not be read.

Owns the refusals; what a decision changes is written by `connectors.sync` and the store.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.holds import HOLDS, WAITS_FOR_CARD
from connectors.domain.operation import Hold, State
from connectors.domain.person import Reference, parse_phone
from connectors.services.context import EMAIL, ServiceContext
from connectors.services.refusal import Refusal
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import inbox, ledger
from connectors.store.engine import Transaction
from connectors.store.inbox.unreadable import UnreadEntry
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard
from connectors.sync.card_assignment import CannotAssign, assign_card
from connectors.sync.tills import NoConnector

_PROGRESS_PATIENCE = 2.0


class ReviewService:
    """TODO."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def retry(self, connection_id: str, operation_id: str) -> None:
        """Let a held or rejected operation go out again. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            one = ledger.operations.get(tx, connection_id, operation_id)
            if one.state not in (State.held, State.rejected):
                return False
            _refuse_too_much(tx, one)
            if one.hold in WAITS_FOR_CARD:
                return _wait_again(tx, one)
            return ledger.operations.retry(tx, one)

        if not await self._context.write(work):
            raise Refusal("there is nothing to try again: it is neither held nor rejected")

    async def dismiss(self, connection_id: str, operation_id: str) -> None:
        """Give up a held operation. Raises `Refusal`."""
        done = await self._context.write(
            lambda tx: ledger.operations.dismiss(tx, ledger.operations.get(tx, connection_id, operation_id))
        )
        if not done:
            raise Refusal("it is not held: only what is held can be dismissed")

    async def acknowledge(self, connection_id: str, operation_id: str) -> None:
        """Leave a rejected operation at that: it has been seen. Raises `Refusal`."""
        done = await self._context.write(
            lambda tx: ledger.operations.acknowledge(tx, ledger.operations.get(tx, connection_id, operation_id))
        )
        if not done:
            raise Refusal("this was not rejected, or has been seen already")

    async def find_card(self, one: Connection, text: str) -> tuple[Card, Reference]:
        """The card of a phone, an email or a six-digit number, and by which name it was found. Raises `Refusal`."""
        text = text.strip()
        number = re.sub(r"[\s-]", "", text)
        if re.fullmatch(r"[0-9]{6}", number):
            name = Reference("number", number)
        else:
            phone = parse_phone(text[:40], one.account.country)
            name = Reference("email", text.lower()) if EMAIL.fullmatch(text) else Reference("phone", phone or "")
            if not name[1]:
                raise Refusal("write a phone with its country code, or the six digits on the card", field="who")
        key = self._context.store.vault.decrypt(one.sevenstamp_key)
        try:
            found = await self._context.sevenstamp.with_key(key).cards(**{name[0]: name[1]})
        except InvalidKey:
            raise Refusal("7stamp refuses the key of this connection", field="who") from None
        except SevenStampError as error:
            raise Refusal("7stamp cannot be asked right now: {error}.", field="who", error=str(error)) from None
        card = next((card for card in found if card.active), None)
        if card is None:
            raise Refusal("no card has this number, phone or email", field="who")
        return card, name

    async def give_stamps(self, one: Connection, sale_id: str, card: Card, name: Reference) -> int:
        """Give a receipt's stamps to a card, once; how many. Raises `Refusal`."""
        known = KnownCard(card.id, card.hint)
        names = [name, Reference("number", card.number)]
        try:
            return await self._context.write(lambda tx: assign_card(tx, one, sale_id, known, names))
        except CannotAssign as error:
            raise Refusal(error.why, field="who") from None

    async def card_progress(self, one: Connection, card_id: str) -> Card | None:
        """A card as it is now; `None` where 7stamp does not say so at once."""
        key = self._context.store.vault.decrypt(one.sevenstamp_key)
        try:
            return await self._context.sevenstamp.with_key(key).card(card_id, deadline=_PROGRESS_PATIENCE)
        except (SevenStampError, Refusal):
            return None

    async def list_unread(self, connection_id: str, limit: int = 200) -> list[UnreadEntry]:
        """What arrived and could not be read, newest first, less what a later reading of the till has overtaken."""
        one = await self._context.connection(connection_id)
        return await self._context.store.read(lambda tx: inbox.unreadable.waiting(tx, one, limit))

    async def retry_unread(self, connection_id: str, ids: Sequence[str] | None = None) -> dict[str, Any]:
        """Read what was kept (of all that waits, by default) with the connection as it is now; counts."""
        one = await self._context.connection(connection_id)
        wanted = (
            await self._context.store.read(lambda tx: inbox.unreadable.waiting_ids(tx, one)) if ids is None else ids
        )
        try:
            again = await self._context.hooks.unread.retry(one, wanted)
        except NoConnector as error:
            raise Refusal(str(error)) from None
        return {"read": again.read, "still_unread": again.still, "asked": again.asked}

    async def unread_body(self, connection_id: str, name: str) -> bytes:
        """What arrived, as it came, by its id or the beginning of that. Raises `Refusal`."""
        found = await self._named_unread(connection_id, name)
        kept = await self._context.store.read(lambda tx: inbox.unreadable.with_bodies(tx, connection_id, [found]))
        return next(one.body for one in kept if one.id == found)

    async def _named_unread(self, connection_id: str, name: str) -> str:
        one = await self._context.connection(connection_id)
        ids = await self._context.store.read(lambda tx: inbox.unreadable.waiting_ids(tx, one))
        fitting = [found for found in ids if found.startswith(name)] if name else []
        if len(fitting) != 1:
            raise Refusal("there is no '{name}' among what could not be read: see `connectors unread`", name=name)
        return fitting[0]

    async def discard_unread(self, connection_id: str, ids: Sequence[str]) -> int:
        """Forget what was kept and is no sale, by ids or their beginnings; how many there were. Raises `Refusal`."""
        one = await self._context.connection(connection_id)
        ids = [await self._named_unread(one.id, name) for name in ids]
        return await self._context.write(lambda tx: self._discard(tx, one, ids))

    @staticmethod
    def _discard(tx: Transaction, one: Connection, ids: Sequence[str]) -> int:
        number = inbox.unreadable.remove(tx, one.id, ids)
        if number:
            ledger.journal.write(tx, one.id, Message("hook.left", {"count": number}))
        return number


def _refuse_too_much(tx: Transaction, one: ledger.operations.Operation) -> None:
    """A retry must not give (or take) what the receipt does not call for any more. Raises `Refusal`."""
    page = SaleBatch.load(tx, [one.sale_id])
    row = page.rows[one.sale_id]
    mine = next(o for o in page.operations[row.id] if o.id == one.id)
    signed = mine.planned().signed
    if one.state is State.held or not signed:
        return
    given = sum(
        o.planned().signed
        for o in page.operations[row.id]
        if o.owner == mine.owner and o.state not in (State.cancelled, State.rejected)
    )
    theirs = mine.owner in (row.card_id, row.cardless_lane) and row.identified
    wanted = row.stamps if theirs and row.admitted else 0
    if (signed > 0 and given + signed > wanted) or (signed < 0 and given + signed < wanted):
        raise Refusal(
            "receipt {receipt} does not call for that any more: it is entitled to {wanted} stamps for this card, "
            "and {given} are given or on their way",
            receipt=one.receipt_id,
            wanted=wanted,
            given=given,
        )


def _wait_again(tx: Transaction, one: ledger.operations.Operation) -> bool:
    """A hold for want of a card is revived: look for the card once more, from now."""
    page = SaleBatch.load(tx, [one.sale_id])
    row = page.rows[one.sale_id]
    who = ledger.sales.newest_content(tx, row).customer
    if not who:
        return False
    ledger.operations.wait_for_card_again(tx, one, HOLDS[Hold.no_card].expires_at(tx.now))
    row.bound_hash = None
    page.mark_changed(row)
    page.search_card(row, who, tx.now)
    page.flush()
    return True
