"""Stamps given by hand: a person says whose a receipt without a card is, and it is planned like any other.

Owns that such a claim is made once and is ours: no till snapshot undoes it.
"""

from __future__ import annotations

from collections.abc import Sequence

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.store import connections, ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard
from connectors.sync.ingest import entitlement
from connectors.sync.planner import amount, bind, plan_sale, rule_for


class CannotGive(Exception):
    """`why` is a message id: what stands against it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def give(tx: Transaction, one: Connection, sale_id: str, card: KnownCard, names: Sequence[tuple[str, str]]) -> int:
    """Give a receipt's stamps to a card; how many. Raises `CannotGive`."""
    page = SaleBatch.load(tx, [sale_id])
    row = page.rows.get(sale_id)
    if row is None or row.connection_id != one.id:
        raise CannotGive("give.unknown")
    if row.card_id is not None and row.customer_hash is not None:
        raise CannotGive("give.has_card")
    if not row.admitted or row.status != "closed":
        raise CannotGive("give.not_admitted")
    if not row.stamps:
        raise CannotGive("give.earns_nothing")
    rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule
    why = entitlement(row, ledger.sales.newest_content(tx, row), rule, one.account.zone).why
    row.claimed, row.anonymous = 1, 0  # somebody says anew whose it is
    row.customer_hash = tx.vault.hash("claim", one.business_id, card.id)
    bind(page, row, card.id, card.hint)
    page.note(row, Message("sale.claimed", {"receipt": row.receipt_id, "amount": amount(row), "card": card.hint}))
    plan_sale(page, row, one, rule, why)
    page.flush()
    ledger.cards.remember_names(tx, one.business_id, row.customer_hash, names)
    return row.stamps
