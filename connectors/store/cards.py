"""Whose card a customer's is: the work of finding out, and what was found before.

Owns only positive answers; that somebody has no card is never remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, select

from connector_sdk.sale import Customer
from connectors.domain.clock import DAY, HOUR, SECOND
from connectors.domain.connection import WORKING
from connectors.store.engine import Transaction
from connectors.store.schema import connection, customer_name, identify, known_card, till_customer

# A till's own customer may be given another phone: what we know of them is looked at again after this long.
TILL_CUSTOMER_FOR = HOUR
_LEASE = 60 * SECOND
_AT_MOST = 365 * DAY


@dataclass(frozen=True, slots=True)
class Search:
    """Claimed work: find the card of `customer` for a sale."""

    sale_id: str
    connection_id: str
    customer_hash: str
    customer: Customer
    attempts: int


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


_KNOWN = select(known_card).where(known_card.c.customer_hash.in_(bindparam("hashes", expanding=True)))


def known(tx: Transaction, hashes: Sequence[str]) -> dict[tuple[str, str], tuple[KnownCard, int]]:
    """(business, customer hash) → card and when that was learned, for those that are known."""
    found: dict[tuple[str, str], tuple[KnownCard, int]] = {}
    for start in range(0, len(hashes), 400):
        for row in tx.run(_KNOWN, {"hashes": list(hashes[start : start + 400])}):
            found[row.business_id, row.customer_hash] = KnownCard(row.card_id, row.card_hint), row.learned_at
    return found


def remember(tx: Transaction, business_id: str, customer: str, card: KnownCard) -> None:
    values = {"card_id": card.id, "card_hint": card.hint, "learned_at": tx.now}
    tx.run(
        tx.insert(known_card)
        .values(business_id=business_id, customer_hash=customer, **values)
        .on_conflict_do_update(index_elements=[known_card.c.business_id, known_card.c.customer_hash], set_=values)
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
        tx.run(tx.insert(customer_name).on_conflict_do_nothing(), rows)


def forget(tx: Transaction, business_id: str, card_id: str) -> None:
    """7stamp knows no such card any more."""
    tx.run(known_card.delete().where(known_card.c.business_id == business_id, known_card.c.card_id == card_id))


def known_customer(tx: Transaction, connection_id: str, customer: str) -> Customer | None:
    """What the till told of its own customer, if that is recent."""
    row = tx.run(
        select(till_customer.c.customer).where(
            till_customer.c.connection_id == connection_id,
            till_customer.c.customer_hash == customer,
            till_customer.c.learned_at > tx.now - TILL_CUSTOMER_FOR,
        )
    ).first()
    return Customer.model_validate_json(tx.vault.decrypt(row.customer)) if row else None


def remember_customer(tx: Transaction, connection_id: str, customer: str, who: Customer) -> None:
    values = {"customer": tx.vault.encrypt(who.model_dump_json(exclude_none=True)), "learned_at": tx.now}
    tx.run(
        tx.insert(till_customer)
        .values(connection_id=connection_id, customer_hash=customer, **values)
        .on_conflict_do_update(
            index_elements=[till_customer.c.connection_id, till_customer.c.customer_hash], set_=values
        )
    )


def claim(tx: Transaction, limit: int, only: str | None = None) -> list[Search]:
    """Claim searches that are due; with `only`, all of that connection, due or not (somebody asked)."""
    wanted = (
        select(identify)
        .join(connection, connection.c.id == identify.c.connection_id)
        .where(connection.c.health.in_(WORKING), connection.c.send_after <= tx.now)
        .order_by(identify.c.next_at)
        .limit(limit)
    )
    wanted = wanted.where(identify.c.connection_id == only) if only else wanted.where(identify.c.next_at <= tx.now)
    rows = tx.run(wanted).all()
    if rows:
        tx.run(
            identify.update().where(identify.c.sale_id == bindparam("id_")).values(next_at=tx.now + _LEASE),
            [{"id_": row.sale_id} for row in rows],
        )
    return [
        Search(
            row.sale_id,
            row.connection_id,
            row.customer_hash,
            Customer.model_validate_json(tx.vault.decrypt(row.customer)),
            row.attempts,
        )
        for row in rows
    ]


def look_again(tx: Transaction, search: Search, at: int) -> None:
    """Leave the search for a customer, for all sales that wait for it, for later; none goes on for ever."""
    tx.run(
        identify.update()
        .where(identify.c.connection_id == search.connection_id, identify.c.customer_hash == search.customer_hash)
        .values(
            next_at=at,
            attempts=identify.c.attempts + 1,
            expires_at=func.coalesce(identify.c.expires_at, tx.now + _AT_MOST),
        )
    )


def wait(tx: Transaction, sale_id: str, customer_hash: str, at: int, hold: int) -> None:
    """One sale waits for its customer to have a card: looked for again at `at`, for `hold` microseconds in all."""
    mine = (identify.c.sale_id == sale_id) & (identify.c.customer_hash == customer_hash)
    tx.run(
        identify.update()
        .where(mine)
        .values(
            next_at=at,
            attempts=identify.c.attempts + 1,
            expires_at=func.coalesce(identify.c.expires_at, tx.now + hold),
        )
    )
    tx.run(identify.delete().where(mine, identify.c.expires_at <= tx.now))


def drop(tx: Transaction, search: Search) -> None:
    """Nothing is left to find out for this sale."""
    tx.run(
        identify.delete().where(identify.c.sale_id == search.sale_id, identify.c.customer_hash == search.customer_hash)
    )


def same_customer(tx: Transaction, search: Search) -> list[str]:
    """Other sales waiting for the same customer of the same connection: one answer serves them all."""
    return list(
        tx.run(
            select(identify.c.sale_id).where(
                identify.c.connection_id == search.connection_id,
                identify.c.customer_hash == search.customer_hash,
                identify.c.sale_id != search.sale_id,
            )
        ).scalars()
    )
