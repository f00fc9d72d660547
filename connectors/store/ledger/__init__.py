"""The ledger: sales, the operations planned for them, whose cards they are, and the journal of all that.

Each module writes one table (or the few that are one thing); `batch` changes many sales in one transaction.
"""

from connectors.store.ledger import (
    agreements,
    batch,
    bindings,
    card_searches,
    cards,
    claims,
    daily_totals,
    delivery_queue,
    forgotten_customers,
    journal,
    operations,
    retention,
    sales,
    voucher_requests,
    voucher_states,
)

__all__ = [
    "agreements",
    "batch",
    "bindings",
    "card_searches",
    "cards",
    "claims",
    "daily_totals",
    "delivery_queue",
    "forgotten_customers",
    "journal",
    "operations",
    "retention",
    "sales",
    "voucher_requests",
    "voucher_states",
]
