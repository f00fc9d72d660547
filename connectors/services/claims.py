"""Claims: a customer who was not named at the till takes the stamps of a receipt, by the link that stands on it.

Owns what a link finds and who may claim; the stamps are given as those that a cashier gives a card, in
`connectors.sync.manual_card_assignment`. How often a stranger may try is the page's.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from connector_sdk.connector import Location
from connector_sdk.money import Money
from connector_sdk.rule import StampRule
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.domain.receipt_links import (
    ClaimFacts,
    ClaimState,
    ReceiptTarget,
    Target,
    VenueTarget,
    claim_state,
    expires_at,
    read_token,
    venue_token,
)
from connectors.domain.stamps import rule_in_force
from connectors.services.context import ServiceContext
from connectors.services.people import parse_reference
from connectors.services.refusal import Refusal
from connectors.sevenstamp.client import SevenStampClient, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import connections, ledger, queries
from connectors.store.engine import Transaction
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.sales import SaleRow
from connectors.store.queries.receipts import SearchTerm
from connectors.sync.manual_card_assignment import CannotAssign, assign_card
from connectors.sync.planner import amount, rule_for, target

_LONGEST_CONSENT = 1000
_STAMP_PATIENCE, _STAMP_PAUSE = 1.5, 0.1
"""Seconds that somebody who gave stamps waits until they are on the card, and between two looks."""
_LONGEST_RECEIPT = 128


class ReceiptLink(NamedTuple):
    """A receipt's link, and until when it is good (UTC microseconds; `None` while the receipt is not closed)."""

    url: str
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class FoundReceipt:
    """A receipt as its link finds it; `closed_at` and `expires_at` in UTC microseconds."""

    sale_id: str
    receipt_id: str
    paid: Money
    closed_at: int | None
    expires_at: int | None
    stamps: int
    card_id: str | None


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """What a receipt's link finds; without a receipt where the till has not told of it yet."""

    state: ClaimState
    connection: Connection | None = None
    receipt: FoundReceipt | None = None


@dataclass(frozen=True, slots=True)
class OpenedVenue:
    """A venue whose link was opened; `state` is `waiting` where receipts can be claimed there."""

    connection: Connection
    venue: VenueTarget
    state: ClaimState


@dataclass(frozen=True, slots=True)
class ClaimedReceipt:
    """A receipt that was claimed just now: the card as it was before, whether it was made for this, and the stamps."""

    card: Card
    issued: bool
    stamps: int


class ClaimService:
    """Makes links, opens them, and lets receipts be claimed."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    # --- links ------------------------------------------------------------------------------------------------

    async def receipt_link(self, connection: Connection, receipt_id: str) -> ReceiptLink:
        """Return the link of a receipt by the till's own number for it, also before the till tells of it.

        Raises `Refusal` where the connection's rule has no links.
        """
        rule = await self._require_links(connection)
        account = connection.account.id

        def read(tx: Transaction) -> ReceiptLink:
            sale_id = ledger.sales.sale_id_of(tx, connection.business_id, connection.connector, account, receipt_id)
            closed_at = ledger.sales.closed_at(tx, sale_id)
            end = expires_at(closed_at, rule.claim_days) if closed_at is not None else None
            return ReceiptLink(self._url(self._context.link_token(sale_id)), end)

        return await self._context.store.read(read)

    async def venue_link(self, connection: Connection, location_id: str | None) -> str:
        """Return the address at which customers of a venue type what stands on their receipt. Raises `Refusal`."""
        await self._require_links(connection)
        locations = {location.id for location in connection.account.locations}
        if location_id is not None and (location_id not in locations or not connection.covers(location_id)):
            raise Refusal("this is no place of this connection", field="location")
        venue = VenueTarget(connection.id, location_id)
        return self._url(venue_token(venue, self._context.store.vault.hash))

    async def venues(self, connection: Connection) -> Sequence[Location]:
        """List the places of a connection, each of which has a table card; none for a till without places."""
        return [location for location in connection.account.locations if connection.covers(location.id)]

    def _url(self, token: str) -> str:
        return f"{self._context.public_url().rstrip('/')}/r/{token}"

    async def _require_links(self, connection: Connection) -> StampRule:
        """Return the rule in force, which has links. Raises `Refusal`."""
        rule = await self._context.current_rule(connection)
        if not rule.mode.has_links:
            raise Refusal("this connection gives no stamps by receipts: choose so in its rule first")
        return rule

    # --- opening ----------------------------------------------------------------------------------------------

    def read_token(self, token: str) -> Target | None:
        """Return what a token of a link opens; `None` for one that is not ours. Asks nobody."""
        return read_token(token, self._context.store.vault.hash)

    async def open(self, link: ReceiptTarget) -> OpenedLink:
        """Return what a receipt's link finds now."""
        now = self._context.store.clock.now()
        return await self._context.store.read(lambda tx: _open(tx, link, now))

    async def open_venue(self, venue: VenueTarget) -> OpenedVenue | None:
        """Return the venue of a link; `None` where its connection is removed or does not cover it any more."""
        connection = await self._context.store.read(lambda tx: connections.registry.find(tx, venue.connection_id))
        if connection is None:
            return None
        if venue.location_id is not None and not connection.covers(venue.location_id):
            return None
        rule = await self._context.current_rule(connection)
        return OpenedVenue(connection, venue, ClaimState.waiting if rule.mode.has_links else ClaimState.off)

    async def find_at_venue(self, opened: OpenedVenue, receipt_id: str, paid: Money) -> str | None:
        """Return the token of the receipt of this number and amount, where it was closed lately at the venue.

        `None` where nothing fits: neither says which of the two was wrong.
        """
        now, connection = self._context.store.clock.now(), opened.connection
        rule = await self._context.current_rule(connection)
        if not 0 < len(receipt_id) <= _LONGEST_RECEIPT:
            return None

        def find(tx: Transaction) -> str | None:
            terms = [SearchTerm(receipt=receipt_id), SearchTerm(paid=(paid.minor, paid.minor))]
            for receipt in queries.receipts.search(tx, connection, terms, 1):
                is_here = opened.venue.location_id in (None, receipt.location_id)
                is_recent = receipt.closed_at is not None and now < expires_at(receipt.closed_at, rule.claim_days)
                if is_here and is_recent and receipt.currency == paid.currency:
                    return self._context.link_token(receipt.id)
            return None

        return await self._context.store.read(find)

    # --- claiming ---------------------------------------------------------------------------------------------

    async def claim(self, link: ReceiptTarget, who: str, *, agreed: str, language: str) -> ClaimedReceipt:
        """Give a receipt's stamps to the card of a phone, an email or a number; make one where there is none.

        `agreed` is the digest of the text that the customer agreed to. Raises `Refusal`; the receipt's state says why
        where it cannot be claimed (any more).
        """
        opened = await self.open(link)
        connection, receipt = opened.connection, opened.receipt
        if opened.state is not ClaimState.waiting or connection is None or receipt is None:
            raise Refusal("give.unknown")
        reference = parse_reference(who, await self._country(connection))
        if reference is None:
            raise Refusal("write your phone, your email, or the six digits on your card", field="who")
        consent = connection.claim_consent
        if consent is not None and agreed != consent_digest(consent):
            raise Refusal("say that you agree first", field="agreed")
        card, issued = await self._card_of(connection, reference, language)
        known = KnownCard(card.id, card.hint)
        # also by its number, by which the till may name the same card next time
        names = [reference, Reference("number", card.number)]

        def work(tx: Transaction) -> SaleRow:
            row = assign_card(tx, connection, receipt.sale_id, known, names, "sale.claimed_by_link")
            ledger.claims.record(tx, row, card_id=card.id, consent=consent, language=language)
            return row

        try:
            row = await self._context.store.write(work)
        except CannotAssign as error:  # somebody was quicker, or the till has changed it meanwhile
            raise Refusal(error.why) from None
        return ClaimedReceipt(card, issued, target(row))

    async def _country(self, connection: Connection) -> str:
        """Return the country whose phones are written without its code: the till's, or else the business's."""
        if connection.account.country is not None:
            return connection.account.country
        business = await self._context.store.read(lambda tx: connections.businesses.get(tx, connection.business_id))
        return business.country

    async def _card_of(self, connection: Connection, reference: Reference, language: str) -> tuple[Card, bool]:
        """Return the oldest active card of a name, and whether it was issued just now. Raises `Refusal`."""
        client = self._client_of(connection)
        try:
            cards = await client.cards(**{reference.kind: reference.value})
            card = next((card for card in cards if card.active), None)
            if card is not None:
                return card, False
            if reference.kind == "number":
                raise Refusal("no card has this number: type your phone or email, and one is made", field="who")
            return await client.issue_card(**{reference.kind: reference.value}, language=language), True
        except SevenStampError:
            raise Refusal("the cards cannot be reached right now: nothing is lost, try again in a minute") from None

    async def wait_for_stamps(self, sale_id: str) -> bool:
        """Wait a moment for what is usually there at once: say whether nothing of a receipt is on its way any more."""
        waited = 0.0
        while await self._context.store.read(lambda tx: ledger.operations.are_on_their_way(tx, sale_id)):
            if waited >= _STAMP_PATIENCE:
                return False
            await asyncio.sleep(_STAMP_PAUSE)
            waited += _STAMP_PAUSE
        return True

    async def card_of_receipt(self, opened: OpenedLink, deadline: float) -> Card | None:
        """Return the card that has a receipt's stamps, as it is now; `None` where 7stamp does not say so in time."""
        if opened.connection is None or opened.receipt is None or opened.receipt.card_id is None:
            return None
        try:
            return await self._client_of(opened.connection).card(opened.receipt.card_id, deadline=deadline)
        except (SevenStampError, Refusal):
            return None

    def _client_of(self, connection: Connection) -> SevenStampClient:
        key = self._context.store.vault.decrypt(connection.sevenstamp_key)
        return self._context.sevenstamp.with_key(key)

    # --- what customers agree to ------------------------------------------------------------------------------

    async def set_consent(self, connection: Connection, text: str) -> None:
        """Set what customers agree to who claim receipts; an empty text asks for nothing. Raises `Refusal`."""
        consent = "\n".join(line.strip() for line in text.strip().splitlines()) or None
        if consent is not None and len(consent) > _LONGEST_CONSENT:
            raise Refusal("write at most {number} characters", field="consent", number=_LONGEST_CONSENT)
        await self._context.write(lambda tx: connections.registry.set_claim_consent(tx, connection.id, consent))


def consent_digest(text: str) -> str:
    """Return what stands for a consent's text in the form: another text is another consent."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _open(tx: Transaction, link: ReceiptTarget, now: int) -> OpenedLink:
    ids = ledger.claims.ids_beginning_with(tx, link.id_start)
    if len(ids) != 1:  # none yet; of two receipts that share 64 bits neither is given away
        return OpenedLink(ClaimState.not_arrived)
    row = ledger.sales.get(tx, ids[0])
    versions = connections.rules.of_connection(tx, row.rule_of or row.connection_id)
    # a receipt that is open will be closed under the rule of then, which is at least as new as that of now
    rule = rule_for(row, versions).rule if row.closed_at is not None else rule_in_force(versions, now).rule
    connection = connections.registry.find(tx, row.connection_id)
    if connection is None:
        return OpenedLink(ClaimState.off)
    facts = ClaimFacts(
        status=row.status,
        has_owner=row.card_id is not None and row.customer_hash is not None,
        stamps=target(row),
        refunded=bool(row.refunded),
        closed_at=row.closed_at,
        claim_days=rule.claim_days,
        has_links=rule.mode.has_links,
    )
    receipt = FoundReceipt(
        sale_id=row.id,
        receipt_id=row.receipt_id,
        paid=amount(row),
        closed_at=row.closed_at,
        expires_at=expires_at(row.closed_at, rule.claim_days) if row.closed_at is not None else None,
        stamps=target(row),
        card_id=row.card_id,
    )
    return OpenedLink(claim_state(facts, now), connection, receipt)
