"""Claims: which receipts customers claimed by themselves, and the text that they agreed to.

Owns the table `claim`; whose card a receipt's stamps are on stands in the sale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from connectors.store.engine import Transaction
from connectors.store.ledger.sales import SaleRow
from connectors.store.query_parts import in_parts
from connectors.store.schema import claim_table, sale_table


@dataclass(frozen=True, slots=True)
class Claim:
    """A receipt that a customer claimed at a moment (UTC microseconds)."""

    sale_id: str
    at: int
    consent: str | None
    """The text as the customer read it; `None` where the cafe asks for none."""
    language: str


def record(tx: Transaction, row: SaleRow, *, card_id: str, consent: str | None, language: str) -> None:
    """Keep that a receipt was claimed just now."""
    values = {
        "sale_id": row.id,
        "at": tx.now,
        "business_id": row.business_id,
        "card_id": card_id,
        "consent": consent,
        "language": language,
    }
    tx.run(claim_table.insert(), [values])


def of_sale(tx: Transaction, sale_id: str) -> list[Claim]:
    """List the claims of a receipt, oldest first: more than one where a claimed card was gone."""
    rows = tx.run(select(claim_table).where(claim_table.c.sale_id == sale_id).order_by(claim_table.c.at))
    return [Claim(row.sale_id, row.at, row.consent, row.language) for row in rows]


def ids_beginning_with(tx: Transaction, id_start: str) -> list[str]:
    """List the ids of at most two sales that begin so."""
    # a range of the primary key; "g" comes after every hex digit
    is_within = (sale_table.c.id >= id_start) & (sale_table.c.id < f"{id_start}g")
    return list(tx.run(select(sale_table.c.id).where(is_within).limit(2)).scalars())


def count_of_sales(tx: Transaction, sale_ids: Sequence[str], card_ids: Collection[str]) -> int:
    """Count the claims of some sales by some cards."""
    number = select(func.count()).select_from(claim_table)
    cards = claim_table.c.card_id.in_(sorted(card_ids))
    return sum(
        int(tx.run(number.where(claim_table.c.sale_id.in_(part), cards)).scalar_one()) for part in in_parts(sale_ids)
    )


def erase(tx: Transaction, sale_ids: Sequence[str], card_ids: Collection[str]) -> None:
    """Delete the claims of some sales by some cards."""
    gone = claim_table.c.sale_id.in_(sale_ids) & claim_table.c.card_id.in_(sorted(card_ids))
    tx.run(claim_table.delete().where(gone))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete the claims made before a moment, at most `limit` rows; return how many."""
    keys = (claim_table.c.sale_id, claim_table.c.at)
    old = tx.run(select(*keys).where(claim_table.c.at < before).limit(limit)).all()
    for sale_id, at in map(tuple, old):
        tx.run(claim_table.delete().where(keys[0] == sale_id, keys[1] == at))
    return len(old)
