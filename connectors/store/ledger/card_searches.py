"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, func, select

from connector_sdk.sale import Customer
from connectors.domain.clock import DAY, SECOND
from connectors.domain.connection import WORKING
from connectors.store.engine import Transaction
from connectors.store.schema import (
    connection_table,
    identify_table,
)

_LEASE = 60 * SECOND


_LONGEST = 365 * DAY


@dataclass(frozen=True, slots=True)
class CardSearch:
    """Claimed work: find the card of `customer` for a sale."""

    sale_id: str
    connection_id: str
    customer_hash: str
    customer: Customer
    attempts: int


def is_wanted(tx: Transaction, search: CardSearch) -> bool:
    """Whether some sale of the connection still waits for the customer of a search."""
    waits = select(identify_table.c.sale_id).where(
        identify_table.c.connection_id == search.connection_id, identify_table.c.customer_hash == search.customer_hash
    )
    return tx.run(waits.limit(1)).first() is not None


def claim(tx: Transaction, limit: int, only: str | None = None) -> list[CardSearch]:
    """Claim searches that are due; with `only`, all of that connection, due or not (somebody asked)."""
    wanted = (
        select(identify_table)
        .join(connection_table, connection_table.c.id == identify_table.c.connection_id)
        .where(connection_table.c.health.in_(WORKING), connection_table.c.send_after <= tx.now)
        .order_by(identify_table.c.next_at)
        .limit(limit)
    )
    wanted = (
        wanted.where(identify_table.c.connection_id == only)
        if only
        else wanted.where(identify_table.c.next_at <= tx.now)
    )
    rows = tx.run(wanted).all()
    if rows:
        tx.run(
            identify_table.update().where(identify_table.c.sale_id == bindparam("id_")).values(next_at=tx.now + _LEASE),
            [{"id_": row.sale_id} for row in rows],
        )
    return [
        CardSearch(
            row.sale_id,
            row.connection_id,
            row.customer_hash,
            Customer.model_validate_json(tx.vault.decrypt(row.customer)),
            row.attempts,
        )
        for row in rows
    ]


def postpone(tx: Transaction, search: CardSearch, at: int) -> None:
    """Leave the search for a customer, for all sales that wait for it, for later; none goes on for ever."""
    tx.run(
        identify_table.update()
        .where(
            identify_table.c.connection_id == search.connection_id,
            identify_table.c.customer_hash == search.customer_hash,
        )
        .values(
            next_at=at,
            attempts=identify_table.c.attempts + 1,
            expires_at=func.coalesce(identify_table.c.expires_at, tx.now + _LONGEST),
        )
    )


def wait_for_card(tx: Transaction, sale_id: str, customer_hash: str, at: int, hold: int) -> None:
    """One sale waits for its customer to have a card: looked for again at `at`, for `hold` microseconds in all."""
    mine = (identify_table.c.sale_id == sale_id) & (identify_table.c.customer_hash == customer_hash)
    tx.run(
        identify_table.update()
        .where(mine)
        .values(
            next_at=at,
            attempts=identify_table.c.attempts + 1,
            expires_at=func.coalesce(identify_table.c.expires_at, tx.now + hold),
        )
    )
    tx.run(identify_table.delete().where(mine, identify_table.c.expires_at <= tx.now))


def delete(tx: Transaction, search: CardSearch) -> None:
    """Nothing is left to find out for this sale."""
    tx.run(
        identify_table.delete().where(
            identify_table.c.sale_id == search.sale_id, identify_table.c.customer_hash == search.customer_hash
        )
    )


def sales_of_customer(tx: Transaction, search: CardSearch) -> list[str]:
    """Other sales waiting for the same customer of the same connection: one answer serves them all."""
    return list(
        tx.run(
            select(identify_table.c.sale_id).where(
                identify_table.c.connection_id == search.connection_id,
                identify_table.c.customer_hash == search.customer_hash,
                identify_table.c.sale_id != search.sale_id,
            )
        ).scalars()
    )
