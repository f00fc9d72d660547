"""The counter: a card is looked up while the customer stands there, given a receipt, and its voucher redeemed.

Owns how what was typed or scanned is read, and what is told of a card; whether 7stamp or memory answers is
`connectors.sync.card_lookups`'.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from connector_sdk.money import Money
from connector_sdk.rule import StampRule
from connector_sdk.sale import Line, Sale, SaleStatus
from connectors.domain.clock import DAY, HOUR, moment
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.domain.stamps import Earned, stamps_for
from connectors.services.cards import CardService
from connectors.services.context import ServiceContext
from connectors.services.people import parse_reference
from connectors.services.refusal import Refusal
from connectors.sevenstamp.models import Card
from connectors.store import queries
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.voucher_requests import VoucherRequest
from connectors.store.queries.receipts import Receipt
from connectors.sync.card_lookups import CardLookup
from connectors.sync.manual_card_assignment import CannotAssign, assign_card

_TOKEN = re.compile(r"(?=\S*[0-9])[!-~]{6,400}")
"""What a card's QR code holds: one word with a digit in it, which no name has."""
_LONGEST_NAME = 100
_GETS_CARD = ("phone", "email")


class _Shown(NamedTuple):
    """Which receipts the counter shows: how far back (microseconds), and how many at most."""

    back: int
    most: int


_LATELY, _WHOLE_DAY = _Shown(3 * HOUR, 12), _Shown(DAY, 100)


@dataclass(frozen=True, slots=True)
class Basket:
    """What stands on a receipt that is still open."""

    paid: Money
    lines: tuple[Line, ...] = ()
    location_id: str | None = None


@dataclass(frozen=True, slots=True)
class CounterReceipt:
    """A receipt beside the till; `link` is where its customer claims it, where nobody has it yet."""

    receipt: Receipt
    link: str | None

    @property
    def can_be_given(self) -> bool:
        """Whether its stamps can be given to a card, now or when it is closed."""
        receipt = self.receipt
        if receipt.card_hint is not None and receipt.customer:
            return False
        return receipt.status == "open" or bool(receipt.status == "closed" and receipt.admitted and receipt.stamps)


class CounterService:
    """Answers whoever stands at the till."""

    def __init__(self, context: ServiceContext, cards: CardService) -> None:
        self._context = context
        self._cards = cards

    def reference(self, connection: Connection, kind: str, text: str) -> Reference:
        """Return a name of a kind, in 7stamp's spelling. Raises `Refusal` for what is none."""
        if kind == "token":
            return Reference("token", text)
        if kind == "name":
            return Reference("name", " ".join(text.split()))
        reference = parse_reference(text, connection.account.country)
        if reference is None or reference.kind != kind:
            raise Refusal("this is no {kind}", field=kind, kind=kind)
        return reference

    def read(self, connection: Connection, text: str) -> Reference:
        """Read what was typed or scanned. Raises `Refusal` for what can be nobody's."""
        reference = read_reference(text, connection.account.country)
        if reference is None:
            raise Refusal("scan the card, or type its six digits, a phone, an email or a name", field="who")
        return reference

    async def find(self, connection: Connection, reference: Reference) -> CardLookup:
        """Find the cards of a name; what 7stamp does not say in time is told from memory, or left out."""
        if self._context.lookups is None:
            raise self._context.refusal_without_sevenstamp()
        return await self._context.lookups.find(connection, reference)

    def may_get_card(self, reference: Reference) -> bool:
        """Say whether a card can be made for a name: 7stamp sends it there."""
        return reference.kind in _GETS_CARD

    async def make_card(self, connection: Connection, reference: Reference) -> Card:
        """Make a card for a phone or an email; whoever has one gets the same again. Raises `Refusal`."""
        if not self.may_get_card(reference):
            raise Refusal("a card is made for a phone or an email", field="who")
        phone, email = (reference.value if reference.kind == kind else None for kind in _GETS_CARD)
        return await self._cards.issue_card(connection.business_id, phone=phone, email=email)

    async def receipts(self, connection: Connection, *, whole_day: bool = False) -> Sequence[CounterReceipt]:
        """List the receipts that are open or were closed in the last three hours, at most a dozen.

        Of a whole day they are at most a hundred.
        """
        shown = _WHOLE_DAY if whole_day else _LATELY
        since = self._context.store.clock.now() - shown.back
        rule = await self._context.current_rule(connection)
        found = await self._context.store.read(
            lambda tx: queries.receipts.at_the_counter(tx, connection.id, since, shown.most)
        )
        return [CounterReceipt(receipt, self._link(receipt, rule)) for receipt in found]

    @staticmethod
    def most_receipts(*, whole_day: bool) -> int:
        """Return how many receipts are listed at most."""
        return (_WHOLE_DAY if whole_day else _LATELY).most

    def _link(self, receipt: Receipt, rule: StampRule) -> str | None:
        """Return the token of a receipt's link, where it can be claimed by it."""
        is_free = receipt.card_hint is None or not receipt.customer
        if not (rule.mode.has_links and is_free and receipt.status == "closed" and receipt.admitted and receipt.stamps):
            return None
        return self._context.link_token(receipt.id)

    async def give(self, connection: Connection, sale_id: str, card: Card) -> int:
        """Give a receipt to a card, once, and return its stamps: none yet for one that is open. Raises `Refusal`."""
        names = [Reference("number", card.number)]
        known = KnownCard(card.id, card.hint)
        try:
            row = await self._context.write(lambda tx: assign_card(tx, connection, sale_id, known, names))
        except CannotAssign as error:
            raise Refusal(error.why) from None
        return row.stamps if row.status == SaleStatus.closed else 0

    async def redeem(self, connection: Connection, redeem_code: str, once: str) -> VoucherRequest:
        """Redeem a voucher, once under the same `once`. Raises `Refusal`, `NotFound`."""
        return await self._cards.redeem_voucher(connection.business_id, redeem_code, once, at=connection.id)

    async def earned(self, connection: Connection, basket: Basket) -> Earned:
        """Work out what a basket would earn, were it closed now."""
        now: datetime = moment(self._context.store.clock.now())
        sale = Sale(
            receipt_id="basket",
            status=SaleStatus.closed,
            closed_at=now,
            paid=basket.paid,
            refunded=Money.zero(basket.paid.currency),
            lines=basket.lines,
            location_id=basket.location_id,
        )
        rule = await self._context.current_rule(connection)
        return stamps_for(sale, rule, connection.zone_of(basket.location_id))


def read_reference(text: str, country: str | None) -> Reference | None:
    """Read what was typed or scanned: a number, an email, a phone, what a card's QR code holds, or a name."""
    reference = parse_reference(text, country)
    if reference is not None:
        return reference
    text = text.strip()
    if _TOKEN.fullmatch(text):
        return Reference("token", text)
    if "@" in text:  # an email that is not whole yet
        return None
    is_name = 2 <= len(text) <= _LONGEST_NAME and text.isprintable() and any(sign.isalpha() for sign in text)
    return Reference("name", " ".join(text.split())) if is_name else None
