"""Cards that a page has looked up: carried from one form to the next in a sealed token, never in a readable address.

Owns what a look-up shows: one card, several to choose from, or why there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import JsonValue

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.services import Refusal
from connectors.sevenstamp.models import Card
from connectors.sync.card_lookups import CardLookup
from connectors.web.console.greetings import unanswered
from connectors.web.console.sealed_token import open_token, seal_token
from connectors.web.console.visit import PageNotFound, Visit


@dataclass(frozen=True, slots=True)
class ChosenCard:
    """A card that was looked up, with the token by which the next form names it; `stale` where 7stamp is slow."""

    card: Card
    token: str
    as_of: int | None
    stale: bool

    @property
    def missing(self) -> int:
        """How many stamps are left to the reward."""
        return max(0, self.card.goal - self.card.stamps)


@dataclass(frozen=True, slots=True)
class FoundCards:
    """What a look-up shows: one card, or several to choose from, or why there is none."""

    chosen: ChosenCard | None = None
    matches: Sequence[ChosenCard] = ()
    is_unanswered: bool = False
    may_get_card: str = ""
    """The phone or email that nobody's card has, as it was typed: a card can be made for it."""


async def make_typed_card(visit: Visit, connection: Connection) -> tuple[Card, Reference]:
    """Make a card for the phone or email of the form. Raises `Refusal`, `TooManyAttempts`."""
    visit.limit_card_search()
    reference = visit.services.counter.read(connection, visit.form.get("who"))
    return await visit.services.counter.make_card(connection, reference), reference


@dataclass(frozen=True, slots=True)
class CardTokens:
    """Seals the cards of one page's look-ups, for its `purpose`: what another page sealed opens nothing here."""

    visit: Visit
    connection: Connection
    purpose: str

    def seal(self, reference: Reference, card_id: str | None) -> str:
        """Seal whose cards were looked up, and which of them it is."""
        content: list[JsonValue] = [*reference, card_id]
        return seal_token(self.visit, self.purpose, self.connection, content)

    def open(self, sealed: str) -> tuple[Reference, str | None]:
        """Return whose cards a token names, and which of them. Raises `PageNotFound`, `Refusal` for one too old."""
        opened = open_token(self.visit, self.purpose, self.connection, sealed)
        if opened.expired:
            raise Refusal("That was a while ago: find the card once more.", field="who")
        match opened.content:
            case [str(kind), str(value), (str() | None) as card_id]:
                return Reference(kind, value), card_id
        raise PageNotFound

    def found(self, lookup: CardLookup, reference: Reference, card_id: str | None) -> FoundCards:
        """Part what a look-up found: of one customer the oldest card counts, of one name each is somebody's."""
        cards = [
            ChosenCard(card, self.seal(reference, card.id), lookup.as_of, lookup.stale)
            for card in lookup.cards
            if card_id in (None, card.id)
        ]
        if not cards:
            return FoundCards(is_unanswered=lookup.as_of is None)
        if len(cards) > 1 and reference.kind == "name":
            return FoundCards(matches=cards)
        return FoundCards(cards[0])

    async def find(self, typed: str) -> tuple[FoundCards, Reference]:
        """Look up what was typed or scanned; return whose it is, too. Raises `Refusal`, `TooManyAttempts`."""
        self.visit.limit_card_search()
        if _is_ending(typed):
            return await self._find_ending(typed.strip()), Reference(_ENDS_IN, typed.strip())
        reference = self.visit.services.counter.read(self.connection, typed)
        return self.found(
            await self.visit.services.counter.find(self.connection, reference), reference, None
        ), reference

    async def _find_ending(self, digits: str) -> FoundCards:
        found = await self.visit.services.review.cards_ending(self.connection, digits)
        now, cards = self.visit.localizer.now, list[ChosenCard]()
        for card in found:
            token = self.seal(Reference("number", card.number), card.id)
            cards.append(ChosenCard(card, token, now, stale=False))
        return FoundCards(cards[0]) if len(cards) == 1 else FoundCards(matches=cards)

    def why_none(self, shown: FoundCards, reference: Reference) -> str:
        """Return why a look-up shows no card, as a sentence in the reader's language."""
        if shown.is_unanswered:
            return unanswered(self.visit.localizer)
        if reference.kind == _ENDS_IN:
            text = "no receipt of this till has a card that ends so: type all six digits"
            return self.visit.localizer.sentence(Message(text))
        if reference.kind == "name":
            return self.visit.localizer.sentence(
                Message("no customer of yours has this name at 7stamp: ask for the phone")
            )
        return self.visit.localizer.sentence(Message("no card has this number, phone or email"))

    async def look_up(self, sealed: str) -> FoundCards:
        """Look the card of a token up once more. Raises `PageNotFound`, `Refusal` for one too old."""
        reference, card_id = self.open(sealed)
        return self.found(await self.visit.services.counter.find(self.connection, reference), reference, card_id)


def _is_ending(typed: str) -> bool:
    """Return whether what was typed are the last four digits of a card, as receipts show them."""
    digits = typed.strip()
    return len(digits) == _ENDING and digits.isascii() and digits.isdigit()


_ENDING = 4
_ENDS_IN = "ending"


def customer_tokens(visit: Visit, connection: Connection) -> CardTokens:
    """Return what seals cards for the page of customers, to which other pages lead."""
    return CardTokens(visit, connection, "customer card")


def customer_path(connection: Connection, token: str) -> str:
    """Return the address of a card's page."""
    return f"/connections/{connection.id}/customers?card={quote(token, safe='')}"
