"""Card assignment: a person says whose card a receipt is, a cafe in its console or the customer who has the receipt.

Owns that this is said once and is our own fact: no till's snapshot undoes it, and a person only for a while. The
receipt is planned like any other, one that is still open once it is closed.
"""

from __future__ import annotations

from collections.abc import Sequence

from connector_sdk.messages import Message
from connector_sdk.sale import SaleStatus
from connectors.domain.clock import DAY, MINUTE
from connectors.domain.connection import Connection
from connectors.domain.operation import IN_DOUBT, Kind, State
from connectors.domain.person import Reference
from connectors.store import connections, ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.journal import JournalLine
from connectors.store.ledger.operations import PlannedOperation
from connectors.store.ledger.sales import SaleRow
from connectors.sync.planner import STAMPS, amount, bind_card, entitlement, plan_sale, rule_for, take_back_assignment


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
    _refuse_what_others_have(batch.operations[sale_id], card)
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


AT_ONCE = 10 * MINUTE
"""How long whoever is at the counter can take back by hand what was given by hand."""
LATER = 30 * DAY
"""How long a manager can: a wrong card is noticed in the evening, or when its guest comes again."""


def take_card_back(tx: Transaction, connection: Connection, sale_id: str, within: int = AT_ONCE) -> SaleRow:
    """Undo what `assign_card` did by a person's hand within so many microseconds; return the receipt.

    Raises `CannotAssign`.
    """
    batch = SaleBatch.load(tx, [sale_id])
    row = batch.rows.get(sale_id)
    if row is None or row.connection_id != connection.id:
        raise CannotAssign("give.unknown")
    if given_until(ledger.journal.newest_of_sale(tx, sale_id), within, claimed=bool(row.claimed)) <= tx.now:
        raise CannotAssign("give.too_late" if within == AT_ONCE else "give.much_too_late")
    _refuse_what_is_settled(row, batch.operations[sale_id])
    rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule
    take_back_assignment(batch, row, connection, rule)
    batch.flush()
    return row


def given_until(lines: Sequence[JournalLine], within: int, *, claimed: bool) -> int:
    """Return until when (UTC microseconds) a receipt of these lines can be taken back by hand; 0 where it cannot.

    What a customer took by the receipt's link is theirs, and what the till said is the till's.
    """
    said = [line for line in lines if line.message.id in _SAID]
    if not claimed or not said or said[-1].message.id != "sale.claimed":
        return 0
    return said[-1].at + within


def _refuse_what_others_have(operations: Sequence[PlannedOperation], card: KnownCard) -> None:
    """Refuse a receipt whose stamps another card has, or may have. Raises `CannotAssign`.

    7stamp takes no stamp back that a reward was given for: a receipt that goes from hand to hand must not fill one
    card after the other.
    """
    others = [one for one in operations if one.kind in STAMPS and one.card_id not in (None, card.id)]
    for card_id in {one.card_id for one in others}:
        of_card = [one for one in others if one.card_id == card_id]
        given = sum(
            one.count for one in of_card if one.kind == Kind.stamps_added and State(one.state) not in _GIVES_NOTHING
        )
        taken = sum(one.count for one in of_card if one.kind == Kind.stamps_reversed and one.state == State.applied)
        if given <= taken:
            continue
        refused = any(one.kind == Kind.stamps_reversed and one.state == State.rejected for one in of_card)
        raise CannotAssign("give.reward_given" if refused else "give.being_taken_back")


def _refuse_what_is_settled(row: SaleRow, operations: Sequence[PlannedOperation]) -> None:
    """Refuse what cannot be as if nothing had been given: a refund, or a voucher of the card. Raises `CannotAssign`."""
    of_card = [one for one in operations if one.card_id == row.card_id]
    if row.status == SaleStatus.voided or any(
        one.kind == Kind.stamps_reversed and one.state in (State.held, State.rejected) for one in of_card
    ):
        raise CannotAssign("give.refunded")
    if any(one.kind == Kind.voucher_redeemed and one.state in (State.applied, *IN_DOUBT) for one in of_card):
        raise CannotAssign("give.voucher_used")


_GIVES_NOTHING = (State.cancelled, State.rejected)
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
