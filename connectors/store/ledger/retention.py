"""TODO docstring."""

from __future__ import annotations

from sqlalchemy import select

from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.store.schema import sale_table


def sweep_sales(tx: Transaction, before: int, limit: int) -> int:
    """Erase the customers of the oldest sales closed before a moment, at most so many sales; how many that were.

    Stamps and cards stay: a refund of years ago still takes back what was given for it.
    """
    ids = ledger.sales.oldest_with_customers(tx, before, limit)
    if not ids:
        return 0
    rows = tx.run(
        select(sale_table.c.business_id, sale_table.c.customer_hash, sale_table.c.bound_hash).where(
            sale_table.c.id.in_(ids)
        )
    ).all()
    customers = {(row.business_id, one) for row in rows for one in (row.customer_hash, row.bound_hash) if one}
    opaque = {sale_id: ledger.sales.opaque_customer(tx, sale_id) for sale_id in ids}
    ledger.operations.erase_customers(tx, ids, None, (), opaque)
    ledger.sales.erase_customers(tx, ids, None)
    ledger.cards.erase_names_without_sales(tx, customers)
    return len(ids)
