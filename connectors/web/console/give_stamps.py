"""Giving a receipt's stamps to a card by hand: it is found, shown, and then given.

Owns the two forms, and the one that takes it back a moment later; who may be given what is
`connectors.services.review`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.services import Refusal
from connectors.sevenstamp.models import Card
from connectors.web.console.card_search import CardTokens, make_typed_card
from connectors.web.console.receipt_page import FoundCard, receipt_page, taken_back_within
from connectors.web.console.routing import Role, Router
from connectors.web.console.sealed_token import open_token, seal_token
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_PURPOSE = "claim"
_NAMES_ONE_CARD = ("number", "phone", "email")


@dataclass(frozen=True, slots=True)
class _Claim:
    """A card that was found for the address's receipt, with the name it was found by."""

    card: Card
    name: Reference
    expired: bool


@router.post(
    "/connections/{connection}/receipts/{receipt}/find-card",
    Role.counter,
    page="/connections/{connection}/receipts/{receipt}",
)
async def find_card(visit: Visit) -> Response:
    """Find whose card that is, and show it, or several to choose from."""
    connection = (await visit.load_overview()).connection
    tokens, typed = CardTokens(visit, connection, _PURPOSE), visit.form.get("who").strip()
    try:
        shown, name = await tokens.find(typed)
    except (Refusal, TooManyAttempts) as error:
        return await receipt_page(visit, connection, errors={"who": visit.explain(error)})
    cards = [one.card for one in ([shown.chosen] if shown.chosen else shown.matches)]
    if cards:
        return await _show(visit, connection, cards, name)
    may_get_card = not shown.is_unanswered and visit.services.counter.may_get_card(name)
    errors = {"who": tokens.why_none(shown, name)}
    return await receipt_page(visit, connection, errors=errors, may_get_card=typed if may_get_card else "")


async def _show(
    visit: Visit, connection: Connection, cards: Sequence[Card], name: Reference, *, are_new: bool = False
) -> Response:
    """Show cards, each with the button that gives it the stamps."""
    found: list[FoundCard] = []
    for card in cards:
        # a person's name, or the end of a number, may be several cards': the next receipt does not go by it
        known_by = name if name.kind in _NAMES_ONE_CARD else Reference("number", card.number)
        content: list[JsonValue] = [visit.path_params["receipt"], card.model_dump(mode="json"), list(known_by)]
        found.append(FoundCard(card, seal_token(visit, _PURPOSE, connection, content), are_new))
    return await receipt_page(visit, connection, found_cards=found)


@router.post(
    "/connections/{connection}/receipts/{receipt}/make-card",
    Role.counter,
    page="/connections/{connection}/receipts/{receipt}",
)
async def make_card(visit: Visit) -> Response:
    """Make a card for a phone or an email that none has, and show it."""
    connection = (await visit.load_overview()).connection
    try:
        card, name = await make_typed_card(visit, connection)
    except (Refusal, TooManyAttempts) as error:
        return await receipt_page(visit, connection, errors={"who": visit.explain(error)})
    return await _show(visit, connection, [card], name, are_new=True)


def _open_claim(visit: Visit, connection: Connection) -> _Claim:
    """Return the card that the form names. Raises `PageNotFound` where the token is not ours, or another receipt's."""
    opened = open_token(visit, _PURPOSE, connection, visit.form.get("claim"))
    # the token says what was found; the address says for which receipt, and both must agree
    match opened.content:
        case [str(receipt), dict(card), [str(kind), str(value)]] if receipt == visit.path_params["receipt"]:
            return _Claim(Card.model_validate(card), Reference(kind, value), opened.expired)
    raise PageNotFound


@router.post(
    "/connections/{connection}/receipts/{receipt}/give",
    Role.counter,
    page="/connections/{connection}/receipts/{receipt}",
)
async def give_stamps(visit: Visit) -> Response:
    """Give the stamps to the card that was found; for a while they can be taken back."""
    connection = (await visit.load_overview()).connection
    claim = _open_claim(visit, connection)
    if claim.expired:
        text = visit.localizer.text("That was a while ago: find the card once more.")
        return await receipt_page(visit, connection, errors={"who": text})
    return await _give(visit, connection, claim)


@router.post(
    "/connections/{connection}/receipts/{receipt}/take-back",
    Role.counter,
    page="/connections/{connection}/receipts/{receipt}",
)
async def take_back(visit: Visit) -> Response:
    """Undo that the receipt's stamps were given by hand: a moment ago, or by a manager some days ago."""
    connection, receipt = (await visit.load_overview()).connection, visit.path_params["receipt"]
    path = f"/connections/{connection.id}/receipts/{receipt}"
    try:
        await visit.services.review.take_stamps_back(connection, receipt, taken_back_within(visit))
    except Refusal as error:
        return visit.redirect(path, error.message, "bad")
    return visit.redirect(path, Message("Taken back. Now the receipt can be given to another card."))


async def _give(visit: Visit, connection: Connection, claim: _Claim) -> Response:
    receipt = visit.path_params["receipt"]
    try:
        count = await visit.services.review.give_stamps(connection, receipt, claim.card, claim.name)
    except Refusal as error:
        return await receipt_page(visit, connection, errors={"who": visit.localizer.sentence(error.message)})
    await visit.services.claims.wait_for_stamps(receipt)  # so that the page shows them on the card, mostly
    notice = Message("give.done", {"count": count, "card": claim.card.hint})
    return visit.redirect(f"/connections/{connection.id}/receipts/{receipt}", notice)
