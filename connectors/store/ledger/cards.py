"""TODO docstring."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Table, bindparam, func, select

from connector_sdk.sale import Customer
from connectors.domain.clock import HOUR
from connectors.domain.person import Reference
from connectors.store.engine import Transaction
from connectors.store.schema import (
    connection_table,
    customer_name_table,
    identify_table,
    known_card_table,
    sale_table,
    till_customer_table,
)

# A till's own customer may be given another phone: what we know of them is looked at again after this long.
TILL_CUSTOMER_FOR = HOUR


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card by id and the last four digits of its number."""

    id: str
    hint: str


def customer_hash(tx: Transaction, connector: str, account_id: str, who: Customer) -> str:
    """The same hash for the same reference, within one till account (a till's own ids mean nothing elsewhere)."""
    return tx.vault.hash(
        "customer", connector, account_id, who.number or "", who.phone or "", who.email or "", who.till_id or ""
    )


_KNOWN = select(known_card_table).where(known_card_table.c.customer_hash.in_(bindparam("hashes", expanding=True)))


def known_cards(tx: Transaction, hashes: Sequence[str]) -> dict[tuple[str, str], tuple[KnownCard, int]]:
    """(business, customer hash) → card and when that was learned, for those that are known."""
    found: dict[tuple[str, str], tuple[KnownCard, int]] = {}
    for start in range(0, len(hashes), 400):
        for row in tx.run(_KNOWN, {"hashes": list(hashes[start : start + 400])}):
            found[row.business_id, row.customer_hash] = KnownCard(row.card_id, row.card_hint), row.learned_at
    return found


def remember(tx: Transaction, business_id: str, customer: str, card: KnownCard) -> None:
    values = {"card_id": card.id, "card_hint": card.hint, "learned_at": tx.now}
    tx.run(
        tx.insert(known_card_table)
        .values(business_id=business_id, customer_hash=customer, **values)
        .on_conflict_do_update(
            index_elements=[known_card_table.c.business_id, known_card_table.c.customer_hash], set_=values
        )
    )


def name_hash(tx: Transaction, business_id: str, kind: str, value: str) -> str:
    """The same hash for the same phone, email or card number of a business' customers: people search by them."""
    return tx.vault.hash("name", business_id, kind, value)


def remember_names(tx: Transaction, business_id: str, customer: str, names: Sequence[tuple[str, str]]) -> None:
    """By which names (kind, value) a customer's receipts are found; only their hashes are kept."""
    rows = [
        {"business_id": business_id, "name_hash": name_hash(tx, business_id, kind, value), "customer_hash": customer}
        for kind, value in dict.fromkeys(names)
    ]
    if rows:
        tx.run(tx.insert(customer_name_table).on_conflict_do_nothing(), rows)


def forget_card(tx: Transaction, business_id: str, card_id: str) -> None:
    """7stamp knows no such card any more."""
    tx.run(
        known_card_table.delete().where(
            known_card_table.c.business_id == business_id, known_card_table.c.card_id == card_id
        )
    )


def known_customer(tx: Transaction, connection_id: str, customer: str) -> Customer | None:
    """What the till told of its own customer, if that is recent."""
    row = tx.run(
        select(till_customer_table.c.customer).where(
            till_customer_table.c.connection_id == connection_id,
            till_customer_table.c.customer_hash == customer,
            till_customer_table.c.learned_at > tx.now - TILL_CUSTOMER_FOR,
        )
    ).first()
    return Customer.model_validate_json(tx.vault.decrypt(row.customer)) if row else None


def remember_customer(tx: Transaction, connection_id: str, customer: str, who: Customer) -> None:
    values = {"customer": tx.vault.encrypt(who.model_dump_json(exclude_none=True)), "learned_at": tx.now}
    tx.run(
        tx.insert(till_customer_table)
        .values(connection_id=connection_id, customer_hash=customer, **values)
        .on_conflict_do_update(
            index_elements=[till_customer_table.c.connection_id, till_customer_table.c.customer_hash], set_=values
        )
    )


def customers_named(tx: Transaction, business_id: str, references: Collection[Reference]) -> set[str]:
    """The customers (as hashes) of a business that were ever found by one of these names."""
    hashes = [name_hash(tx, business_id, reference.kind, reference.value) for reference in references]
    wanted = customer_name_table.c.name_hash.in_(hashes)
    rows = tx.run(
        select(customer_name_table.c.customer_hash)
        .where(customer_name_table.c.business_id == business_id, wanted)
        .distinct()
    )
    return set(rows.scalars())


def till_customers(tx: Transaction, connection_ids: Sequence[str]) -> list[tuple[str, str, Customer]]:
    """(connection, customer hash, what the till told) of every customer that these tills named by their own ids."""
    rows = tx.run(select(till_customer_table).where(till_customer_table.c.connection_id.in_(connection_ids)))
    return [
        (row.connection_id, row.customer_hash, Customer.model_validate_json(tx.vault.decrypt(row.customer)))
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class CustomerCard:
    """A customer (as a hash) and the card that was found for them."""

    customer_hash: str
    card: KnownCard


def cards_of_customers(
    tx: Transaction, business_id: str, hashes: Collection[str], card_ids: Collection[str]
) -> list[CustomerCard]:
    """What is known of these customers, and of whoever has one of these cards."""
    found: list[CustomerCard] = []
    for column, wanted in (
        (known_card_table.c.customer_hash, sorted(hashes)),
        (known_card_table.c.card_id, sorted(card_ids)),
    ):
        for start in range(0, len(wanted), 400):
            some = column.in_(wanted[start : start + 400])
            rows = tx.run(select(known_card_table).where(known_card_table.c.business_id == business_id, some))
            found += [CustomerCard(row.customer_hash, KnownCard(row.card_id, row.card_hint)) for row in rows]
    return found


@dataclass(frozen=True, slots=True)
class Customers:
    """Some customers of a business: by their hashes, and by the names they are found by."""

    business_id: str
    connection_ids: tuple[str, ...]
    hashes: frozenset[str]
    references: frozenset[Reference]


def _rows_of(tx: Transaction, whose: Customers) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Where something of these customers stands, without saying any row twice."""
    names = [name_hash(tx, whose.business_id, name.kind, name.value) for name in whose.references]
    customers = sorted(whose.hashes)
    found = customer_name_table.c.business_id == whose.business_id
    yield customer_name_table, found & customer_name_table.c.name_hash.in_(names)
    for start in range(0, len(customers), 400):
        some = customers[start : start + 400]
        yield (
            customer_name_table,
            found & customer_name_table.c.customer_hash.in_(some) & customer_name_table.c.name_hash.not_in(names),
        )
        yield (
            known_card_table,
            (known_card_table.c.business_id == whose.business_id) & known_card_table.c.customer_hash.in_(some),
        )
        for table in (till_customer_table, identify_table):
            yield table, table.c.connection_id.in_(whose.connection_ids) & table.c.customer_hash.in_(some)


def count_rows(tx: Transaction, whose: Customers) -> int:
    """How many rows `erase` would delete."""
    rows = (select(func.count()).select_from(table).where(mine) for table, mine in _rows_of(tx, whose))
    return sum(int(tx.run(number).scalar_one()) for number in rows)


def erase(tx: Transaction, whose: Customers) -> None:
    """Delete what is known of some customers, and every search for them."""
    for table, mine in _rows_of(tx, whose):
        tx.run(table.delete().where(mine))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete what was learned of customers before a moment, at most so many rows a table; how many that were.

    Whoever comes again is looked up again.
    """
    old_cards = select(known_card_table.c.business_id, known_card_table.c.customer_hash).where(
        known_card_table.c.learned_at < before
    )
    deleted = 0
    for row in tx.run(old_cards.limit(limit)).all():
        mine = (known_card_table.c.business_id == row.business_id) & (
            known_card_table.c.customer_hash == row.customer_hash
        )
        deleted += tx.run(known_card_table.delete().where(mine)).rowcount
    old_told = select(till_customer_table.c.connection_id, till_customer_table.c.customer_hash).where(
        till_customer_table.c.learned_at < before
    )
    for row in tx.run(old_told.limit(limit)).all():
        mine = (till_customer_table.c.connection_id == row.connection_id) & (
            till_customer_table.c.customer_hash == row.customer_hash
        )
        deleted += tx.run(till_customer_table.delete().where(mine)).rowcount
    return deleted


def erase_names_without_sales(tx: Transaction, customers: Collection[tuple[str, str]]) -> None:
    """Delete the names of those (business, customer hash) to whom no sale belongs any more."""
    for business_id, customer in sorted(customers):
        theirs = select(connection_table.c.id).where(connection_table.c.business_id == business_id)
        left = select(sale_table.c.id).where(
            sale_table.c.connection_id.in_(theirs), sale_table.c.customer_hash == customer
        )
        if tx.run(left.limit(1)).first() is None:
            mine = (customer_name_table.c.business_id == business_id) & (
                customer_name_table.c.customer_hash == customer
            )
            tx.run(customer_name_table.delete().where(mine))
