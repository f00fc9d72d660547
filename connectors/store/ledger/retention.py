"""Retention of sales: erases the customers of those that are kept too long, a few sales at a time.

Owns which sales those are at a moment; what erasing changes in each table is that table's module's.
"""

from __future__ import annotations

from connectors.store.engine import Transaction
from connectors.store.ledger import cards, operations, sales


def sweep_sales(tx: Transaction, before: int, limit: int) -> int:
    """Erase the customers of the oldest sales closed before a moment, at most `limit` sales; return how many.

    Stamps and cards stay: a refund of years ago still takes back what was given for it.
    """
    ids = sales.oldest_with_customers(tx, before, limit)
    if not ids:
        return 0
    # before they are erased: afterwards nothing says any more whose names might be left over
    customers = sales.customers_of(tx, ids)
    opaque = {sale_id: sales.opaque_customer(tx, sale_id) for sale_id in ids}
    # operations first: the lanes of waiting ones are found by the customers that the sales still have
    operations.erase_customers(tx, ids, None, (), opaque)
    sales.erase_customers(tx, ids, None)
    cards.erase_names_without_sales(tx, customers)
    return len(ids)
