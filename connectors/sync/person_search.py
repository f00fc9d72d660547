"""Person search: finds everything of one customer in one business, and counts it.

Owns what belongs to a person; erasing it is `erasure`'s, and each table is read by the store module that owns it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import NamedTuple

from connectors.domain.connection import Business, Connection
from connectors.domain.person import PersonMatcher, Reference, TillId, references
from connectors.store import connections, inbox, ledger, relay
from connectors.store.engine import Store, Transaction
from connectors.store.events import EventText
from connectors.store.inbox.unreadable import StoredBody
from connectors.store.ledger.cards import Customers
from connectors.store.ledger.journal import StoredLine
from connectors.store.ledger.sales import VersionCustomer
from connectors.store.query_parts import in_parts

READ_AT_ONCE = 400
"""Sales, bodies or lines in one reading."""
_BODIES_AT_ONCE = 16
"""Of at most 256 KiB each: what is in the clear at one time is bounded."""

ReportProgress = Callable[[float], Awaitable[None]]
"""Is told which share of the work is done, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What of a person there is (or was) in a business."""

    receipts: int = 0
    """Receipts that name them or gave stamps to their card."""
    snapshots: int = 0
    """Stored versions of receipts with their names in them."""
    known: int = 0
    """What was known of them for look-up: names, cards, what tills told, searches that wait."""
    requests: int = 0
    """Requests with their names: those that could not be read, and samples for teaching."""
    events: int = 0
    """Events about them or their card, as 7stamp told them and as subscribers are told."""
    drafts: int = 0
    """Half-made connections with their names in a sample."""
    journal_lines: int = 0
    """Lines of the journal that show them, or the last digits of their card."""
    operations_ended: int = 0
    """Stamps that were planned and not sent yet: they are not given."""
    being_sent: int = 0
    """Operations on the wire or in doubt: they are finished, and hold nothing personal."""

    def __add__(self, other: Counts) -> Counts:
        names = [counted.name for counted in fields(self)]
        return Counts(*(getattr(self, name) + getattr(other, name) for name in names))

    def __bool__(self) -> bool:
        return any(getattr(self, counted.name) for counted in fields(self))


class OwnedDraft(NamedTuple):
    """A half-made connection, and whose it is: a business's id, or the operator."""

    id: str
    owner: str


@dataclass(frozen=True, slots=True)
class Person:
    """Everything of one person in one business; `hints` are the last digits of their cards, the others are ids."""

    business: Business
    connections: tuple[Connection, ...]
    hashes: frozenset[str]
    cards: frozenset[str]
    hints: frozenset[str]
    references: frozenset[Reference]
    till_ids: frozenset[TillId]
    sales: tuple[str, ...]
    bodies: tuple[str, ...]
    requests: tuple[str, ...]
    drafts: tuple[OwnedDraft, ...]
    events: tuple[int, ...]
    """The sequence numbers of 7stamp's events about them."""
    relayed: tuple[int, ...]
    """The sequence numbers of what subscribers are told of them."""

    @property
    def customers(self) -> Customers:
        """The person as the tables of known customers and cards know them."""
        return Customers(self.business.id, tuple(self.connection_ids), self.hashes, self.references)

    @property
    def connection_ids(self) -> list[str]:
        """The ids of the business's connections, removed ones included."""
        return [connection.id for connection in self.connections]

    @property
    def journal_matcher(self) -> PersonMatcher:
        """What recognises them in the journal, where six digits are mostly something else than a card."""
        return PersonMatcher(frozenset(name for name in self.references if name.kind != "number"))

    def has_more_than(self, earlier: Person) -> bool:
        """Say whether there is something of theirs that an earlier search did not find."""
        return bool(
            set(self.sales) - set(earlier.sales)
            or set(self.bodies) - set(earlier.bodies)
            or set(self.requests) - set(earlier.requests)
            or set(self.drafts) - set(earlier.drafts)
            or set(self.events) - set(earlier.events)
            or set(self.relayed) - set(earlier.relayed)
        )


@dataclass(frozen=True, slots=True)
class FoundPerson:
    """A person in a business, and how much of them there is."""

    person: Person
    counts: Counts


async def find_person(
    store: Store, business: Business, name: Reference, *, draft_owners: Collection[str], report_progress: ReportProgress
) -> FoundPerson:
    """Find everything of whoever has this name in a business; changes nothing.

    Theirs is what names them so, what belongs to the same card, and what shares another name with that as long as it
    has no card of somebody else: two people may share an email. Drafts of `draft_owners` are looked through.
    """
    joined = tuple(await store.read(lambda tx: connections.registry.all_of_business(tx, business.id)))
    customers = await _read_customers(store, business, joined, report_progress)
    identity = await store.read(partial(_identify, business_id=business.id, name=name, customers=customers))
    names, till_ids = _own_names(name, identity, customers), customers.till_ids_of(identity)
    in_inbox = await _search_inbox(store, joined, names, till_ids, draft_owners)
    person = Person(
        business=business,
        connections=joined,
        hashes=frozenset(identity.hashes),
        cards=frozenset(identity.card_ids),
        hints=frozenset(identity.hints),
        references=names,
        till_ids=till_ids,
        sales=await store.read(partial(_sale_ids, business_id=business.id, identity=identity, customers=customers)),
        bodies=in_inbox.bodies,
        requests=in_inbox.requests,
        drafts=in_inbox.drafts,
        events=await _matching_events(store, inbox.loyalty_events.texts_after, business.id, names, identity.card_ids),
        relayed=await _matching_events(store, relay.deliveries.texts_after, business.id, names, identity.card_ids),
    )
    return FoundPerson(person, await _count(store, person, customers.snapshots_of(identity)))


# Who the person is


@dataclass(slots=True)
class _BusinessCustomers:
    """The customers that the versions of a business's sales name, by their hashes."""

    names: defaultdict[str, set[Reference]] = field(default_factory=lambda: defaultdict(set))
    till_ids: dict[str, TillId] = field(default_factory=dict)
    snapshots: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How many versions name a customer."""
    former_sales: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The sales that named a customer and name somebody else by now, or nobody."""

    def add(self, customer: str, version: VersionCustomer, country: str | None) -> None:
        """Add the customer of one version; `customer` is their hash."""
        self.names[customer].update(references(version.customer, country))
        self.snapshots[customer] += 1
        if version.customer.till_id:
            self.till_ids[customer] = TillId(version.connector, version.account_id, version.customer.till_id)
        if version.sale_hash != customer:
            self.former_sales[customer].add(version.sale_id)

    def till_ids_of(self, identity: _Identity) -> frozenset[TillId]:
        """Return the ids by which tills know a person."""
        return frozenset(self.till_ids[customer] for customer in identity.hashes if customer in self.till_ids)

    def snapshots_of(self, identity: _Identity) -> int:
        """Count the versions that name a person."""
        return sum(self.snapshots[customer] for customer in identity.hashes)


@dataclass(slots=True)
class _Identity:
    """A person as the ledger knows them: customers (as hashes), cards, and the last digits of those cards."""

    hashes: set[str]
    card_ids: set[str] = field(default_factory=set)
    hints: set[str] = field(default_factory=set)

    def add(self, customer_hash: str, card_id: str, hint: str) -> None:
        """Add a customer who has a card of theirs, or a card that a customer of theirs has."""
        self.hashes.add(customer_hash)
        self.card_ids.add(card_id)
        self.hints.add(hint)

    @property
    def size(self) -> int:
        """How much is known: it only grows."""
        return len(self.hashes) + len(self.card_ids)


_Countries = Mapping[tuple[str, str], str]
"""The country of each (connector, account id), in which phones without a plus are read."""


async def _read_customers(
    store: Store, business: Business, joined: Sequence[Connection], report_progress: ReportProgress
) -> _BusinessCustomers:
    """Read every version of every sale: hashes alone do not say who a customer with several names is."""
    countries = {
        (connection.connector, connection.account.id): connection.account.country or business.country
        for connection in joined
    }
    customers = _BusinessCustomers()
    ids = await store.read(lambda tx: ledger.sales.ids_of_business(tx, business.id))
    done = 0
    for part in in_parts(ids, READ_AT_ONCE):
        await store.read(partial(_add_version_customers, ids=part, countries=countries, customers=customers))
        done += len(part)
        await report_progress(done / len(ids))
    await store.read(partial(_add_till_customers, joined=joined, countries=countries, customers=customers))
    return customers


def _add_version_customers(
    tx: Transaction, ids: Sequence[str], countries: _Countries, customers: _BusinessCustomers
) -> None:
    for version in ledger.sales.version_customers(tx, ids):
        customer = ledger.cards.customer_hash(tx, version.connector, version.account_id, version.customer)
        customers.add(customer, version, countries.get((version.connector, version.account_id)))


def _add_till_customers(
    tx: Transaction, joined: Sequence[Connection], countries: _Countries, customers: _BusinessCustomers
) -> None:
    """Add the names that tills gave when they were asked for one of their own customers."""
    accounts = {connection.id: countries[connection.connector, connection.account.id] for connection in joined}
    for known in ledger.cards.till_customers(tx, list(accounts)):
        customers.names[known.customer_hash].update(references(known.customer, accounts[known.connection_id]))


def _identify(tx: Transaction, business_id: str, name: Reference, customers: _BusinessCustomers) -> _Identity:
    """Find out who has a name: first by the name and by cards, then by what else they share."""
    # Cards decide. Whoever has this name, or a card of somebody who has it, is the person. A customer without a card
    # who shares another of their names is the person too; one who has a card of somebody else is not, for a couple may
    # give one email and two phones.
    hashes = {customer for customer, names in customers.names.items() if name in names}
    identity = _Identity(hashes | ledger.cards.customers_named(tx, business_id, [name]))
    _add_owners_of_same_cards(tx, business_id, identity)
    shared = {other for customer in identity.hashes for other in customers.names.get(customer, ())}
    linked = {
        customer for customer, names in customers.names.items() if customer not in identity.hashes and names & shared
    }
    identity.hashes |= linked - _customers_with_cards(tx, business_id, linked)
    return identity


def _add_owners_of_same_cards(tx: Transaction, business_id: str, identity: _Identity) -> None:
    """Add everybody who has the same cards, and their cards, until nothing is added any more."""
    former_size = -1
    while former_size != identity.size:
        former_size = identity.size
        for known in ledger.cards.cards_of_customers(tx, business_id, identity.hashes, identity.card_ids):
            identity.add(known.customer_hash, known.card.id, known.card.hint)
        for bound in ledger.sales.bound_customers(tx, business_id, identity.hashes, identity.card_ids):
            identity.add(bound.customer_hash, bound.card_id, bound.card_hint)


def _customers_with_cards(tx: Transaction, business_id: str, customers: Collection[str]) -> set[str]:
    known = ledger.cards.cards_of_customers(tx, business_id, customers, ())
    bound = ledger.sales.bound_customers(tx, business_id, customers, ())
    return {owner.customer_hash for owner in known} | {owner.customer_hash for owner in bound}


def _own_names(name: Reference, identity: _Identity, customers: _BusinessCustomers) -> frozenset[Reference]:
    """Return the names that are the person's alone, and in any case the one that was asked for."""
    # by a name that somebody else has too, that somebody's requests and lines would be erased with the person's
    own = {own for customer in identity.hashes for own in customers.names.get(customer, ())}
    of_others = {
        other for customer, names in customers.names.items() if customer not in identity.hashes for other in names
    }
    return frozenset((own - of_others) | {name})


# What is theirs


def _sale_ids(tx: Transaction, business_id: str, identity: _Identity, customers: _BusinessCustomers) -> tuple[str, ...]:
    """List the sales that name the person now or named them once, and those that gave something to their cards."""
    hashes, card_ids = identity.hashes, identity.card_ids
    ids = set(ledger.sales.ids_naming_customers(tx, business_id, hashes))
    ids |= {bound.sale_id for bound in ledger.sales.bound_customers(tx, business_id, hashes, card_ids)}
    ids |= set(ledger.operations.sale_ids_of_cards(tx, business_id, card_ids))
    ids |= {sale_id for customer in hashes for sale_id in customers.former_sales.get(customer, ())}
    return tuple(sorted(ids))


@dataclass(frozen=True, slots=True)
class _InInbox:
    """What names a person and is no sale (yet): the ids of bodies and requests, and half-made connections."""

    bodies: tuple[str, ...]
    requests: tuple[str, ...]
    drafts: tuple[OwnedDraft, ...]


async def _search_inbox(
    store: Store,
    joined: Sequence[Connection],
    names: frozenset[Reference],
    till_ids: Collection[TillId],
    draft_owners: Collection[str],
) -> _InInbox:
    """Look through the bodies, captured requests and drafts of a business for the names of a person."""
    drafts = await store.read(lambda tx: connections.drafts.stored_of_owners(tx, draft_owners))
    by_connection, by_name = _matchers_by_connection(joined, names, till_ids), PersonMatcher(names)
    by_draft = {f"{inbox.captured.OF_DRAFT}{draft.id}": by_name for draft in drafts}
    return _InInbox(
        bodies=await _matching_bodies(store, list(by_connection), by_connection),
        requests=await _matching_requests(store, by_connection | by_draft),
        drafts=tuple(OwnedDraft(draft.id, draft.owner) for draft in drafts if by_name.matches(draft.text)),
    )


def _matchers_by_connection(
    joined: Sequence[Connection], names: frozenset[Reference], till_ids: Collection[TillId]
) -> dict[str, PersonMatcher]:
    """Return what recognises the person in what each connection sent."""
    # a till's own customer id is somebody's only at that till: elsewhere the same digits are another customer
    by_account: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for till_id in till_ids:
        by_account[till_id.connector, till_id.account_id].add(till_id.value)
    return {
        connection.id: PersonMatcher(names, frozenset(by_account[connection.connector, connection.account.id]))
        for connection in joined
    }


@dataclass(frozen=True, slots=True)
class _Matches:
    """The ids that one reading matched, and after which id the next one begins; `None` after the last."""

    ids: tuple[str, ...]
    after: str | None


_ReadBodies = Callable[[Transaction, Sequence[str], str, int], list[StoredBody]]


async def _matching_bodies(
    store: Store, connection_ids: Sequence[str], matchers: Mapping[str, PersonMatcher]
) -> tuple[str, ...]:
    """List the ids of what could not be read and names the person."""
    ids: list[str] = []
    readers: tuple[_ReadBodies, ...] = (inbox.unreadable.bodies_after, inbox.unreadable.bodies_of_former_format_after)
    for read in readers:

        def match(tx: Transaction, after: str, read: _ReadBodies = read) -> _Matches:
            rows = read(tx, connection_ids, after, _BODIES_AT_ONCE)
            matching = tuple(row.id for row in rows if matchers[row.connection_id].matches(row.text))
            return _Matches(matching, rows[-1].id if len(rows) == _BODIES_AT_ONCE else None)

        ids += await _match_all(store, match)
    return tuple(ids)


async def _matching_requests(store: Store, matchers: Mapping[str, PersonMatcher]) -> tuple[str, ...]:
    """List the ids of the captured requests, of these connections and drafts, that name the person."""

    def match(tx: Transaction, after: str) -> _Matches:
        rows = inbox.captured.requests_after(tx, list(matchers), after, _BODIES_AT_ONCE)
        matching = tuple(row.id for row in rows if matchers[row.owner].matches(row.text))
        return _Matches(matching, rows[-1].id if len(rows) == _BODIES_AT_ONCE else None)

    return tuple(await _match_all(store, match))


_ReadEvents = Callable[[Transaction, str, int, int], Sequence[EventText]]


async def _matching_events(
    store: Store, read: _ReadEvents, business_id: str, names: frozenset[Reference], card_ids: Collection[str]
) -> tuple[int, ...]:
    """List the events of a business that are about one of these cards, or name the person."""
    matcher, seqs = PersonMatcher(names), list[int]()
    after, is_last = 0, False
    while not is_last:
        events = await store.read(lambda tx, after=after: read(tx, business_id, after, READ_AT_ONCE))  # type: ignore[misc]
        is_last = len(events) < READ_AT_ONCE
        after = events[-1].seq if events else after
        seqs += [event.seq for event in events if event.card_id in card_ids or matcher.matches(event.text)]
    return tuple(seqs)


async def _match_all(store: Store, match: Callable[[Transaction, str], _Matches]) -> list[str]:
    """Go through a table by ids, a reading after another, and return all ids that match."""
    # not in one transaction: what is in the clear at one time stays bounded, and nobody waits for a long read
    ids: list[str] = []
    after: str | None = ""
    while after is not None:
        matches = await store.read(partial(_match_after, match=match, after=after))
        ids += matches.ids
        after = matches.after
    return ids


def _match_after(tx: Transaction, match: Callable[[Transaction, str], _Matches], after: str) -> _Matches:
    return match(tx, after)


async def journal_lines_of(store: Store, person: Person) -> list[StoredLine]:
    """Return the lines of the journal that show a person, as they read with the person masked."""
    # A card's last four digits are somebody's only in lines about their sales: elsewhere the same four digits may be a
    # receipt. So lines of their sales are masked by digits first, and then all lines of the business by names.
    masked = await _lines_masked_by_digits(store, person)
    after, is_last = 0, False
    while not is_last:
        lines = await store.read(
            partial(ledger.journal.lines_after, connection_ids=person.connection_ids, after=after, limit=READ_AT_ONCE)
        )
        is_last = len(lines) < READ_AT_ONCE
        after = lines[-1].seq if lines else after
        lines = [masked.get(line.seq, line) for line in lines]  # masked in part already
        masked |= {line.seq: line for line in ledger.journal.masked_lines(lines, person.journal_matcher, ())}
    return list(masked.values())


async def _lines_masked_by_digits(store: Store, person: Person) -> dict[int, StoredLine]:
    """Return the lines about a person's sales that show the digits of their cards, masked, by their numbers."""
    masked: dict[int, StoredLine] = {}
    nobody = PersonMatcher(frozenset())
    for part in in_parts(person.sales, READ_AT_ONCE):
        lines = await store.read(partial(ledger.journal.lines_of_sales, sale_ids=part))
        masked |= {line.seq: line for line in ledger.journal.masked_lines(lines, nobody, person.hints)}
    return masked


def _known(tx: Transaction, person: Person) -> int:
    """Count what is known of a person apart from receipts: names, cards, and what they agreed to."""
    claims = ledger.claims.count_of_sales(tx, person.sales, person.cards)
    return ledger.cards.count_rows(tx, person.customers) + claims


async def _count(store: Store, person: Person, snapshots: int) -> Counts:
    waiting = being_sent = 0
    for part in in_parts(person.sales, READ_AT_ONCE):
        unsent = await store.read(
            partial(
                ledger.operations.unsent_of_person,
                sale_ids=part,
                customer_hashes=person.hashes,
                card_ids=person.cards,
            )
        )
        waiting, being_sent = waiting + len(unsent.waiting), being_sent + unsent.being_sent
    return Counts(
        receipts=len(person.sales),
        snapshots=snapshots,
        known=await store.read(lambda tx: _known(tx, person)),
        requests=len(person.bodies) + len(person.requests),
        events=len(person.events) + len(person.relayed),
        drafts=len(person.drafts),
        journal_lines=len(await journal_lines_of(store, person)),
        operations_ended=waiting,
        being_sent=being_sent,
    )
