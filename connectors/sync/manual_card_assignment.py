"""Card assignment: a person says whose card a receipt is, a cafe in its console or the customer who has the receipt.

Owns that this is said once and is our own fact: no till's snapshot undoes it, and a person only within ten minutes. The
receipt is planned like any other, one that is still open once it is closed.
"""

from __future__ import annotations

from collections.abc import Sequence

from connector_sdk.messages import Message
from connector_sdk.sale import SaleStatus
from connectors.domain.clock import MINUTE
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.store import connections, ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.journal import JournalLine
from connectors.store.ledger.sales import SaleRow
from connectors.sync.planner import amount, bind_card, entitlement, plan_sale, rule_for, take_back_assignment


class CannotAssign(Exception):
    """A receipt cannot be given to a card; `why` is the id of the message that says so."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def assign_card(
    tx: Transaction,
    connection: Connection,
    sale_id: str,
    card: KnownCard,
    names: Sequence[Reference],
    line: str = "sale.claimed",
) -> SaleRow:
    """Give a receipt's stamps to a card; return the receipt as it is then. Raises `CannotAssign`.

    `names` are those by which the receipt is found from now on; `line` is the id of the journal's line about it.
    """
    batch = SaleBatch.load(tx, [sale_id])
    row = _assignable(batch.rows.get(sale_id), connection)
    row.claimed, row.anonymous = 1, 0  # somebody says anew whose it is
    row.customer_hash = tx.vault.hash("claim", connection.business_id, card.id)
    bind_card(batch, row, card)
    params = {"receipt": row.receipt_id, "amount": amount(row), "card": card.hint}
    batch.write_line(row, Message(line, params))
    if row.status == SaleStatus.closed:
        rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule
        why = entitlement(row, ledger.sales.newest_content(tx, row), rule, connection.zone_of(row.location_id)).why
        plan_sale(batch, row, connection, rule, why)
    batch.flush()
    ledger.cards.remember_names(tx, connection.business_id, row.customer_hash, names)
    return row


TAKEN_BACK_WITHIN = 10 * MINUTE
"""How long what was given by hand can be taken back by hand; later it is a matter between cafe and guest."""


def take_card_back(tx: Transaction, connection: Connection, sale_id: str) -> SaleRow:
    """Undo what `assign_card` did by a person's hand a moment ago; return the receipt. Raises `CannotAssign`."""
    batch = SaleBatch.load(tx, [sale_id])
    row = batch.rows.get(sale_id)
    if row is None or row.connection_id != connection.id:
        raise CannotAssign("give.unknown")
    if given_until(ledger.journal.of_sale(tx, sale_id), claimed=bool(row.claimed)) <= tx.now:
        raise CannotAssign("give.too_late")
    rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule
    take_back_assignment(batch, row, connection, rule)
    batch.flush()
    return row


def given_until(lines: Sequence[JournalLine], *, claimed: bool) -> int:
    """Return until when (UTC microseconds) a receipt of these lines can be taken back by hand; 0 where it cannot.

    What a customer took by the receipt's link is theirs, and what the till said is the till's.
    """
    said = [line for line in lines if line.message.id in _SAID]
    if not claimed or not said or said[-1].message.id != "sale.claimed":
        return 0
    return said[-1].at + TAKEN_BACK_WITHIN


_SAID = ("sale.claimed", "sale.claimed_by_link", "sale.unclaimed", "sale.given_back")
"""The lines that say whose a receipt is, or is no more, by somebody's word."""


def _assignable(row: SaleRow | None, connection: Connection) -> SaleRow:
    """Return the receipt, where it may be given to a card. Raises `CannotAssign`."""
    if row is None or row.connection_id != connection.id:
        raise CannotAssign("give.unknown")
    if row.card_id is not None and row.customer_hash is not None:
        raise CannotAssign("give.has_card")
    if row.status == SaleStatus.open:  # whether it earns anything is known when it is closed
        return row
    if not row.admitted or row.status != SaleStatus.closed:
        raise CannotAssign("give.not_admitted")
    if not row.stamps:
        raise CannotAssign("give.earns_nothing")
    return row
