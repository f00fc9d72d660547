"""Card searches: the work of finding out whose card a sale's customer has.

Owns the table `identify`, one row for each sale that waits; how a card is found is `connectors.sync.identification`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, bindparam, case, func, select

from connector_sdk.sale import Customer
from connectors.domain.clock import DAY, SECOND
from connectors.domain.connection import WORKING
from connectors.domain.events import Wakeup
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow, claiming, in_parts
from connectors.store.schema import connection_table, identify_table

_LEASE = 60 * SECOND
"""A claimed search is due again after this, by itself, if whoever claimed it died."""
_LONGEST = 365 * DAY
"""No search goes on for longer, whatever fails."""


@dataclass(frozen=True, slots=True)
class CardSearch:
    """A claimed search for the card of `customer`, for one sale; `attempts` counts the earlier ones.

    `created_at` is when the sale began to wait, `leased_at` when the search was claimed (UTC microseconds): a card that
    is issued from then on may have been missed.
    """

    sale_id: str
    connection_id: str
    customer_hash: str
    customer: Customer = field(repr=False)
    attempts: int
    created_at: int
    leased_at: int


@dataclass(frozen=True, slots=True)
class NewSearch:
    """A search to begin at a moment (UTC microseconds)."""

    sale_id: str
    connection_id: str
    customer_hash: str | None
    customer: Customer = field(repr=False)
    at: int


def replace(tx: Transaction, searches: Mapping[str, NewSearch | None]) -> None:
    """For each sale id, replace its search by another, or by none."""
    if not searches:
        return
    # replaced, not updated: the other customer's attempts and expiry are not this one's
    gone = identify_table.delete().where(identify_table.c.sale_id == bindparam("id_"))
    tx.run(gone, [{"id_": sale_id} for sale_id in searches])
    rows = [_row(tx, search) for search in searches.values() if search is not None]
    if rows:
        tx.run(identify_table.insert(), rows)
        tx.wakeups.add(Wakeup.identify)


def _row(tx: Transaction, search: NewSearch) -> dict[str, object]:
    return {
        "sale_id": search.sale_id,
        "connection_id": search.connection_id,
        "customer_hash": search.customer_hash,
        "customer": tx.vault.encrypt(search.customer.model_dump_json(exclude_none=True)),
        "next_at": search.at,
        "attempts": 0,
        "expires_at": None,
        "created_at": tx.now,
        "woken_at": None,
    }


def move(tx: Transaction, sales: Mapping[str, str]) -> None:
    """Hand the searches of sales over: sale id → the connection that has the sale now."""
    if sales:
        change = identify_table.update().where(identify_table.c.sale_id == bindparam("id_"))
        rows = [{"id_": sale_id, "connection_id_": connection_id} for sale_id, connection_id in sales.items()]
        tx.run(change.values(connection_id=bindparam("connection_id_")), rows)


def move_all(tx: Transaction, sale_ids: Select[tuple[str]], connection_id: str) -> None:
    """Hand the searches of all sales of a query over to a connection."""
    moved = identify_table.c.sale_id.in_(sale_ids.scalar_subquery())
    tx.run(identify_table.update().where(moved).values(connection_id=connection_id))


def due_connections(tx: Transaction, limit: int) -> list[str]:
    """List connections that have a search due now."""
    query = (
        select(identify_table.c.connection_id)
        .join(connection_table, connection_table.c.id == identify_table.c.connection_id)
        .where(connection_table.c.health.in_(WORKING), connection_table.c.send_after <= tx.now)
        .where(identify_table.c.next_at <= tx.now)
        .group_by(identify_table.c.connection_id)
        .order_by(func.min(identify_table.c.next_at))
    )
    return list(tx.run(query.limit(limit)).scalars())


def lease(tx: Transaction, limit: int, only: str | None = None, *, due: bool = False) -> list[CardSearch]:
    """Lease searches (of one connection) that are `due`; without `due`, with `only`, whether they are due or not."""
    query = (
        select(identify_table)
        .join(connection_table, connection_table.c.id == identify_table.c.connection_id)
        .where(connection_table.c.health.in_(WORKING), connection_table.c.send_after <= tx.now)
        .order_by(identify_table.c.next_at)
        .limit(limit)
    )
    if only:
        query = query.where(identify_table.c.connection_id == only)
    # somebody waits for the result of one connection's: then all of them are searched for
    if due or not only:
        query = query.where(identify_table.c.next_at <= tx.now)
    # the oldest first, so that nobody waits behind a cafe with many new customers
    rows = tx.run(claiming(query, identify_table)).all()
    if rows:
        lease = identify_table.update().where(identify_table.c.sale_id == bindparam("id_"))
        tx.run(lease.values(next_at=tx.now + _LEASE), [{"id_": row.sale_id} for row in rows])
    return [_search(tx, row) for row in rows]


def _search(tx: Transaction, row: AnyRow) -> CardSearch:
    customer = Customer.model_validate_json(tx.vault.decrypt(row.customer))
    return CardSearch(row.sale_id, row.connection_id, row.customer_hash, customer, row.attempts, row.created_at, tx.now)


def _of_customer(search: CardSearch) -> ColumnElement[bool]:
    """The searches for the same customer of the same connection: one answer serves them all."""
    return (identify_table.c.connection_id == search.connection_id) & (
        identify_table.c.customer_hash == search.customer_hash
    )


def is_wanted(tx: Transaction, search: CardSearch) -> bool:
    """Say whether some sale of the connection still waits for the customer of a search."""
    return tx.run(select(identify_table.c.sale_id).where(_of_customer(search)).limit(1)).first() is not None


def other_sales_of_customer(tx: Transaction, search: CardSearch) -> list[str]:
    """List the ids of the other sales that wait for the same customer."""
    # the customer's hash is of one till account, so a connection's other sales may share it
    others = _of_customer(search) & (identify_table.c.sale_id != search.sale_id)
    return list(tx.run(select(identify_table.c.sale_id).where(others)).scalars())


def postpone(tx: Transaction, search: CardSearch, at: int) -> None:
    """Postpone this customer's searches, of all sales that wait for it; set an expiry where there is none."""
    _try_again_at(tx, _of_customer(search), search, at, _LONGEST)


def wait_for_card(tx: Transaction, search: CardSearch, sale_id: str, at: int, hold: int) -> None:
    """Search again at `at` for one sale's customer, who has no card yet; give up after `hold` microseconds in all.

    `search` is the one that found none, for this sale or another of the same customer.
    """
    of_sale = _of_sale(sale_id, search.customer_hash)
    _try_again_at(tx, of_sale, search, at, hold)
    # by the expiry that was set first: rules with other hold times do not lengthen it
    tx.run(identify_table.delete().where(of_sale, identify_table.c.expires_at <= tx.now))


def _try_again_at(tx: Transaction, searches: ColumnElement[bool], search: CardSearch, at: int, longest: int) -> None:
    # A card was issued while it was looked for, and 7stamp told us: what the search found is not the newest word. Such
    # a search stays due. The first expiry stays too: a search that is postponed again and again still ends.
    is_woken = identify_table.c.woken_at >= search.leased_at
    tx.run(
        identify_table.update()
        .where(searches)
        .values(
            next_at=case((is_woken, tx.now), else_=at),
            woken_at=None,
            attempts=identify_table.c.attempts + 1,
            expires_at=func.coalesce(identify_table.c.expires_at, tx.now + longest),
        )
    )


def wake(tx: Transaction, business_id: str, customer_hashes: Collection[str]) -> int:
    """Have these customers of a business searched for at once: a card was issued to them; return for how many sales."""
    of_business = select(connection_table.c.id).where(connection_table.c.business_id == business_id)
    woken = 0
    for part in in_parts(sorted(customer_hashes)):
        theirs = identify_table.c.connection_id.in_(of_business) & identify_table.c.customer_hash.in_(part)
        woken += tx.run(identify_table.update().where(theirs).values(next_at=tx.now, woken_at=tx.now)).rowcount
    if woken:
        tx.wakeups.add(Wakeup.identify)
    return woken


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times of searches to come with a clock that jumped."""
    later = identify_table.update().where(identify_table.c.next_at > before)
    tx.run(later.values(next_at=identify_table.c.next_at + jump))


def _of_sale(sale_id: str, customer_hash: str) -> ColumnElement[bool]:
    return (identify_table.c.sale_id == sale_id) & (identify_table.c.customer_hash == customer_hash)


def delete(tx: Transaction, sale_id: str, customer_hash: str) -> None:
    """End the search for one customer of a sale."""
    tx.run(identify_table.delete().where(_of_sale(sale_id, customer_hash)))


def _of_customers(connection_ids: Sequence[str], customer_hashes: Sequence[str]) -> ColumnElement[bool]:
    return identify_table.c.connection_id.in_(connection_ids) & identify_table.c.customer_hash.in_(customer_hashes)


def count_of_customers(tx: Transaction, connection_ids: Sequence[str], customer_hashes: Sequence[str]) -> int:
    """Count the searches for some customers of some connections."""
    number = select(func.count()).select_from(identify_table)
    return int(tx.run(number.where(_of_customers(connection_ids, customer_hashes))).scalar_one())


def delete_of_customers(tx: Transaction, connection_ids: Sequence[str], customer_hashes: Sequence[str]) -> None:
    """End every search for some customers of some connections: they are forgotten."""
    tx.run(identify_table.delete().where(_of_customers(connection_ids, customer_hashes)))
