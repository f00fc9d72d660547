"""Ingest: polls, hooks, backfills and imports hand in snapshots of receipts; each new version is stored and planned.

Owns versions, admission and what a snapshot changes, by the invariants of the ledger. Nothing here calls another
system: what cannot be settled without one is left as work, in the same transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from connector_sdk.hookspecs import ConnectionFacts
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connector_sdk.sale import Customer, Sale, SaleStatus, Unreadable
from connectors import tracing
from connectors.domain.clock import micros
from connectors.domain.connection import Connection, Health
from connectors.domain.events import SaleIngested
from connectors.domain.holds import WAITS_FOR_CARD
from connectors.domain.stamps import RuleVersion
from connectors.log_lines import about
from connectors.store import connections, inbox, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.inbox.hints import NewHint
from connectors.store.inbox.unreadable import Origin
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard, LearnedCard
from connectors.store.ledger.sales import SaleRow
from connectors.sync.code_matching import with_matched_codes
from connectors.sync.forgotten import sale_id_of, strip_forgotten
from connectors.sync.planner import (
    bind_card,
    day_of,
    entitlement,
    named_customer,
    needs_card,
    plan_redemptions,
    plan_sale,
    rule_for,
)
from connectors.sync.snapshots import Outcome, Snapshot, Source, are_ordered, is_newer, undoes

log = logging.getLogger(__name__)

StampsBySale = Callable[[ConnectionFacts, Sale, StampRule], int | None]
"""The `stamps_for_sale` hook, guarded: a plugin that raises answers `None`."""


def _no_plugin(_connection: ConnectionFacts, _sale: Sale, _rule: StampRule) -> None:
    return None


class Ingestor:
    """Takes snapshots in, those of many callers in one transaction."""

    def __init__(self, store: Store, stamps_by_plugin: StampsBySale | None = None) -> None:
        self._store = store
        self._stamps_by_plugin = stamps_by_plugin or _no_plugin

    async def ingest(self, snapshots: Sequence[Snapshot]) -> list[Outcome]:
        """Store and plan what is new among the snapshots; return their outcomes in their order.

        A snapshot that cannot be taken in stops no other: the batch is tried again one by one, and the one that fails
        is kept for a person.
        """
        if not snapshots:
            return []
        if await self._all_known(snapshots):
            return [Outcome.unchanged] * len(snapshots)
        try:
            outcomes = await self._store.gather(self.ingest_together, snapshots)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - kept, logged and named in the journal
            if len(snapshots) > 1:
                return [outcome for snapshot in snapshots for outcome in await self.ingest([snapshot])]
            await self._set_aside(snapshots[0], error)
            return [Outcome.kept]
        _trace(snapshots, outcomes)
        return outcomes

    async def _all_known(self, snapshots: Sequence[Snapshot]) -> bool:
        """Say whether nothing is new, without the write lock: a poll's overlap is mostly known."""
        return len(snapshots) > 1 and await self._store.read(lambda tx: _are_known(tx, snapshots))

    async def _set_aside(self, snapshot: Snapshot, error: Exception) -> None:
        """Keep a receipt that ingest itself could not take, for a person."""
        connection, sale = snapshot.connection, snapshot.sale
        log.error("connection %s: a receipt could not be taken in", connection.id, exc_info=error)
        why = f"cannot be taken in ({type(error).__name__})"
        body = sale.model_dump_json().encode()
        unreadable = Unreadable(receipt_id=sale.receipt_id, body=body, where="sale", why=why)
        await self.keep(connection, [unreadable], Origin.sale, at=snapshot.arrived_at)

    def ingest_together(self, tx: Transaction, batches: Sequence[Sequence[Snapshot]]) -> list[list[Outcome]]:
        """Run the transaction: the snapshots of all callers, and each caller's outcomes."""
        snapshots = [snapshot for batch in batches for snapshot in batch]
        outcomes = iter(_IngestTransaction(tx, self._stamps_by_plugin).run(snapshots))
        return [[next(outcomes) for _ in batch] for batch in batches]

    async def keep(
        self,
        connection: Connection,
        unreadable: Sequence[Unreadable],
        origin: Origin,
        *,
        hook: bytes | None = None,
        at: int | None = None,
    ) -> int:
        """Keep what could not be mapped (of a `hook`, that whole), each named in the journal once; return how many.

        `at` is when it arrived (UTC microseconds), where that is not now. What was kept before is not counted.
        """
        if not unreadable:
            return 0

        def work(tx: Transaction) -> int:
            return sum(
                _keep_unreadable(tx, connection, item, hook if hook is not None else item.body, origin, at)
                for item in unreadable
            )

        return await self._store.write(work)


def _trace(snapshots: Sequence[Snapshot], outcomes: Sequence[Outcome]) -> None:
    """Add to the trace of each receipt that a version of it is stored, or only waits to be fetched."""
    if not tracing.is_on():
        return
    for snapshot, outcome in zip(snapshots, outcomes, strict=True):
        if outcome in (Outcome.stored, Outcome.hinted):
            facts = {"source": snapshot.source.value, "outcome": outcome.value}
            with about(snapshot.connection.id, snapshot.sale.receipt_id), tracing.step("take a receipt in", **facts):
                pass


def _keep_unreadable(
    tx: Transaction, connection: Connection, item: Unreadable, body: bytes, origin: Origin, at: int | None
) -> bool:
    if not inbox.unreadable.keep(tx, connection.id, item.receipt_id, body, item.reason, origin, at=at):
        return False
    params = {"receipt": item.receipt_id or "?", "where": item.where, "why": item.reason.said}
    ledger.journal.write(tx, connection.id, Message("sale.unreadable", params), item.receipt_id)
    return True


def _are_known(tx: Transaction, snapshots: Sequence[Snapshot]) -> bool:
    """Say whether all snapshots say what is stored, and admit nothing that is not admitted."""
    snapshots = with_matched_codes(tx, snapshots)
    ids = [sale_id_of(tx, snapshot) for snapshot in snapshots]
    stored = ledger.sales.digests_of(tx, ids)
    if len(stored) < len(set(ids)):
        return False
    anonymous = {sale_id for sale_id, digest in stored.items() if digest.is_anonymous}
    stripped = strip_forgotten(tx, ids, snapshots, anonymous)
    return all(
        stored[sale_id].digest == ledger.sales.digest_of(tx, snapshot.sale)
        and not (snapshot.source.admits and stored[sale_id].could_be_admitted)
        for sale_id, snapshot in zip(ids, stripped, strict=True)
    )


class _IngestTransaction:
    """One transaction's worth of snapshots.

    Each snapshot goes through the same questions, in this order, and the first that fits decides:

    1. Does this connection neither cover its location nor have the receipt (or is it removed)? Then it is not this
       connection's to take in: `elsewhere`.
    2. Is it a push without a version, of a till that can be asked? A push says nothing of its age: `hinted`.
    3. Is the receipt new? Then this is its first version.
    4. Does it say what is stored? Nothing to write, unless a backfill admits the receipt: `unchanged`.
    5. Is it a push that nothing can order (`are_ordered`)? Then the rules for pushes: what was seen before changes
       nothing, refunds never shrink, a void never reopens.
    6. Is it not newer than what is stored, by version or ticket? It loses, and the journal says so: `lost`.
    7. Otherwise it is the receipt's next version: `stored`.
    """

    def __init__(self, tx: Transaction, stamps_by_plugin: StampsBySale) -> None:
        self._tx = tx
        self._stamps_by_plugin = stamps_by_plugin
        self._rules: dict[str, list[RuleVersion]] = {}
        self._known_cards: dict[tuple[str, str], LearnedCard] = {}
        self._hints: list[NewHint] = []
        self._batch = SaleBatch(tx)

    def run(self, snapshots: Sequence[Snapshot]) -> list[Outcome]:
        """Take all snapshots in; return their outcomes in their order."""
        snapshots = with_matched_codes(self._tx, self._with_connections_as_they_are(snapshots))
        ids = [sale_id_of(self._tx, snapshot) for snapshot in snapshots]
        self._batch = SaleBatch.load(self._tx, ids)
        anonymous = {row.id for row in self._batch.rows.values() if row.anonymous}
        snapshots = strip_forgotten(self._tx, ids, snapshots, anonymous)
        self._load_cards_and_rules(snapshots)
        outcomes = [self._ingest(sale_id, snapshot) for sale_id, snapshot in zip(ids, snapshots, strict=True)]
        self._batch.flush()
        inbox.hints.leave(self._tx, self._hints)
        return outcomes

    def _with_connections_as_they_are(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        # a read may have begun before its connection was removed, or given other locations
        ids = list({snapshot.connection.id for snapshot in snapshots})
        current = connections.registry.by_ids(self._tx, ids)
        return [replace(snapshot, connection=current[snapshot.connection.id]) for snapshot in snapshots]

    def _load_cards_and_rules(self, snapshots: Sequence[Snapshot]) -> None:
        """Load what all snapshots need, in a query each: the cards known before, and the rules."""
        hashes = {
            self._customer_hash(snapshot, customer) for snapshot in snapshots if (customer := snapshot.sale.customer)
        }
        self._known_cards = ledger.cards.known_cards(self._tx, sorted(hashes))
        planned = {row.rule_of or row.connection_id for row in self._batch.rows.values()}
        arriving = {snapshot.connection.id for snapshot in snapshots}
        self._rules = connections.rules.of_connections(self._tx, sorted(planned | arriving))

    def _customer_hash(self, snapshot: Snapshot, customer: Customer) -> str:
        connection = snapshot.connection
        return ledger.cards.customer_hash(self._tx, connection.connector, connection.account.id, customer)

    def _rule(self, row: SaleRow) -> RuleVersion:
        """Return the rule in force when the receipt was closed, of the connection that had its location then."""
        return rule_for(row, self._rules[row.rule_of or row.connection_id])

    # Which snapshot counts

    def _ingest(self, sale_id: str, snapshot: Snapshot) -> Outcome:
        row = self._batch.rows.get(sale_id)
        if self._is_elsewhere(row, snapshot):
            return Outcome.elsewhere
        if snapshot.is_push and snapshot.sale.version is None and snapshot.fetches:
            self._hint(snapshot, said=True)
            return Outcome.hinted
        digest = ledger.sales.digest_of(self._tx, snapshot.sale)
        if row is None:
            return self._store_first(sale_id, snapshot, digest)
        if row.digest == digest:
            return self._admit_backfilled(row, snapshot)
        return self._ingest_change(row, snapshot, digest)

    def _ingest_change(self, row: SaleRow, snapshot: Snapshot, digest: str) -> Outcome:
        """Rule on a snapshot that says something else than what is stored: the last three questions."""
        if snapshot.is_push and not snapshot.fetches and not are_ordered(row, snapshot):
            return self._ingest_push_without_order(row, snapshot, digest)
        if not is_newer(row, snapshot):
            return self._lose(row, snapshot, digest, "sale.older")
        return self._store_version(row, snapshot, digest)

    def _is_elsewhere(self, row: SaleRow | None, snapshot: Snapshot) -> bool:
        connection = snapshot.connection
        if connection.health is Health.removed:
            return True
        # a receipt that this connection has stays with it, wherever its location is now
        is_theirs = row is not None and row.connection_id == connection.id
        return not connection.covers(snapshot.sale.location_id) and not is_theirs

    def _ingest_push_without_order(self, row: SaleRow, snapshot: Snapshot, digest: str) -> Outcome:
        """Rule on a push that neither a version nor the till itself can order."""
        if self._is_late(row, snapshot):
            return self._lose(row, snapshot, digest, "sale.older")
        if self._batch.seen_before(row, digest, but_not_at=snapshot.arrived_at):
            return Outcome.unchanged
        if undoes(row, snapshot.sale):
            return self._lose(row, snapshot, digest, "sale.undoes")
        return self._store_version(row, snapshot, digest)

    def _is_late(self, row: SaleRow, snapshot: Snapshot) -> bool:
        """Say whether a stored body, read again, counts no more because something arrived after it.

        Unless what came after could not have undone what this one says: a void, or a larger refund.
        """
        if snapshot.arrived_at is None or self._batch.newest_arrival(row) <= snapshot.arrived_at:
            return False
        voids = snapshot.sale.status is SaleStatus.voided and row.status != SaleStatus.voided
        return not voids and snapshot.sale.refunded.minor <= row.refunded

    def _lose(self, row: SaleRow, snapshot: Snapshot, digest: str, message_id: str) -> Outcome:
        """Leave a snapshot aside, and say so in the journal the first time that this one loses.

        Our order may be wrong, so the till is asked where it can be. Not for what its own versions have ordered before:
        a till whose versions shrink would be asked without end. And not from within such a question: its hint stays,
        with growing pauses.
        """
        sale = snapshot.sale
        is_new = self._batch.remember_lost(row, sale=sale, digest=digest, at=self._arrival(snapshot))
        if is_new:
            self._batch.write_line(row, Message(message_id, {"receipt": row.receipt_id, "amount": sale.paid}))
        if snapshot.fetches and snapshot.source is not Source.hint and (is_new or not are_ordered(row, snapshot)):
            self._hint(snapshot, said=snapshot.is_push)
        return Outcome.lost

    def _arrival(self, snapshot: Snapshot) -> int:
        return self._tx.now if snapshot.arrived_at is None else snapshot.arrived_at

    def _hint(self, snapshot: Snapshot, *, said: bool) -> None:
        closed = snapshot.sale.status is SaleStatus.closed
        self._hints.append(NewHint(snapshot.connection.id, snapshot.sale.receipt_id, closed, said))

    # What a snapshot changes

    def _admit_backfilled(self, row: SaleRow, snapshot: Snapshot) -> Outcome:
        """Admit a receipt from before the connection that a backfill shows; otherwise there is nothing to write."""
        if not snapshot.source.admits or row.admitted or row.closed_at is None:
            return Outcome.unchanged
        row.admitted = 1
        self._plan(row, snapshot)
        return Outcome.stored

    def _store_first(self, sale_id: str, snapshot: Snapshot, digest: str) -> Outcome:
        row = _empty_row(sale_id, snapshot, self._tx.now)
        self._batch.add(row)
        return self._store_version(row, snapshot, digest)

    def _store_version(self, row: SaleRow, snapshot: Snapshot, digest: str) -> Outcome:
        """Store a new version and plan by it, in the transaction that stores it."""
        sale, connection = snapshot.sale, snapshot.connection
        if row.connection_id != connection.id and connection.covers(sale.location_id):
            self._batch.move(row, connection.id)
        row.version, row.digest = sale.version, digest
        row.ticket = max(row.ticket, snapshot.ticket or 0)
        row.versions += 1
        _copy_state(row, sale, connection)
        self._admit(row, snapshot)
        # said by a person, or erased: no till's snapshot undoes that
        if not (row.claimed or row.anonymous):
            customer = named_customer(sale, self._rule(row).rule)
            row.customer_hash = self._customer_hash(snapshot, customer) if customer is not None else None
        row.stamps_by_plugin = self._stamps_by_plugin(connection.facts(sale.location_id), sale, self._rule(row).rule)
        self._batch.mark_changed(row)
        self._batch.add_version(row, sale, snapshot.ticket, snapshot.source, self._arrival(snapshot))
        self._plan(row, snapshot)
        self._tx.events.append(SaleIngested(connection.facts(sale.location_id), sale))
        return Outcome.stored

    def _admit(self, row: SaleRow, snapshot: Snapshot) -> None:
        sale = snapshot.sale
        if row.admitted or sale.status is not SaleStatus.closed or sale.closed_at is None:
            return  # once admitted, always admitted
        row.admitted = int(snapshot.source.admits or snapshot.connection.admits(micros(sale.closed_at)))

    def _plan(self, row: SaleRow, snapshot: Snapshot) -> None:
        connection, version = snapshot.connection, self._rule(row)
        earned = entitlement(row, snapshot.sale, version.rule, connection.zone_of(row.location_id))
        row.stamps, row.rule_number = earned.stamps, version.number
        self._batch.mark_changed(row)
        is_needed = needs_card(row, snapshot.sale, version.rule)
        self._bind_or_search(row, snapshot.sale.customer, needs_card=is_needed)
        was_never_closed = row.status != SaleStatus.closed and row.versions == 1
        if not was_never_closed:
            plan_sale(self._batch, row, connection, version.rule, earned.why)
        plan_redemptions(self._batch, row, connection, version.rule, snapshot.sale)

    # Whose the sale is

    def _bind_or_search(self, row: SaleRow, customer: Customer | None, *, needs_card: bool) -> None:
        """Bind the sale where the card is known, or leave the work of finding it, where that is of use."""
        if row.claimed or row.anonymous:
            return
        if row.customer_hash is None or customer is None:
            self._batch.end_search(row)
        elif row.identified:
            self._search_for_new_stamps(row, customer)
        elif (card := self._card_of(row, customer)) is not None:
            bind_card(self._batch, row, card)
        elif row.admitted and needs_card:
            self._batch.search_card(row, customer, self._tx.now)
        else:
            self._batch.end_search(row)

    def _search_for_new_stamps(self, row: SaleRow, customer: Customer) -> None:
        """Search once more where it was settled that this customer has no card, and something new waits for one."""
        if row.card_id is None and row.wait in WAITS_FOR_CARD and row.stamps:
            self._batch.search_card(row, customer, self._tx.now)

    def _card_of(self, row: SaleRow, customer: Customer) -> KnownCard | None:
        """Return the card this sale had for that customer before, or the one that is known of the customer."""
        if row.customer_hash is None:
            return None
        if row.versions > 1 and (former := self._batch.former_binding(row, row.customer_hash)) is not None:
            return KnownCard(former.card_id, former.card_hint)
        learned = self._known_cards.get((row.business_id, row.customer_hash))
        if learned is None:
            return None
        # a till may give its own customer another phone, so what rests on its own id alone is asked again
        only_till_id = not (customer.number or customer.phone or customer.email)
        is_recent = learned.learned_at > self._tx.now - ledger.cards.TILL_CUSTOMER_FOR
        return learned.card if not only_till_id or is_recent else None


def _copy_state(row: SaleRow, sale: Sale, connection: Connection) -> None:
    """Copy what the till says of a receipt into its row."""
    closed_at = micros(sale.closed_at) if sale.closed_at else None
    if closed_at != row.closed_at and sale.status is SaleStatus.closed:
        row.pinned, row.rule_of = 0, row.connection_id  # closed anew: the rule then in force counts
    row.status = sale.status.value
    row.closed_at = closed_at if closed_at is not None else row.closed_at
    row.paid, row.refunded, row.currency = sale.paid.minor, sale.refunded.minor, sale.paid.currency
    row.location_id = sale.location_id
    row.day = day_of(row, connection) if row.closed_at is not None else None


def _empty_row(sale_id: str, snapshot: Snapshot, now: int) -> SaleRow:
    """Build the row of a receipt seen for the first time, before its first version fills it."""
    connection, sale = snapshot.connection, snapshot.sale
    return SaleRow(
        id=sale_id,
        business_id=connection.business_id,
        connector=connection.connector,
        account_id=connection.account.id,
        receipt_id=sale.receipt_id,
        connection_id=connection.id,
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
        changed_at=now,
    )
