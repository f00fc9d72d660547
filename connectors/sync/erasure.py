"""Forgetting a customer: everything of one person in one business is found, then erased in small transactions.

Owns what belongs to a person and the order of the work; each table is changed by the store module that owns it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields

from connector_sdk.messages import Message
from connectors.domain.connection import Business, Connection, Health
from connectors.domain.person import Reference, TillId, Traces, references
from connectors.store import connections, inbox, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.unreadable import StoredBody
from connectors.store.ledger.cards import Customers
from connectors.store.ledger.journal import StoredLine

_READ_AT_ONCE = 400  # sales, bodies or lines in one reading
_BODIES_AT_ONCE = 16  # of at most 256 KiB each: what is in the clear at one time is bounded
_ERASED_AT_ONCE = 50  # sales in one transaction: no sale at the till waits longer for it than for a busy commit

Told = Callable[[float], Awaitable[None]]
"""Is told how much is done, from 0 to 1."""


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
    drafts: int = 0
    """Half-made connections with their names in a sample."""
    journal_lines: int = 0
    """Lines of the journal that show them, or the last digits of their card."""
    operations_ended: int = 0
    """Stamps that were planned and not sent yet: they are not given."""
    being_sent: int = 0
    """Operations on the wire or in doubt: they are finished, and hold nothing personal."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) for one in fields(self))


@dataclass(slots=True)
class _Customers:
    """The customers that the versions of a business' sales name, by their hashes."""

    names: defaultdict[str, set[Reference]] = field(default_factory=lambda: defaultdict(set))
    till_ids: dict[str, TillId] = field(default_factory=dict)
    snapshots: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    elsewhere: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The sales that name somebody else by now, or nobody."""


@dataclass(frozen=True, slots=True)
class Person:
    """Everything of one person in one business."""

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
    drafts: tuple[tuple[str, str], ...]
    """(id, owner)."""

    @property
    def whose(self) -> Customers:
        return Customers(self.business.id, tuple(self.connection_ids), self.hashes, self.references)

    @property
    def connection_ids(self) -> list[str]:
        return [one.id for one in self.connections]

    def has_more_than(self, earlier: Person) -> bool:
        """Whether there is something of theirs that an earlier look did not find."""
        return bool(
            set(self.sales) - set(earlier.sales)
            or set(self.bodies) - set(earlier.bodies)
            or set(self.requests) - set(earlier.requests)
            or set(self.drafts) - set(earlier.drafts)
        )

    @property
    def traces(self) -> Traces:
        """What they are recognised by in the journal, where numbers are other things."""
        return Traces(frozenset(name for name in self.references if name.kind != "number"))


@dataclass(frozen=True, slots=True)
class Found:
    """A person in a business, and how much of them there is."""

    person: Person
    counts: Counts


async def find(
    store: Store, business: Business, given: Reference, *, draft_owners: Collection[str], told: Told
) -> Found:
    """Everything of whoever has this name in a business.

    Theirs is what names them so, what belongs to the same card, and what shares another name with that as long as it
    has no card of somebody else: two people may share an email.
    """
    joined = tuple(await store.read(lambda tx: connections.registry.all_of_business(tx, business.id)))
    customers = await _customers(store, business, joined, told)
    known = await store.read(lambda tx: _theirs(tx, business, joined, given, customers))
    hashes, card_ids, hints = known
    names = {given} | {name for one in hashes for name in customers.names.get(one, ())}
    others = {name for one, some in customers.names.items() if one not in hashes for name in some}
    names -= others - {given}
    till_ids = {customers.till_ids[one] for one in hashes if one in customers.till_ids}
    sales = await store.read(lambda tx: _sales(tx, business, hashes, card_ids, customers))
    kept_drafts = await store.read(lambda tx: connections.drafts.stored_of_owners(tx, draft_owners))
    traces = _traces(joined, names, till_ids) | {
        f"{inbox.captured.OF_DRAFT}{one.id}": Traces(frozenset(names)) for one in kept_drafts
    }
    person = Person(
        business,
        joined,
        frozenset(hashes),
        frozenset(card_ids),
        frozenset(hints),
        frozenset(names),
        frozenset(till_ids),
        tuple(sales),
        tuple(await _bodies(store, [one.id for one in joined], traces)),
        tuple(await _requests(store, traces)),
        tuple((one.id, one.owner) for one in kept_drafts if Traces(frozenset(names)).found_in(one.text)),
    )
    return Found(person, await _counted(store, person, sum(customers.snapshots[one] for one in hashes)))


async def _customers(store: Store, business: Business, joined: Sequence[Connection], told: Told) -> _Customers:
    """Read every version of every sale: hashes alone do not say who a customer with several names is."""
    countries = {(one.connector, one.account.id): one.account.country or business.country for one in joined}
    found = _Customers()
    ids = await store.read(lambda tx: ledger.sales.ids_of_business(tx, business.id))
    for start in range(0, len(ids), _READ_AT_ONCE):
        some = ids[start : start + _READ_AT_ONCE]

        def read(tx: Transaction, some: Sequence[str] = some) -> None:
            for one in ledger.sales.version_customers(tx, some):
                customer = ledger.cards.customer_hash(tx, one.connector, one.account_id, one.customer)
                found.names[customer].update(references(one.customer, countries.get((one.connector, one.account_id))))
                found.snapshots[customer] += 1
                if one.customer.till_id:
                    found.till_ids[customer] = TillId(one.connector, one.account_id, one.customer.till_id)
                if one.sale_hash != customer:
                    found.elsewhere[customer].add(one.sale_id)

        await store.read(read)
        await told((start + len(some)) / len(ids))
    accounts = {one.id: countries[one.connector, one.account.id] for one in joined}
    for known in await store.read(lambda tx: ledger.cards.till_customers(tx, list(accounts))):
        found.names[known.customer_hash].update(references(known.customer, accounts[known.connection_id]))
    return found


def _theirs(
    tx: Transaction, business: Business, joined: Sequence[Connection], given: Reference, customers: _Customers
) -> tuple[set[str], set[str], set[str]]:
    """Customers (as hashes), cards, and the last digits of those cards."""
    hashes = {one for one, names in customers.names.items() if given in names}
    hashes |= ledger.cards.customers_named(tx, business.id, [given])
    card_ids, hints = _close(tx, business.id, hashes)
    shared = {name for one in hashes for name in customers.names.get(one, ())}
    linked = {one for one, names in customers.names.items() if one not in hashes and names & shared}
    with_card = {one.customer_hash for one in ledger.cards.cards_of_customers(tx, business.id, linked, ())}
    with_card |= {one.customer_hash for one in ledger.sales.bound_customers(tx, business.id, linked, ())}
    return hashes | (linked - with_card), card_ids, hints


def _close(tx: Transaction, business_id: str, hashes: set[str]) -> tuple[set[str], set[str]]:
    """Add everybody who has the same cards, until nothing is added; the cards, and their last digits."""
    card_ids: set[str] = set()
    hints: set[str] = set()
    before = -1
    while before != len(hashes) + len(card_ids):
        before = len(hashes) + len(card_ids)
        for known in ledger.cards.cards_of_customers(tx, business_id, hashes, card_ids):
            hashes.add(known.customer_hash)
            card_ids.add(known.card.id)
            hints.add(known.card.hint)
        for bound in ledger.sales.bound_customers(tx, business_id, hashes, card_ids):
            hashes.add(bound.customer_hash)
            card_ids.add(bound.card_id)
            hints.add(bound.card_hint)
    return card_ids, hints


def _sales(
    tx: Transaction, business: Business, hashes: Collection[str], card_ids: Collection[str], customers: _Customers
) -> list[str]:
    ids = set(ledger.sales.ids_naming_customers(tx, business.id, hashes))
    ids |= {one.sale_id for one in ledger.sales.bound_customers(tx, business.id, hashes, card_ids)}
    ids |= set(ledger.operations.sale_ids_of_cards(tx, business.id, card_ids))
    ids |= {sale_id for one in hashes for sale_id in customers.elsewhere.get(one, ())}
    return sorted(ids)


def _traces(
    joined: Sequence[Connection], names: Collection[Reference], till_ids: Collection[TillId]
) -> dict[str, Traces]:
    """By connection, for a till's own customer id is somebody's only at that till."""
    by_account: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for one in till_ids:
        by_account[one.connector, one.account_id].add(one.value)
    return {one.id: Traces(frozenset(names), frozenset(by_account[one.connector, one.account.id])) for one in joined}


_ReadBodies = Callable[[Transaction, Sequence[str], str, int], list[StoredBody]]


async def _bodies(store: Store, connection_ids: Sequence[str], traces: Mapping[str, Traces]) -> list[str]:
    """The ids of what could not be read and names the person."""
    found: list[str] = []
    readers: tuple[_ReadBodies, ...] = (inbox.unreadable.bodies_after, inbox.unreadable.bodies_of_former_format_after)
    for reader in readers:

        def look(tx: Transaction, after: str, reader: _ReadBodies = reader) -> _Looked:
            rows = reader(tx, connection_ids, after, _BODIES_AT_ONCE)
            theirs = [row.id for row in rows if traces[row.connection_id].found_in(row.text)]
            return _Looked(tuple(theirs), rows[-1].id if len(rows) == _BODIES_AT_ONCE else None)

        found += await _all(store, look)
    return found


async def _requests(store: Store, traces: Mapping[str, Traces]) -> list[str]:
    """The ids of the captured requests, of these connections and drafts, that name the person."""

    def look(tx: Transaction, after: str) -> _Looked:
        rows = inbox.captured.requests_after(tx, list(traces), after, _BODIES_AT_ONCE)
        theirs = [row.id for row in rows if traces[row.owner].found_in(row.text)]
        return _Looked(tuple(theirs), rows[-1].id if len(rows) == _BODIES_AT_ONCE else None)

    return await _all(store, look)


@dataclass(frozen=True, slots=True)
class _Looked:
    """The ids that one reading found, and where the next one begins; `None` after the last."""

    ids: tuple[str, ...]
    after: str | None


async def _all(store: Store, look: Callable[[Transaction, str], _Looked]) -> list[str]:
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        looked = await store.read(lambda tx, after=after: look(tx, after))  # type: ignore[misc]
        found += looked.ids
        after = looked.after
    return found


async def _lines(store: Store, person: Person) -> list[StoredLine]:
    """The lines of the journal that show the person, masked."""
    found: dict[int, StoredLine] = {}
    nobody = Traces(frozenset())
    for some in _parts(person.sales, _READ_AT_ONCE):
        rows = await store.read(lambda tx, some=some: ledger.journal.lines_of_sales(tx, some))  # type: ignore[misc]
        found |= {line.seq: line for line in ledger.journal.masked_lines(rows, nobody, person.hints)}
    after, more = 0, True
    while more:
        rows = await store.read(
            lambda tx, after=after: ledger.journal.lines_after(tx, person.connection_ids, after, _READ_AT_ONCE)  # type: ignore[misc]
        )
        more = len(rows) == _READ_AT_ONCE
        after = rows[-1].seq if rows else after
        rows = [found.get(row.seq, row) for row in rows]  # masked in part already
        found |= {line.seq: line for line in ledger.journal.masked_lines(rows, person.traces, ())}
    return list(found.values())


async def _counted(store: Store, person: Person, snapshots: int) -> Counts:
    waiting = being_sent = 0
    for some in _parts(person.sales, _READ_AT_ONCE):
        unsent = await store.read(
            lambda tx, some=some: ledger.operations.unsent_of_person(tx, some, person.hashes, person.cards)  # type: ignore[misc]
        )
        waiting, being_sent = waiting + len(unsent.waiting), being_sent + unsent.being_sent
    return Counts(
        receipts=len(person.sales),
        snapshots=snapshots,
        known=await store.read(lambda tx: ledger.cards.count_rows(tx, person.whose)),
        requests=len(person.bodies) + len(person.requests),
        drafts=len(person.drafts),
        journal_lines=len(await _lines(store, person)),
        operations_ended=waiting,
        being_sent=being_sent,
    )


def _parts(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


# --- erasing --------------------------------------------------------------------------------------------------------


async def erase(store: Store, person: Person, by: str | None, told: Told) -> None:
    """Erase everything of a person, in many small transactions; ended in the middle, it can be run again.

    What leads from one of their names to the others goes last. The mark comes before all: whatever a till says from
    then on of their older receipts is not stored.
    """
    await store.write(
        lambda tx: ledger.forgotten_customers.mark(
            tx, person.business.id, [*sorted(person.references), *sorted(person.till_ids)]
        )
    )
    for some in _parts(person.bodies, _READ_AT_ONCE):
        await store.write(lambda tx, some=some: inbox.unreadable.delete_bodies(tx, some))  # type: ignore[misc]
    for some in _parts(person.requests, _READ_AT_ONCE):
        await store.write(lambda tx, some=some: inbox.captured.delete(tx, some))  # type: ignore[misc]
    for draft_id, owner in person.drafts:
        await store.write(lambda tx, draft_id=draft_id, owner=owner: connections.drafts.delete(tx, draft_id, owner))  # type: ignore[misc]
    await _mask_lines(store, person)
    done = 0
    for some in _parts(person.sales, _ERASED_AT_ONCE):
        await store.write(lambda tx, some=some: _erase_sales(tx, person, some), by)  # type: ignore[misc]
        done += len(some)
        await told(done / len(person.sales))
    await _mask_lines(store, person)  # what was written meanwhile, too
    await store.write(lambda tx: ledger.cards.erase(tx, person.whose))
    await store.write(lambda tx: _note(tx, person), by)
    await store.clear_log()


async def _mask_lines(store: Store, person: Person) -> None:
    lines = await _lines(store, person)
    for start in range(0, len(lines), _READ_AT_ONCE):
        masked = lines[start : start + _READ_AT_ONCE]
        await store.write(lambda tx, masked=masked: ledger.journal.replace_lines(tx, masked))  # type: ignore[misc]


def _erase_sales(tx: Transaction, person: Person, ids: Sequence[str]) -> None:
    opaque = {sale_id: ledger.sales.opaque_customer(tx, sale_id) for sale_id in ids}
    ledger.operations.erase_customers(tx, ids, person.hashes, person.cards, opaque)
    ledger.sales.erase_customers(tx, ids, person.hashes)


def _note(tx: Transaction, person: Person) -> None:
    """A line in the journal of each connection that is not removed, which does not say who it was."""
    for one in person.connections:
        if one.health is not Health.removed:
            ledger.journal.write(tx, one.id, Message("connection.forgot"))
