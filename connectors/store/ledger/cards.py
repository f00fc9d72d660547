"""Cards of customers: what was found out before, so that it need not be asked again.

Owns the tables `known_card`, `customer_name` and `till_customer`. Only positive answers are kept: that somebody has no
card is never remembered. Names are kept as keyed hashes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, bindparam, func, select

from connector_sdk.sale import Customer
from connectors.domain.clock import HOUR
from connectors.domain.person import Reference
from connectors.store.engine import Transaction
from connectors.store.ledger import card_searches
from connectors.store.query_parts import in_parts
from connectors.store.schema import (
    connection_table,
    customer_name_table,
    known_card_table,
    sale_table,
    till_customer_table,
)

TILL_CUSTOMER_FOR = HOUR
"""A till's own customer may be given another phone: what we know of them is asked again after this long."""


@dataclass(frozen=True, slots=True)
class KnownCard:
    """A card by id and the last four digits of its number."""

    id: str
    hint: str


class LearnedCard(NamedTuple):
    """A known card, and when it was found (UTC microseconds)."""

    card: KnownCard
    learned_at: int


def customer_hash(tx: Transaction, connector: str, account_id: str, customer: Customer) -> str:
    """Hash a customer reference within one till account: a till's own ids mean nothing elsewhere."""
    # with empty texts for what is not said: the same reference has the same hash whatever else a till sends
    names = (customer.number, customer.phone, customer.email, customer.till_id)
    return tx.vault.hash("customer", connector, account_id, *(name or "" for name in names))


def name_hash(tx: Transaction, business_id: str, kind: str, value: str) -> str:
    """Hash a phone, email or card number of a business' customers: people search receipts by them."""
    return tx.vault.hash("name", business_id, kind, value)


_KNOWN = select(known_card_table).where(known_card_table.c.customer_hash.in_(bindparam("hashes", expanding=True)))


def known_cards(tx: Transaction, customer_hashes: Sequence[str]) -> dict[tuple[str, str], LearnedCard]:
    """Map (business id, customer hash) to the card, for those that are known."""
    cards: dict[tuple[str, str], LearnedCard] = {}
    for part in in_parts(customer_hashes):
        for row in tx.run(_KNOWN, {"hashes": list(part)}):
            card = KnownCard(row.card_id, row.card_hint)
            cards[row.business_id, row.customer_hash] = LearnedCard(card, row.learned_at)
    return cards


def remember(tx: Transaction, business_id: str, customer_hash: str, card: KnownCard) -> None:
    """Keep a customer's card, in place of the one known before."""
    values = {"card_id": card.id, "card_hint": card.hint, "learned_at": tx.now}
    # the newest answer counts: a customer may have got another card
    keys = [known_card_table.c.business_id, known_card_table.c.customer_hash]
    insert = tx.insert(known_card_table).values(business_id=business_id, customer_hash=customer_hash, **values)
    tx.run(insert.on_conflict_do_update(index_elements=keys, set_=values))


def is_known(tx: Transaction, business_id: str, card_id: str) -> bool:
    """Say whether a card was ever found for a customer of a business."""
    card = (known_card_table.c.business_id == business_id) & (known_card_table.c.card_id == card_id)
    return tx.run(select(known_card_table.c.card_id).where(card).limit(1)).first() is not None


def forget_card(tx: Transaction, business_id: str, card_id: str) -> None:
    """Forget a card that 7stamp does not know any more, whoever had it."""
    card = (known_card_table.c.business_id == business_id) & (known_card_table.c.card_id == card_id)
    tx.run(known_card_table.delete().where(card))


def remember_names(tx: Transaction, business_id: str, customer_hash: str, names: Sequence[Reference]) -> None:
    """Keep by which names a customer's receipts are searched; only their hashes are stored."""
    rows = [
        {
            "business_id": business_id,
            "name_hash": name_hash(tx, business_id, kind, value),
            "customer_hash": customer_hash,
        }
        for kind, value in dict.fromkeys(names)
    ]
    if rows:
        tx.run(tx.insert(customer_name_table).on_conflict_do_nothing(), rows)


def till_customer(tx: Transaction, connection_id: str, customer_hash: str) -> Customer | None:
    """Return what the till said of its own customer, where that is recent (`TILL_CUSTOMER_FOR`)."""
    row = tx.run(
        # older answers are asked again and replaced, not deleted: the sweep does that
        select(till_customer_table.c.customer).where(
            till_customer_table.c.connection_id == connection_id,
            till_customer_table.c.customer_hash == customer_hash,
            till_customer_table.c.learned_at > tx.now - TILL_CUSTOMER_FOR,
        )
    ).first()
    return Customer.model_validate_json(tx.vault.decrypt(row.customer)) if row else None


def remember_till_customer(tx: Transaction, connection_id: str, customer_hash: str, customer: Customer) -> None:
    """Keep what the till said of its own customer, encrypted."""
    values = {"customer": tx.vault.encrypt(customer.model_dump_json(exclude_none=True)), "learned_at": tx.now}
    keys = [till_customer_table.c.connection_id, till_customer_table.c.customer_hash]
    insert = tx.insert(till_customer_table).values(connection_id=connection_id, customer_hash=customer_hash, **values)
    tx.run(insert.on_conflict_do_update(index_elements=keys, set_=values))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete what was learned of customers before a moment, at most `limit` rows a table; return how many.

    Whoever comes again is searched for again.
    """
    cards = (known_card_table.c.business_id, known_card_table.c.customer_hash)
    customers = (till_customer_table.c.connection_id, till_customer_table.c.customer_hash)
    old_cards = tx.run(select(*cards).where(known_card_table.c.learned_at < before).limit(limit)).all()
    old_customers = tx.run(select(*customers).where(till_customer_table.c.learned_at < before).limit(limit)).all()
    # by their keys, a row at a time: neither database deletes with a limit in a way that both understand
    for business_id, customer in map(tuple, old_cards):
        tx.run(known_card_table.delete().where(cards[0] == business_id, cards[1] == customer))
    for connection_id, customer in map(tuple, old_customers):
        tx.run(till_customer_table.delete().where(customers[0] == connection_id, customers[1] == customer))
    return len(old_cards) + len(old_customers)


# Erasing customers


def customers_named(tx: Transaction, business_id: str, references: Collection[Reference]) -> set[str]:
    """Return the hashes of a business' customers who were ever found by one of these names."""
    hashes = [name_hash(tx, business_id, reference.kind, reference.value) for reference in references]
    named = (customer_name_table.c.business_id == business_id) & customer_name_table.c.name_hash.in_(hashes)
    return set(tx.run(select(customer_name_table.c.customer_hash).where(named).distinct()).scalars())


@dataclass(frozen=True, slots=True)
class TillCustomer:
    """A customer that a till named by its own id, and what it said of them."""

    connection_id: str
    customer_hash: str
    customer: Customer


def till_customers(tx: Transaction, connection_ids: Sequence[str]) -> list[TillCustomer]:
    """List every customer that these tills named by their own ids."""
    rows = tx.run(select(till_customer_table).where(till_customer_table.c.connection_id.in_(connection_ids)))
    return [
        TillCustomer(row.connection_id, row.customer_hash, Customer.model_validate_json(tx.vault.decrypt(row.customer)))
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class CustomerCard:
    """A customer (as a hash) and the card that was found for them."""

    customer_hash: str
    card: KnownCard


def cards_of_customers(
    tx: Transaction, business_id: str, customer_hashes: Collection[str], card_ids: Collection[str]
) -> list[CustomerCard]:
    """List the known cards of these customers, and of whoever has one of these cards."""
    cards: list[CustomerCard] = []
    columns = (
        (known_card_table.c.customer_hash, sorted(customer_hashes)),
        (known_card_table.c.card_id, sorted(card_ids)),
    )
    for column, values in columns:
        for part in in_parts(values):
            query = select(known_card_table).where(known_card_table.c.business_id == business_id, column.in_(part))
            cards += [CustomerCard(row.customer_hash, KnownCard(row.card_id, row.card_hint)) for row in tx.run(query)]
    return cards


@dataclass(frozen=True, slots=True)
class Customers:
    """Some customers of a business: by their hashes, and by the names they are found by."""

    business_id: str
    connection_ids: tuple[str, ...]
    hashes: frozenset[str]
    references: frozenset[Reference]


def count_rows(tx: Transaction, customers: Customers) -> int:
    """Count the rows that `erase` would delete."""
    rows = sum(
        int(tx.run(select(func.count()).select_from(table).where(condition)).scalar_one())
        for table, condition in _rows_of(tx, customers)
    )
    return rows + sum(
        card_searches.count_of_customers(tx, customers.connection_ids, part)
        for part in in_parts(sorted(customers.hashes))
    )


def erase(tx: Transaction, customers: Customers) -> None:
    """Delete what is known of some customers, and end every search for them."""
    # sorted by table, so that each is written out below: one writer a table can be read off the code
    conditions: dict[Table, list[ColumnElement[bool]]] = {}
    for table, condition in _rows_of(tx, customers):
        conditions.setdefault(table, []).append(condition)
    for condition in conditions.get(customer_name_table, []):
        tx.run(customer_name_table.delete().where(condition))
    for condition in conditions.get(known_card_table, []):
        tx.run(known_card_table.delete().where(condition))
    for condition in conditions.get(till_customer_table, []):
        tx.run(till_customer_table.delete().where(condition))
    for part in in_parts(sorted(customers.hashes)):
        card_searches.delete_of_customers(tx, customers.connection_ids, part)


def _rows_of(tx: Transaction, customers: Customers) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """The rows of these customers in each table, none of them twice: `count_rows` adds them up."""
    names = [name_hash(tx, customers.business_id, name.kind, name.value) for name in customers.references]
    of_business = customer_name_table.c.business_id == customers.business_id
    by_name = customer_name_table.c.name_hash.in_(names)
    yield customer_name_table, of_business & by_name
    for part in in_parts(sorted(customers.hashes)):
        yield customer_name_table, of_business & customer_name_table.c.customer_hash.in_(part) & ~by_name
        yield (
            known_card_table,
            (known_card_table.c.business_id == customers.business_id) & known_card_table.c.customer_hash.in_(part),
        )
        yield (
            till_customer_table,
            till_customer_table.c.connection_id.in_(customers.connection_ids)
            & till_customer_table.c.customer_hash.in_(part),
        )


def erase_names_without_sales(tx: Transaction, customers: Collection[tuple[str, str]]) -> None:
    """Delete the names of those (business id, customer hash) to whom no sale belongs any more."""
    for business_id, customer in sorted(customers):
        # a customer's hash is of a till account: only connections of the business can have sales of theirs
        of_business = select(connection_table.c.id).where(connection_table.c.business_id == business_id)
        sales = select(sale_table.c.id).where(
            sale_table.c.connection_id.in_(of_business), sale_table.c.customer_hash == customer
        )
        if tx.run(sales.limit(1)).first() is None:
            names = (customer_name_table.c.business_id == business_id) & (
                customer_name_table.c.customer_hash == customer
            )
            tx.run(customer_name_table.delete().where(names))
