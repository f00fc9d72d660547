"""The one door: polls, hooks and backfills hand in receipts as they are now; each new version is kept and planned.

Owns versions, admission and what a snapshot changes, by the law book; nothing here calls another system.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from connector_sdk.hookspecs import ConnectionFacts
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, SaleStatus, Unreadable
from connectors.domain.clock import micros
from connectors.domain.connection import Connection, Health
from connectors.domain.events import SaleIngested
from connectors.domain.operation import Hold
from connectors.domain.person import Reference, TillId, references
from connectors.domain.stamps import Earned, RuleVersion, stamps_for
from connectors.store import connections, inbox, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.inbox.hints import NewHint
from connectors.store.inbox.unreadable import Origin
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.sales import SaleRow
from connectors.sync.planner import bind, day_of, plan_redemptions, plan_sale, rule_for

log = logging.getLogger(__name__)

StampsBySale = Callable[[ConnectionFacts, Sale, StampRule], int | None]
"""The `stamps_for_sale` hook, guarded: a plugin that raises answers `None`."""


class Source(StrEnum):
    poll = "poll"
    lookback = "lookback"
    hint = "hint"
    push = "push"
    backfill = "backfill"


class Outcome(StrEnum):
    """What a snapshot did.

    `unchanged`: it says what is known already. `stored`: it is the receipt's new version, and planned. `lost`: it is
    older than what is known, or would undo it; the journal says so. `kept`: it could not be taken in, and waits for a
    person. `hinted`: it cannot be ordered, so the till is asked. `elsewhere`: its location is another connection's.
    """

    unchanged = "unchanged"
    stored = "stored"
    lost = "lost"
    kept = "kept"
    hinted = "hinted"
    elsewhere = "elsewhere"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a receipt. `ticket` orders reads; a push has none. `fetches`: whether the till can be asked.

    `arrived_at` is when what was kept and is read again had arrived (UTC microseconds); `None` for what arrives now.
    """

    connection: Connection
    sale: Sale
    source: Source
    ticket: int | None
    fetches: bool = True
    arrived_at: int | None = None


class Ingestor:
    """Ingests arrivals, many callers in one transaction."""

    def __init__(self, store: Store, stamps_by_plugin: StampsBySale | None = None) -> None:
        self._store = store
        self._stamps_by_plugin = stamps_by_plugin or (lambda _connection, _sale, _rule: None)

    async def ingest(self, arrivals: Sequence[Snapshot]) -> list[Outcome]:
        """Keep and plan what is new among the arrivals; outcomes in their order."""
        if not arrivals:
            return []
        if len(arrivals) > 1:  # an overlap is mostly known: say so without the write lock
            known = await self._store.read(lambda tx: _known(tx, arrivals))
            if all(known):
                return [Outcome.unchanged] * len(arrivals)
        try:
            return await self._store.gather(self.work, arrivals)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - kept, logged and named in the journal
            if len(arrivals) > 1:  # one receipt that cannot be planned must not stop the others
                return [outcome for one in arrivals for outcome in await self.ingest([one])]
            await self._set_aside(arrivals[0], error)
            return [Outcome.kept]

    async def _set_aside(self, arrival: Snapshot, error: Exception) -> None:
        """Keep a receipt that ingest itself could not take, for a person."""
        one, sale = arrival.connection, arrival.sale
        log.error("connection %s: a receipt could not be taken in", one.id, exc_info=error)
        body = sale.model_dump_json().encode()
        why = f"cannot be taken in ({type(error).__name__})"
        bad = Unreadable(receipt_id=sale.receipt_id, body=body, where="sale", why=why)
        await self.keep(one, [bad], Origin.sale, at=arrival.arrived_at)

    def work(self, tx: Transaction, batches: Sequence[Sequence[Snapshot]]) -> list[list[Outcome]]:
        """The transaction: all arrivals of all callers."""
        flat = [arrival for batch in batches for arrival in batch]
        outcomes = _Ingest(tx, self._stamps_by_plugin).run(flat)
        results: list[list[Outcome]] = []
        for batch in batches:
            results.append(outcomes[: len(batch)])
            outcomes = outcomes[len(batch) :]
        return results

    async def keep(
        self,
        connection: Connection,
        unreadable: Sequence[Unreadable],
        origin: Origin,
        *,
        hook: bytes | None = None,
        at: int | None = None,
    ) -> int:
        """Keep what could not be mapped (of a `hook`, that whole), naming it in the journal once; how many were new."""
        if not unreadable:
            return 0

        def work(tx: Transaction) -> int:
            new = 0
            for one in unreadable:
                body, reason = hook if hook is not None else one.body, one.reason
                if inbox.unreadable.keep(tx, connection.id, one.receipt_id, body, reason, origin, at=at):
                    params = {"receipt": one.receipt_id or "?", "where": one.where, "why": reason.said}
                    ledger.journal.write(tx, connection.id, Message("sale.unreadable", params), one.receipt_id)
                    new += 1
            return new

        return await self._store.write(work)


def _id(tx: Transaction, arrival: Snapshot) -> str:
    one = arrival.connection
    return ledger.sales.sale_id_of(tx, one.business_id, one.connector, one.account.id, arrival.sale.receipt_id)


def _known(tx: Transaction, arrivals: Sequence[Snapshot]) -> list[bool]:
    """Which arrivals say what is stored; a backfill may have to admit what it finds, so it always looks closer."""
    ids = [_id(tx, arrival) for arrival in arrivals]
    stored = ledger.sales.digests_of(tx, ids)
    anonymous = {one for one, (_, erased) in stored.items() if erased}
    arrivals = without_forgotten(tx, ids, arrivals, anonymous)
    return [
        arrival.source is not Source.backfill
        and one in stored
        and stored[one][0] == ledger.sales.digest_of(tx, arrival.sale)
        for one, arrival in zip(ids, arrivals, strict=True)
    ]


def without_forgotten(
    tx: Transaction, ids: Sequence[str], arrivals: Sequence[Snapshot], anonymous: Collection[str]
) -> list[Snapshot]:
    """The arrivals without customers who were forgotten: those of `anonymous` sales, and whoever has a mark.

    A mark counts for receipts that were closed before it was made, and for open ones: who comes back and gives their
    name anew is a customer like any other.
    """
    forgetful = ledger.forgotten_customers.businesses_with_marks(
        tx, {arrival.connection.business_id for arrival in arrivals}
    )
    names = [
        _marks_of(tx, arrival, forgetful[arrival.connection.business_id])
        if arrival.connection.business_id in forgetful
        else []
        for arrival in arrivals
    ]
    marks = ledger.forgotten_customers.marks(tx, {mark for some in names for mark in some})
    stripped: list[Snapshot] = []
    for sale_id, arrival, some in zip(ids, arrivals, names, strict=True):
        sale, since = arrival.sale, max((marks[mark] for mark in some if mark in marks), default=None)
        older = since is not None and (sale.closed_at is None or micros(sale.closed_at) <= since)
        if sale.customer is not None and (older or sale_id in anonymous):
            arrival = replace(arrival, sale=sale.model_copy(update={"customer": None}))
        stripped.append(arrival)
    return stripped


def _marks_of(tx: Transaction, arrival: Snapshot, country: str) -> list[str]:
    """The hashes under which the customer of an arrival would be marked as forgotten.

    A phone without its country's code is of the account's country, or else the business's (`country`).
    """
    one, who = arrival.connection, arrival.sale.customer
    if who is None:
        return []
    names: list[Reference | TillId] = [*references(who, one.account.country or country)]
    if who.till_id:
        names.append(TillId(one.connector, one.account.id, who.till_id))
    return [ledger.forgotten_customers.mark_hash(tx, one.business_id, name) for name in names]


def names_forgotten(tx: Transaction, connection: Connection, sales: Sequence[Sale]) -> bool:
    """Whether some of these sales name a customer who was forgotten since."""
    arrivals = [Snapshot(connection, sale, Source.push, None) for sale in sales]
    ids = [_id(tx, arrival) for arrival in arrivals]
    anonymous = {one for one, (_, erased) in ledger.sales.digests_of(tx, ids).items() if erased}
    stripped = without_forgotten(tx, ids, arrivals, anonymous)
    return any(now.sale.customer != arrival.sale.customer for now, arrival in zip(stripped, arrivals, strict=True))


class _Ingest:
    """One transaction's worth of arrivals."""

    def __init__(self, tx: Transaction, stamps_by_plugin: StampsBySale) -> None:
        self.tx = tx
        self.stamps_by_plugin = stamps_by_plugin
        self.rules: dict[str, list[RuleVersion]] = {}
        self.hints: list[NewHint] = []
        self.page = SaleBatch(tx)
        self.known: dict[tuple[str, str], tuple[ledger.cards.KnownCard, int]] = {}

    def run(self, arrivals: Sequence[Snapshot]) -> list[Outcome]:
        # what is read may be older than what the connection is now: it may be removed, or have other locations
        now = connections.registry.by_ids(self.tx, list({arrival.connection.id for arrival in arrivals}))
        arrivals = [replace(arrival, connection=now[arrival.connection.id]) for arrival in arrivals]
        ids = [_id(self.tx, arrival) for arrival in arrivals]
        self.page = SaleBatch.load(self.tx, ids)
        anonymous = {row.id for row in self.page.rows.values() if row.anonymous}
        arrivals = without_forgotten(self.tx, ids, arrivals, anonymous)
        self._load(arrivals)
        outcomes = [self._one(one, arrival) for one, arrival in zip(ids, arrivals, strict=True)]
        self.page.flush()
        inbox.hints.leave(self.tx, self.hints)
        return outcomes

    def _load(self, arrivals: Sequence[Snapshot]) -> None:
        """What all arrivals need, in a query each: cards known before, and rules."""
        self.known = ledger.cards.known_cards(
            self.tx, sorted({self._customer_hash(one) for one in arrivals if one.sale.customer})
        )
        planned = {row.rule_of or row.connection_id for row in self.page.rows.values()}
        self.rules = connections.rules.of_connections(
            self.tx, sorted(planned | {one.connection.id for one in arrivals})
        )

    def _customer_hash(self, arrival: Snapshot) -> str:
        one, who = arrival.connection, arrival.sale.customer
        if not who:
            raise ValueError("nobody is attached to this sale")
        return ledger.cards.customer_hash(self.tx, one.connector, one.account.id, who)

    def _rule(self, row: SaleRow) -> RuleVersion:
        """The rule in force when the receipt was closed, of the connection that had its location then."""
        return rule_for(row, self.rules[row.rule_of or row.connection_id])

    def _one(self, sale_id: str, arrival: Snapshot) -> Outcome:
        row = self.page.rows.get(sale_id)
        if arrival.connection.health is Health.removed:
            return Outcome.elsewhere
        if not arrival.connection.covers(arrival.sale.location_id) and (
            row is None or row.connection_id != arrival.connection.id
        ):
            return Outcome.elsewhere
        digest = ledger.sales.digest_of(self.tx, arrival.sale)
        pushed = arrival.source is Source.push
        if pushed and arrival.sale.version is None and arrival.fetches:
            self._hint(arrival, said=True)
            return Outcome.hinted
        if row is None:
            self._first(sale_id, arrival, digest)
            return Outcome.stored
        if row.digest == digest:
            return self._again(row, arrival)
        if pushed and not arrival.fetches and not _ordered(row, arrival):
            return self._push_without_order(row, arrival, digest)
        if not _newer(row, arrival):
            return self._lose(row, arrival, digest, "sale.older")
        self._next(row, arrival, digest)
        return Outcome.stored

    def _push_without_order(self, row: SaleRow, arrival: Snapshot, digest: str) -> Outcome:
        """Rule on a push that neither a version nor the till itself can order."""
        if self._is_late(row, arrival):
            return self._lose(row, arrival, digest, "sale.older")
        if self.page.seen_before(row, digest, but_not_at=arrival.arrived_at):
            return Outcome.unchanged
        if _undoes(row, arrival.sale):
            return self._lose(row, arrival, digest, "sale.undoes")
        self._next(row, arrival, digest)
        return Outcome.stored

    def _lose(self, row: SaleRow, arrival: Snapshot, digest: str, why: str) -> Outcome:
        """Leave a snapshot aside, and say so in the journal the first time that this one loses.

        Our order may be wrong, so the till is asked where it can be. Not for what its own versions have ordered before:
        a till whose versions shrink would be asked without end. And not from within such a question: its hint stays,
        with growing pauses.
        """
        at = self.tx.now if arrival.arrived_at is None else arrival.arrived_at
        is_new = self.page.remember_seen(row, sale=arrival.sale, digest=digest, at=at)
        if is_new:
            self.page.note(row, Message(why, {"receipt": row.receipt_id, "amount": arrival.sale.paid}))
        if arrival.fetches and arrival.source is not Source.hint and (is_new or not _ordered(row, arrival)):
            self._hint(arrival, said=arrival.source is Source.push)
        return Outcome.lost

    def _is_late(self, row: SaleRow, arrival: Snapshot) -> bool:
        """Read again, but what arrived after it is known: unless that could not have undone what this one says."""
        if arrival.arrived_at is None or self.page.seen_at(row) <= arrival.arrived_at:
            return False
        voids = arrival.sale.status is SaleStatus.voided and row.status != SaleStatus.voided
        return not voids and arrival.sale.refunded.minor <= row.refunded

    def _hint(self, arrival: Snapshot, *, said: bool) -> None:
        closed = arrival.sale.status is SaleStatus.closed
        self.hints.append(NewHint(arrival.connection.id, arrival.sale.receipt_id, closed, said))

    def _again(self, row: SaleRow, arrival: Snapshot) -> Outcome:
        """The same content: nothing to write, unless a backfill admits what came before the connection."""
        if arrival.source is not Source.backfill or row.admitted or row.closed_at is None:
            return Outcome.unchanged
        row.admitted = 1
        self._plan(row, arrival)
        return Outcome.stored

    def _first(self, sale_id: str, arrival: Snapshot, digest: str) -> None:
        one, sale = arrival.connection, arrival.sale
        row = SaleRow(
            id=sale_id,
            business_id=one.business_id,
            connector=one.connector,
            account_id=one.account.id,
            receipt_id=sale.receipt_id,
            connection_id=one.id,
            version=None,
            ticket=0,
            digest="",
            versions=0,
            status="",
            closed_at=None,
            paid=0,
            refunded=0,
            currency=sale.paid.currency,
            location_id=None,
            admitted=0,
            rule_of=None,
            rule_number=None,
            pinned=0,
            stamps=0,
            stamps_by_plugin=None,
            customer_hash=None,
            bound_hash=None,
            card_id=None,
            card_hint=None,
            wait=None,
            next_n=1,
            changed_at=self.tx.now,
        )
        self.page.add(row)
        self._next(row, arrival, digest)

    def _next(self, row: SaleRow, arrival: Snapshot, digest: str) -> None:
        """Keep a new version and plan by it."""
        sale = arrival.sale
        seen_at = self.tx.now if arrival.arrived_at is None else arrival.arrived_at
        if row.connection_id != arrival.connection.id and arrival.connection.covers(sale.location_id):
            self.page.move(row, arrival.connection.id)
        row.version = sale.version
        row.ticket = max(row.ticket, arrival.ticket or 0)
        row.digest = digest
        row.versions += 1
        row.status = sale.status.value
        closed_at = micros(sale.closed_at) if sale.closed_at else None
        if closed_at != row.closed_at and sale.status is SaleStatus.closed:
            row.pinned, row.rule_of = 0, row.connection_id  # closed anew: the rule then in force counts
        row.closed_at = closed_at if closed_at is not None else row.closed_at
        row.paid, row.refunded, row.currency = sale.paid.minor, sale.refunded.minor, sale.paid.currency
        row.location_id = sale.location_id
        row.day = day_of(row, arrival.connection) if row.closed_at is not None else None
        if not row.admitted and sale.status is SaleStatus.closed and closed_at is not None:
            row.admitted = int(arrival.source is Source.backfill or arrival.connection.admits(closed_at))
        if not (row.claimed or row.anonymous):  # said in the console, or erased: no till undoes that
            row.customer_hash = self._customer_hash(arrival) if sale.customer else None
        rule = self._rule(row).rule
        row.stamps_by_plugin = self.stamps_by_plugin(arrival.connection.facts(), sale, rule)
        self.page.changed(row)
        self.page.add_version(row, sale, arrival.ticket, arrival.source, seen_at)
        self._plan(row, arrival)
        self.tx.events.append(SaleIngested(arrival.connection.facts(), sale))

    def _plan(self, row: SaleRow, arrival: Snapshot) -> None:
        version = self._rule(row)
        earned = entitlement(row, arrival.sale, version.rule, arrival.connection.account.zone)
        row.stamps, row.rule_number = earned.stamps, version.number
        self.page.changed(row)
        self._bind_known(row, arrival)
        never_closed = row.status != SaleStatus.closed and row.versions == 1
        if not never_closed:
            plan_sale(self.page, row, arrival.connection, version.rule, earned.why)
        plan_redemptions(self.page, row, arrival.connection, arrival.sale.redeem_codes)

    def _bind_known(self, row: SaleRow, arrival: Snapshot) -> None:
        """Bind at once where the card is known, or leave the work of finding it; only for what earns something."""
        who = arrival.sale.customer
        if row.claimed or row.anonymous:
            return
        if row.customer_hash is None or who is None:
            self.page.identified(row)
            return
        if row.identified:
            if row.card_id is None and row.wait in (Hold.no_card, Hold.conflict) and row.stamps:
                self.page.identify_later(row, who, self.tx.now)  # something new waits for the card
            return
        former = self.page.former_binding(row, row.customer_hash) if row.versions > 1 else None
        if former is not None:
            bind(self.page, row, *former)
            return
        found = self.known.get((row.business_id, row.customer_hash))
        if found is not None:
            card, learned_at = found
            only_till_id = not (who.number or who.phone or who.email)
            if not only_till_id or learned_at > self.tx.now - ledger.cards.TILL_CUSTOMER_FOR:
                bind(self.page, row, card.id, card.hint)
                return
        if row.admitted and row.stamps:
            self.page.identify_later(row, who, self.tx.now)
        else:
            self.page.identified(row)


def entitlement(row: SaleRow, sale: Sale, rule: StampRule, zone: str) -> Earned:
    """What a sale earns: a plugin's answer, kept with its version, or the rule's."""
    earned = stamps_for(sale, rule, zone)
    if row.stamps_by_plugin is None or sale.status is not SaleStatus.closed:
        return earned
    return Earned(row.stamps_by_plugin, Message("why.plugin", {"stamps": row.stamps_by_plugin}))


def _ordered(row: SaleRow, arrival: Snapshot) -> bool:
    """Whether the till's versions say which of the two is younger.

    They do not where one has none (it may have been taught only now), or where both are the same: many tills write
    whole seconds, and an order is paid and refunded within one.
    """
    ours, theirs = row.version, arrival.sale.version
    return ours is not None and theirs is not None and ours != theirs


def _undoes(row: SaleRow, sale: Sale) -> bool:
    """Whether a snapshot shrinks what was refunded or reopens what was voided; a void counts whatever it refunds."""
    if sale.status is SaleStatus.voided:
        return False
    return sale.refunded.minor < row.refunded or row.status == SaleStatus.voided


def _newer(row: SaleRow, arrival: Snapshot) -> bool:
    """Whether a snapshot is younger than what is stored: by the till's own version, or else by the ticket."""
    if _ordered(row, arrival):
        return (arrival.sale.version or 0) > (row.version or 0)
    return arrival.ticket is not None and arrival.ticket > row.ticket
