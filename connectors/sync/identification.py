"""Identification: finds whose card a sale's customer has, by number before phone before email.

Owns the search and what its end does to the sales that wait; what was found before is `connectors.store.ledger.cards`'.
Answers that disagree are held for a person: a wrong card would be worse than a late stamp.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from connector_sdk.errors import BadPayload, ConnectorError, NotAuthorised, NotSupported
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.sale import Customer
from connectors.domain.clock import DAY, SECOND
from connectors.domain.connection import Connection, Health
from connectors.domain.events import Wakeup
from connectors.domain.operation import Hold
from connectors.domain.person import Reference, references
from connectors.domain.retry_pauses import search_pause
from connectors.log_lines import about
from connectors.sevenstamp.client import Limited, Refused, SevenStamp, SevenStampClient, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.card_searches import CardSearch
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.sales import SaleRow
from connectors.sync.health import report_key_failure, report_unwell
from connectors.sync.planner import SKIP, bind_card, conclude_without_card, entitlement, plan_sale, rule_for
from connectors.sync.tills import Tills
from connectors.tracing import step

log = logging.getLogger(__name__)

_PAUSES = (0, 60, 300, 1800, 7200, 21600)
"""Seconds between searches for a customer without a card; the first after a hold follows at once, since a card may have
been made between the search and the hold."""
_CALLS_AT_ONCE = 8
_DUE = 200
_ASKED = 10_000
"""Searches in one round when somebody waits for the result: all of a connection's at once."""


@dataclass(frozen=True, slots=True)
class _CardFound:
    """A card; `issued` where it was made just now, because the rule of some sale says so."""

    card: KnownCard
    issued: bool = False
    names: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class _NoCard:
    """No card, or several that disagree."""

    disagrees: bool = False
    names: tuple[Reference, ...] = ()

    def wait(self, rule: StampRule) -> str:
        """Say what that means for a sale by its rule: a reason to hold, or `SKIP`."""
        if self.disagrees:
            return Hold.conflict
        return SKIP if rule.unknown_customer is UnknownCustomer.skip else Hold.no_card


class Identifier:
    """Works through the searches that ingest left."""

    def __init__(self, store: Store, tills: Tills, sevenstamp: SevenStamp) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp

    async def round(self, only: str | None = None) -> int:
        """Work through the searches that are due (or all of one connection's); return how many those were."""
        limit = _ASKED if only else _DUE
        return await self._work_through(await self._store.write(lambda tx: ledger.card_searches.lease(tx, limit, only)))

    async def due_round(self, connection_id: str) -> int:
        """Work through the searches of a connection that are due; return how many those were."""
        return await self._work_through(
            await self._store.write(lambda tx: ledger.card_searches.lease(tx, _DUE, connection_id, due=True))
        )

    async def _work_through(self, searches: Sequence[CardSearch]) -> int:
        if not searches:
            return 0
        ids = list({search.connection_id for search in searches})
        owners = await self._store.read(lambda tx: connections.registry.by_ids(tx, ids))
        slots = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def run(search: CardSearch) -> None:
            async with slots:
                with about(search.connection_id), step("find the card"):
                    await self._search(owners[search.connection_id], search)

        # one answer serves every sale of the same customer
        by_customer = {(search.connection_id, search.customer_hash): search for search in reversed(searches)}
        async with asyncio.TaskGroup() as group:
            for search in by_customer.values():
                group.create_task(run(search))
        return len(searches)

    async def _search(self, connection: Connection, search: CardSearch) -> None:
        client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
        try:
            may_issue = await self._store.read(lambda tx: _may_issue(tx, search))
            customer = await self._resolve_till_id(connection, search)
            answer = await _find_card(client, references(customer, connection.account.country), may_issue=may_issue)
        except (ConnectorError, SevenStampError) as error:
            await self._postpone(connection, search, error)
            return
        except Exception as error:
            log.exception("connection %s: identify raised %s", connection.id, type(error).__name__)
            await self._postpone(connection, search, error)
            return
        await self._store.write(lambda tx: _conclude(tx, connection, search, answer))

    async def _postpone(self, connection: Connection, search: CardSearch, error: Exception) -> None:
        def work(tx: Transaction) -> None:
            if isinstance(error, Limited):
                pause = int(error.retry_after * SECOND)
            else:
                pause = search_pause(search.attempts, tx.now - search.created_at)
            ledger.card_searches.postpone(tx, search, tx.now + pause)
            if isinstance(error, NotAuthorised):
                report_unwell(tx, connection, Health.needs_authorisation, Message("why.till_refuses"))
            report_key_failure(tx, connection.key_hash, error)

        await self._store.write(work)

    async def _resolve_till_id(self, connection: Connection, search: CardSearch) -> Customer:
        """Return the customer by the names that 7stamp knows; the till is asked where it gave only its own id."""
        customer = search.customer
        if not customer.till_id or _has_names(customer):
            return customer
        known = await self._store.read(lambda tx: ledger.cards.till_customer(tx, connection.id, search.customer_hash))
        return known or await self._ask_till(connection, search, customer.till_id) or customer

    async def _ask_till(self, connection: Connection, search: CardSearch, till_id: str) -> Customer | None:
        try:
            customer = await self._tills.of(connection).customer(till_id)
        except (NotSupported, BadPayload):
            return None  # the till cannot name its customer in a way that can be read
        if customer is None or not _has_names(customer):
            return customer

        def remember(tx: Transaction) -> None:
            if ledger.card_searches.is_wanted(tx, search):  # forgotten meanwhile: then nothing of it is kept
                ledger.cards.remember_till_customer(tx, connection.id, search.customer_hash, customer)

        await self._store.write(remember)
        return customer


def _has_names(customer: Customer) -> bool:
    return bool(customer.number or customer.phone or customer.email)


async def _find_card(client: SevenStampClient, names: Sequence[Reference], *, may_issue: bool) -> _CardFound | _NoCard:
    """Ask 7stamp for the card of each name, and issue one where there is none and a rule says so."""
    names = tuple(names)
    cards: dict[str, Card] = {}
    issuable: list[Reference] = []
    for name in names:
        matches = await _cards_named(client, name)
        if matches is None:
            continue
        issuable.append(name)
        # all names are asked, though the first has found a card: another's card must not pass for a match
        active = next((card for card in matches if card.active), None)
        if active is not None:
            cards.setdefault(active.id, active)
    if len(cards) > 1:
        return _NoCard(disagrees=True, names=names)
    if cards:
        (card,) = cards.values()
        return _CardFound(KnownCard(card.id, card.hint), names=_with_number(names, card))
    if may_issue and (issued := await _issue_card(client, issuable)):
        return _CardFound(KnownCard(issued.id, issued.hint), issued=True, names=_with_number(names, issued))
    return _NoCard(names=names)


async def _cards_named(client: SevenStampClient, name: Reference) -> Sequence[Card] | None:
    """Ask 7stamp for the cards of a name; `None` where it says that this is no name, which finds nobody."""
    try:
        return await client.cards(**{name.kind: name.value})
    except Refused as refusal:
        if refusal.status != 422:
            raise
        return None


async def _issue_card(client: SevenStampClient, names: Sequence[Reference]) -> Card | None:
    """Issue a card to the first name that 7stamp takes; a number is no name that a card can be made for."""
    for name in names:
        if name.kind == "number":
            continue
        try:
            return await client.issue_card(**{name.kind: name.value})
        except Refused as refusal:
            if refusal.status != 422:
                raise
    return None


def _with_number(names: tuple[Reference, ...], card: Card) -> tuple[Reference, ...]:
    return (*names, Reference("number", card.number))


def _conclude(tx: Transaction, connection: Connection, search: CardSearch, answer: _CardFound | _NoCard) -> None:
    """Plan every sale that waits for the customer of a search, and postpone the search for those that go on waiting."""
    if not ledger.card_searches.is_wanted(tx, search):
        return  # every sale that waited names another customer now, or nobody any more
    ledger.cards.remember_names(tx, connection.business_id, search.customer_hash, answer.names)
    if isinstance(answer, _CardFound):
        ledger.cards.remember(tx, connection.business_id, search.customer_hash, answer.card)
    batch = SaleBatch.load(tx, [search.sale_id, *ledger.card_searches.other_sales_of_customer(tx, search)])
    holds: dict[str, int] = {}
    for row in batch.oldest_first():
        if _waits_for(row, search):
            rule = _rule_of(tx, row)
            if _apply(tx, batch, row, connection, rule, answer) not in (None, SKIP):
                holds[row.id] = rule.hold_days * DAY
    batch.flush()
    at = tx.now + _PAUSES[min(search.attempts, len(_PAUSES) - 1)] * SECOND
    for sale_id, hold in holds.items():
        ledger.card_searches.wait_for_card(tx, search, sale_id, at, hold)
    if search.sale_id not in batch.rows or batch.rows[search.sale_id].customer_hash != search.customer_hash:
        ledger.card_searches.delete(tx, search.sale_id, search.customer_hash)
    tx.wakeups.add(Wakeup.identify)


def _waits_for(row: SaleRow, search: CardSearch) -> bool:
    """Say whether a sale still waits: not where it names another customer now, or its card was found meanwhile."""
    return row.customer_hash == search.customer_hash and not (row.identified and row.card_id is not None)


def _apply(
    tx: Transaction,
    batch: SaleBatch,
    row: SaleRow,
    connection: Connection,
    rule: StampRule,
    answer: _CardFound | _NoCard,
) -> str | None:
    """Bind a sale to the card and plan it, or settle that there is none; return what it waits for then."""
    why = entitlement(row, ledger.sales.newest_content(tx, row), rule, connection.zone_of(row.location_id)).why
    # a card that was made for another sale's rule gives nothing to a sale whose rule skips whoever has none
    is_issued_for_others = (
        isinstance(answer, _CardFound) and answer.issued and rule.unknown_customer is UnknownCustomer.skip
    )
    if isinstance(answer, _CardFound) and not is_issued_for_others:
        bind_card(batch, row, answer.card)
        plan_sale(batch, row, connection, rule, why)
        return None
    wait = answer.wait(rule) if isinstance(answer, _NoCard) else SKIP
    if not row.identified or row.wait != wait:
        conclude_without_card(batch, row, wait)
        plan_sale(batch, row, connection, rule, why)
    if wait == SKIP:
        batch.end_search(row)
    return wait


def _rule_of(tx: Transaction, row: SaleRow) -> StampRule:
    return rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule


def _may_issue(tx: Transaction, search: CardSearch) -> bool:
    """Say whether some sale that waits for this customer was closed under a rule that issues cards."""
    batch = SaleBatch.load(tx, [search.sale_id, *ledger.card_searches.other_sales_of_customer(tx, search)])
    return any(
        _rule_of(tx, row).unknown_customer is UnknownCustomer.issue
        for row in batch.rows.values()
        if row.customer_hash == search.customer_hash
    )
