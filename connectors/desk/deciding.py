"""What only a person decides: about operations that are held or rejected, and whose a receipt without a card is."""

from __future__ import annotations

import re

from connectors.desk.ground import EMAIL, Ground
from connectors.desk.refusal import Refusal
from connectors.domain.clock import DAY
from connectors.domain.connection import Connection
from connectors.domain.operation import Hold, State
from connectors.domain.person import international
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import ledger, outbox
from connectors.store.cards import KnownCard
from connectors.store.engine import Transaction
from connectors.store.ledger import Page
from connectors.sync.giving import CannotGive, give

_PROGRESS_PATIENCE = 2.0


class Deciding(Ground):
    """Operations and claims."""

    async def retry(self, connection_id: str, operation_id: str) -> None:
        """Let a held or rejected operation go out again. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            one = outbox.get(tx, connection_id, operation_id)
            if one.state not in (State.held, State.rejected):
                return False
            _refuse_too_much(tx, one)
            if one.hold in (Hold.no_card, Hold.conflict):
                return _wait_again(tx, one)
            return outbox.retry(tx, one)

        if not await self._write(work):
            raise Refusal("there is nothing to try again: it is neither held nor rejected")

    async def dismiss(self, connection_id: str, operation_id: str) -> None:
        """Give up a held operation. Raises `Refusal`."""
        done = await self._write(lambda tx: outbox.dismiss(tx, outbox.get(tx, connection_id, operation_id)))
        if not done:
            raise Refusal("it is not held: only what is held can be dismissed")

    async def acknowledge(self, connection_id: str, operation_id: str) -> None:
        """Leave a rejected operation at that: it has been seen. Raises `Refusal`."""
        done = await self._write(lambda tx: outbox.acknowledge(tx, outbox.get(tx, connection_id, operation_id)))
        if not done:
            raise Refusal("this was not rejected, or has been seen already")

    async def find_card(self, one: Connection, text: str) -> tuple[Card, tuple[str, str]]:
        """The card of a phone, an email or a six-digit number, and by which name it was found. Raises `Refusal`."""
        text = text.strip()
        number = re.sub(r"[\s-]", "", text)
        if re.fullmatch(r"[0-9]{6}", number):
            name = ("number", number)
        else:
            phone = international(text[:40], one.account.country)
            name = ("email", text.lower()) if EMAIL.fullmatch(text) else ("phone", phone or "")
            if not name[1]:
                raise Refusal("write a phone with its country code, or the six digits on the card", field="who")
        key = self._store.vault.decrypt(one.sevenstamp_key)
        try:
            found = await self.sevenstamp.with_key(key).cards(**{name[0]: name[1]})
        except InvalidKey:
            raise Refusal("7stamp refuses the key of this connection", field="who") from None
        except SevenStampError as error:
            raise Refusal("7stamp cannot be asked right now: {error}.", field="who", error=str(error)) from None
        card = next((card for card in found if card.active), None)
        if card is None:
            raise Refusal("no card has this number, phone or email", field="who")
        return card, name

    async def give(self, one: Connection, sale_id: str, card: Card, name: tuple[str, str]) -> int:
        """Give a receipt's stamps to a card, once; how many. Raises `Refusal`."""
        known = KnownCard(card.id, card.hint)
        names = [name, ("number", card.number)]
        try:
            return await self._write(lambda tx: give(tx, one, sale_id, known, names))
        except CannotGive as error:
            raise Refusal(error.why, field="who") from None

    async def progress(self, one: Connection, card_id: str) -> Card | None:
        """A card as it is now; `None` where 7stamp does not say so at once."""
        key = self._store.vault.decrypt(one.sevenstamp_key)
        try:
            return await self.sevenstamp.with_key(key).card(card_id, deadline=_PROGRESS_PATIENCE)
        except (SevenStampError, Refusal):
            return None


def _refuse_too_much(tx: Transaction, one: outbox.Operation) -> None:
    """A retry must not give (or take) what the receipt does not call for any more. Raises `Refusal`."""
    page = Page.load(tx, [one.sale_id])
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
    theirs = mine.owner in (row.card_id, row.nobody) and row.identified
    wanted = row.stamps if theirs and row.admitted else 0
    if (signed > 0 and given + signed > wanted) or (signed < 0 and given + signed < wanted):
        raise Refusal(
            "receipt {receipt} does not call for that any more: it is entitled to {wanted} stamps for this card, "
            "and {given} are given or on their way",
            receipt=one.receipt_id,
            wanted=wanted,
            given=given,
        )


def _wait_again(tx: Transaction, one: outbox.Operation) -> bool:
    """A hold for want of a card is revived: look for the card once more, from now."""
    page = Page.load(tx, [one.sale_id])
    row = page.rows[one.sale_id]
    who = ledger.content(tx, row).customer
    if not who:
        return False
    outbox.hold_again(tx, one, tx.now + 30 * DAY)
    row.bound_hash = None
    page.changed(row)
    page.identify_later(row, who, tx.now)
    page.flush()
    return True
