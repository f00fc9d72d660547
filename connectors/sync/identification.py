"""Finding whose card a customer's is: number before phone before email; answers that disagree are held.

Owns the search and what its end does to the waiting sales; what was found before is `connectors.store.cards`'.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from connector_sdk.errors import BadPayload, ConnectorError, NotAuthorised, NotSupported
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.sale import Customer
from connectors.domain.clock import DAY, SECOND
from connectors.domain.connection import Connection, Health
from connectors.domain.events import Wakeup
from connectors.domain.operation import Hold
from connectors.domain.person import references
from connectors.sevenstamp.client import InvalidKey, Limited, Refused, SevenStamp, SevenStampClient, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.card_searches import CardSearch
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.sales import SaleRow
from connectors.sync.ingest import entitlement
from connectors.sync.planner import bind, conclude_without_card, plan_sale, rule_for
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

_PAUSES = (0, 60, 300, 1800, 7200, 21600)  # seconds; the first look after a hold follows at once
_AT_ONCE = 8
_DUE = 200
_ASKED = 10_000  # somebody waits for the result: all of a connection's at once


@dataclass(frozen=True, slots=True)
class _Found:
    """A card; `issued` where it was made just now, because the rule of some sale says so."""

    card: KnownCard
    issued: bool = False
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class _Nobody:
    """No card, or several that disagree."""

    conflict: bool = False
    names: tuple[tuple[str, str], ...] = ()

    def wait(self, rule: StampRule) -> str:
        """What that means for a sale: a hold's reason, or `skip`."""
        if self.conflict:
            return Hold.conflict
        return "skip" if rule.unknown_customer is UnknownCustomer.skip else Hold.no_card


class Identifier:
    """Works through the searches that ingest left."""

    def __init__(self, store: Store, tills: Tills, sevenstamp: SevenStamp) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp

    async def round(self, only: str | None = None) -> int:
        """Work through what is due now (or all of one connection's); how many searches that were."""
        limit = _ASKED if only else _DUE
        searches = await self._store.write(lambda tx: ledger.card_searches.claim(tx, limit, only))
        if not searches:
            return 0
        known = await self._store.read(
            lambda tx: connections.registry.by_ids(tx, list({s.connection_id for s in searches}))
        )
        slots = asyncio.Semaphore(_AT_ONCE)

        async def search(first: CardSearch) -> None:
            async with slots:
                await self._search(known[first.connection_id], first)

        # one answer serves every sale of the same customer
        distinct = {(s.connection_id, s.customer_hash): s for s in reversed(searches)}
        async with asyncio.TaskGroup() as group:
            for one in distinct.values():
                group.create_task(search(one))
        return len(searches)

    async def _search(self, connection: Connection, search: CardSearch) -> None:
        key = self._store.vault.decrypt(connection.sevenstamp_key)
        try:
            issue = await self._store.read(lambda tx: _may_issue(tx, search))
            answer = await self._look(connection, self._sevenstamp.with_key(key), search, issue=issue)
        except (ConnectorError, SevenStampError) as error:
            await self._failed(connection, search, error)
            return
        except Exception as error:
            log.exception("connection %s: identify raised %s", connection.id, type(error).__name__)
            await self._failed(connection, search, error)
            return
        await self._store.write(lambda tx: self._conclude(tx, connection, search, answer))

    async def _failed(self, connection: Connection, search: CardSearch, error: Exception) -> None:
        pause = error.retry_after if isinstance(error, Limited) else min(5 * 2**search.attempts, 3600)

        def work(tx: Transaction) -> None:
            ledger.card_searches.postpone(tx, search, tx.now + int(pause * SECOND))
            match error:
                case NotAuthorised():
                    why = Message("why.till_refuses")
                    connections.registry.report_unwell(tx, connection, Health.needs_authorisation, why)
                case InvalidKey():
                    why = Message("why.key_refused")
                    connections.registry.set_health_of_key(tx, connection.key_hash, Health.needs_authorisation, why)
                case Limited():
                    connections.registry.pause_key(tx, connection.key_hash, tx.now + int(pause * SECOND))

        await self._store.write(work)

    async def _look(
        self, connection: Connection, client: SevenStampClient, search: CardSearch, *, issue: bool
    ) -> _Found | _Nobody:
        who = await self._who(connection, search)
        found: dict[str, Card] = {}
        to_issue: list[tuple[str, str]] = []
        names = tuple(references(who, connection.account.country))
        for kind, value in names:
            try:
                named = await client.cards(**{kind: value})
            except Refused as refusal:
                if refusal.status != 422:
                    raise
                continue  # 7stamp says that this is no such name: it finds nobody
            if kind != "number":
                to_issue.append((kind, value))
            for card in named:
                if card.active:
                    found.setdefault(card.id, card)
                    break
        if len(found) > 1:
            return _Nobody(conflict=True, names=names)
        if found:
            (card,) = found.values()
            return _Found(KnownCard(card.id, card.hint), names=(*names, ("number", card.number)))
        for kind, value in to_issue if issue else ():
            try:
                card = await client.issue_card(**{kind: value})
            except Refused as refusal:
                if refusal.status != 422:
                    raise
                continue
            return _Found(KnownCard(card.id, card.hint), issued=True, names=(*names, ("number", card.number)))
        return _Nobody(names=names)

    async def _who(self, connection: Connection, search: CardSearch) -> Customer:
        who = search.customer
        if not who.till_id or who.number or who.phone or who.email:
            return who
        known = await self._store.read(lambda tx: ledger.cards.known_customer(tx, connection.id, search.customer_hash))
        if known is None:
            try:
                known = await self._tills.of(connection).customer(who.till_id)
            except (NotSupported, BadPayload):
                known = None  # the till cannot name its customer in a way that can be read
            if known and (known.number or known.phone or known.email):
                told = known

                def remember(tx: Transaction) -> None:
                    if ledger.card_searches.is_wanted(tx, search):  # forgotten meanwhile: then nothing of it is kept
                        ledger.cards.remember_customer(tx, connection.id, search.customer_hash, told)

                await self._store.write(remember)
        return known or who

    def _conclude(self, tx: Transaction, connection: Connection, search: CardSearch, answer: _Found | _Nobody) -> None:
        if not ledger.card_searches.is_wanted(
            tx, search
        ):  # every sale that waited names another customer now, or nobody any more
            return
        ledger.cards.remember_names(tx, connection.business_id, search.customer_hash, answer.names)
        if isinstance(answer, _Found):
            ledger.cards.remember(tx, connection.business_id, search.customer_hash, answer.card)
        page = SaleBatch.load(tx, [search.sale_id, *ledger.card_searches.sales_of_customer(tx, search)])
        waiting: list[tuple[SaleRow, StampRule]] = []
        for row in page.oldest_first():
            if row.customer_hash != search.customer_hash or (row.identified and row.card_id is not None):
                continue  # another customer was named meanwhile, or the card was found by another search
            rule = _rule_of(tx, row)
            sale = ledger.sales.newest_content(tx, row)
            why = entitlement(row, sale, rule, connection.account.zone).why
            issued_for_others = (
                isinstance(answer, _Found) and answer.issued and rule.unknown_customer is UnknownCustomer.skip
            )
            if isinstance(answer, _Found) and not issued_for_others:
                bind(page, row, answer.card.id, answer.card.hint)
                plan_sale(page, row, connection, rule, why)
                continue
            wait = answer.wait(rule) if isinstance(answer, _Nobody) else "skip"
            if not row.identified or row.wait != wait:
                conclude_without_card(page, row, wait)
                plan_sale(page, row, connection, rule, why)
            if wait == "skip":
                page.identified(row)
            else:
                waiting.append((row, rule))
        page.flush()
        pause = _PAUSES[min(search.attempts, len(_PAUSES) - 1)]
        for row, rule in waiting:
            at = tx.now + pause * SECOND
            ledger.card_searches.wait_for_card(tx, row.id, search.customer_hash, at, rule.hold_days * DAY)
        if search.sale_id not in page.rows or page.rows[search.sale_id].customer_hash != search.customer_hash:
            ledger.card_searches.delete(tx, search)
        tx.wakeups.add(Wakeup.identify)


def _rule_of(tx: Transaction, row: SaleRow) -> StampRule:
    return rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule


def _may_issue(tx: Transaction, search: CardSearch) -> bool:
    """Whether some sale that waits for this customer was closed under a rule that issues cards."""
    page = SaleBatch.load(tx, [search.sale_id, *ledger.card_searches.sales_of_customer(tx, search)])
    return any(
        _rule_of(tx, row).unknown_customer is UnknownCustomer.issue
        for row in page.rows.values()
        if row.customer_hash == search.customer_hash
    )
