"""Finding whose card a customer's is: number before phone before email; answers that disagree are held.

Owns the search and what its end does to the waiting sales; what was found before is `connectors.store.cards`'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import phonenumbers

from connector_sdk.errors import ConnectorError, NotAuthorised, NotSupported
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.sale import Customer
from connectors.domain.clock import DAY, SECOND
from connectors.domain.connection import Connection, Health
from connectors.domain.operation import Hold
from connectors.sevenstamp.client import InvalidKey, Limited, SevenStamp, SevenStampClient, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import cards, connections, ledger
from connectors.store.cards import KnownCard, Search
from connectors.store.engine import Store, Transaction
from connectors.store.ledger import Page
from connectors.sync.ingest import entitlement
from connectors.sync.planner import bind, conclude_without_card, plan_sale, rule_for
from connectors.sync.tills import Tills

log = logging.getLogger(__name__)

_PAUSES = (0, 60, 300, 1800, 7200, 21600)  # seconds; the first look after a hold follows at once
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Found:
    card: KnownCard


@dataclass(frozen=True, slots=True)
class _Nobody:
    """No card: `wait` is a hold's reason, or `skip`."""

    wait: str


class Identifier:
    """Works through the searches that ingest left."""

    def __init__(self, store: Store, tills: Tills, sevenstamp: SevenStamp) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp

    async def round(self, only: str | None = None, limit: int = 200) -> int:
        """Work through what is due now (or all of one connection's); how many searches that were."""
        searches = await self._store.write(lambda tx: cards.claim(tx, limit, only))
        if not searches:
            return 0
        known = await self._store.read(lambda tx: connections.of_ids(tx, list({s.connection_id for s in searches})))
        slots = asyncio.Semaphore(_AT_ONCE)

        async def search(first: Search) -> None:
            async with slots:
                await self._search(known[first.connection_id], first)

        # one answer serves every sale of the same customer
        distinct = {(s.connection_id, s.customer_hash): s for s in reversed(searches)}
        async with asyncio.TaskGroup() as group:
            for one in distinct.values():
                group.create_task(search(one))
        return len(searches)

    async def _search(self, connection: Connection, search: Search) -> None:
        key = self._store.vault.decrypt(connection.sevenstamp_key)
        try:
            rule = await self._store.read(lambda tx: _rule(tx, connection, search))
            if rule is None:
                await self._store.write(lambda tx: cards.drop(tx, search))
                return
            answer = await self._look(connection, self._sevenstamp.with_key(key), search, rule)
        except (ConnectorError, SevenStampError) as error:
            await self._failed(connection, search, error)
            return
        except Exception as error:
            log.error("connection %s: identify raised %s", connection.id, type(error).__name__, exc_info=error)
            await self._failed(connection, search, error)
            return
        await self._store.write(lambda tx: self._conclude(tx, connection, search, answer))

    async def _failed(self, connection: Connection, search: Search, error: Exception) -> None:
        pause = error.retry_after if isinstance(error, Limited) else min(5 * 2**search.attempts, 600)

        def work(tx: Transaction) -> None:
            cards.look_again(tx, search, tx.now + int(pause * SECOND), search.expires_at)
            if isinstance(error, NotAuthorised):
                why = Message("why.till_refuses")
                connections.set_health(tx, connection.id, Health.needs_authorisation, why)
            elif isinstance(error, InvalidKey):
                why = Message("why.key_refused")
                connections.set_health_of_key(tx, connection.key_hash, Health.needs_authorisation, why)

        await self._store.write(work)

    async def _look(
        self, connection: Connection, client: SevenStampClient, search: Search, rule: StampRule
    ) -> _Found | _Nobody:
        who = await self._who(connection, search)
        names = references(who, connection.account.country)
        found: dict[str, Card] = {}
        for kind, value in names:
            for card in await client.cards(**{kind: value}):
                if card.active:
                    found.setdefault(card.id, card)
                    break
        if len(found) > 1:
            return _Nobody(Hold.conflict)
        if found:
            (card,) = found.values()
            return _Found(KnownCard(card.id, card.hint))
        if rule.unknown_customer is UnknownCustomer.skip:
            return _Nobody("skip")
        to_issue = next(((kind, value) for kind, value in names if kind != "number"), None)
        if rule.unknown_customer is UnknownCustomer.issue and to_issue is not None:
            card = await client.issue_card(**{to_issue[0]: to_issue[1]})
            return _Found(KnownCard(card.id, card.hint))
        return _Nobody(Hold.no_card)

    async def _who(self, connection: Connection, search: Search) -> Customer:
        who = search.customer
        if not who.till_id or who.number or who.phone or who.email:
            return who
        known = await self._store.read(lambda tx: cards.known_customer(tx, connection.id, search.customer_hash))
        if known is None:
            try:
                known = await self._tills.of(connection).customer(who.till_id)
            except NotSupported:
                known = None
            if known and (known.number or known.phone or known.email):
                told = known
                await self._store.write(
                    lambda tx: cards.remember_customer(tx, connection.id, search.customer_hash, told)
                )
        return known or who

    def _conclude(self, tx: Transaction, connection: Connection, search: Search, answer: _Found | _Nobody) -> None:
        if isinstance(answer, _Found):
            cards.remember(tx, connection.business_id, search.customer_hash, answer.card)
        page = Page.load(tx, [search.sale_id, *cards.same_customer(tx, search)])
        versions = connections.rules(tx, connection.id)
        for row in page.rows.values():
            if row.customer_hash != search.customer_hash:
                continue  # another customer was named meanwhile: that left its own search
            version = rule_for(row, versions)
            sale = ledger.content(tx, row)
            why = entitlement(row, sale, version.rule, connection.account.zone).why
            if isinstance(answer, _Found):
                bind(page, row, answer.card.id, answer.card.hint)
                plan_sale(page, row, connection, version.rule, why)
            elif not row.identified or row.wait != answer.wait:
                conclude_without_card(page, row, answer.wait)
                plan_sale(page, row, connection, version.rule, why)
            if answer == _Nobody("skip"):
                page.identified(row)
        page.flush()
        if isinstance(answer, _Nobody) and answer.wait != "skip":
            self._look_again(tx, connection, search, page)

    def _look_again(self, tx: Transaction, connection: Connection, search: Search, page: Page) -> None:
        row = page.rows.get(search.sale_id)
        if row is None:
            cards.drop(tx, search)
            return
        rule = rule_for(row, connections.rules(tx, connection.id)).rule
        expires = search.expires_at or tx.now + rule.hold_days * DAY
        cards.drop_expired(tx, search)
        pause = _PAUSES[min(search.attempts, len(_PAUSES) - 1)]
        cards.look_again(tx, search, tx.now + pause * SECOND, expires)
        tx.wake.add("identify")


def _rule(tx: Transaction, connection: Connection, search: Search) -> StampRule | None:
    row = Page.load(tx, [search.sale_id]).rows.get(search.sale_id)
    if row is None or row.customer_hash != search.customer_hash:
        return None
    return rule_for(row, connections.rules(tx, connection.id)).rule


def references(who: Customer, country: str | None) -> Sequence[tuple[str, str]]:
    """The names 7stamp knows a customer by, best first; what cannot be one is left out.

    A phone without a plus is read as a number of the account's country.
    """
    names: list[tuple[str, str]] = []
    if who.number:
        names.append(("number", who.number))
    if who.phone and (phone := international(who.phone, country)):
        names.append(("phone", phone))
    if who.email and "@" in who.email:
        names.append(("email", who.email.strip().lower()))
    return names


def international(text: str, country: str | None) -> str | None:
    """A phone in E.164, or `None` where it cannot be a phone."""
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
