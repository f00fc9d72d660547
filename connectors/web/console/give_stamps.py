"""Giving a receipt's stamps to a card by hand: the card is found, confirmed by its last digits, and then given.

Owns the two forms; who may be given what is `connectors.services.review`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.services import Refusal
from connectors.sevenstamp.models import Card
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import NotHere, Pages, Visit
from connectors.web.console.receipt_page import FoundCard, receipt_page
from connectors.web.console.sealed_token import open_token, seal_token

pages = Pages()

_PURPOSE = "claim"


@dataclass(frozen=True, slots=True)
class _Claim:
    """A card that was found for the address's receipt, with the kind and value of the name it was found by."""

    card: Card
    name: tuple[str, str]
    expired: bool


@pages.post(
    "/connections/{connection}/receipts/{receipt}/find-card", page="/connections/{connection}/receipts/{receipt}"
)
async def find_card(visit: Visit) -> Response:
    """Find whose card that is, to be confirmed by its last digits."""
    connection = (await visit.overview()).connection
    try:
        visit.console.gate.search(visit.me)
        card, name = await visit.services.review.find_card(connection, visit.form.get("who"))
    except (Refusal, TooMany) as error:
        return await receipt_page(visit, connection, errors={"who": visit.why(error)})
    token = seal_token(visit, _PURPOSE, connection, [visit.path["receipt"], card.model_dump(mode="json"), list(name)])
    return await receipt_page(visit, connection, found_card=FoundCard(card, token))


def _open_claim(visit: Visit, connection: Connection) -> _Claim:
    """Return the card that the form names. Raises `NotHere` where the token is not ours, or another receipt's."""
    opened = open_token(visit, _PURPOSE, connection, visit.form.get("claim"))
    match opened.content:
        case [str(receipt), dict(card), [str(kind), str(value)]] if receipt == visit.path["receipt"]:
            return _Claim(Card.model_validate(card), (kind, value), opened.expired)
    raise NotHere


@pages.post("/connections/{connection}/receipts/{receipt}/give", page="/connections/{connection}/receipts/{receipt}")
async def give_stamps(visit: Visit) -> Response:
    """Give the stamps to the card that was found and confirmed."""
    connection = (await visit.overview()).connection
    claim = _open_claim(visit, connection)
    if claim.expired:
        text = visit.words.text("That was a while ago: find the card once more.")
        return await receipt_page(visit, connection, errors={"who": text})
    if visit.form.get("digits").strip() != claim.card.hint:
        text = visit.words.text("These are not the card's last four digits.")
        found_card = FoundCard(claim.card, visit.form.get("claim"))
        return await receipt_page(visit, connection, found_card=found_card, errors={"digits": text})
    receipt = visit.path["receipt"]
    try:
        count = await visit.services.review.give_stamps(connection, receipt, claim.card, claim.name)
    except Refusal as error:
        return await receipt_page(visit, connection, errors={"who": visit.words.sentence(error.message)})
    notice = Message("give.done", {"count": count, "card": claim.card.hint})
    return visit.go(f"/connections/{connection.id}/receipts/{receipt}", notice)
