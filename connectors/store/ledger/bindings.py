"""Bindings: the cards that a sale's earlier customers were bound to.

Owns the table `binding`; the card of the present customer stands in the sale itself. A binding is permanent: a till
that names the first customer again gets the first card again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from connectors.store.engine import Transaction
from connectors.store.schema import binding_table


@dataclass(frozen=True, slots=True)
class Binding:
    """A sale's customer (as a hash) and their card, with the last digits of its number."""

    sale_id: str
    customer_hash: str
    card_id: str
    card_hint: str


def record(tx: Transaction, bindings: Sequence[Binding]) -> None:
    """Store bindings; the first of a customer stays whatever comes later."""
    rows = [
        {
            "sale_id": binding.sale_id,
            "customer_hash": binding.customer_hash,
            "card_id": binding.card_id,
            "card_hint": binding.card_hint,
        }
        for binding in bindings
    ]
    if rows:
        # a second binding of the same customer is a read that came late: the first stays
        tx.run(tx.insert(binding_table).on_conflict_do_nothing(), rows)


def find(tx: Transaction, sale_id: str, customer_hash: str) -> Binding | None:
    """Return the card a sale had when it named that customer before."""
    row = tx.run(
        select(binding_table).where(binding_table.c.sale_id == sale_id, binding_table.c.customer_hash == customer_hash)
    ).first()
    return Binding(row.sale_id, row.customer_hash, row.card_id, row.card_hint) if row else None


def hint_of(tx: Transaction, sale_id: str, card_id: str) -> str | None:
    """Return the last digits of a card that a sale had for an earlier customer; `None` where it never had it."""
    query = select(binding_table.c.card_hint).where(
        binding_table.c.sale_id == sale_id, binding_table.c.card_id == card_id
    )
    return tx.run(query.limit(1)).scalar()


def delete(tx: Transaction, sale_ids: Sequence[str], customer_hashes: Collection[str] | None) -> None:
    """Delete the bindings of some sales: of these customers, or all (`None`)."""
    gone = binding_table.delete().where(binding_table.c.sale_id.in_(sale_ids))
    if customer_hashes is not None:
        gone = gone.where(binding_table.c.customer_hash.in_(sorted(customer_hashes)))
    tx.run(gone)
