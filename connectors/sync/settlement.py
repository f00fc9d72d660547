"""Settlement: writes down what tries came to, and what follows from it for cards, keys and businesses.

Owns the consequences of an answer, in one transaction with the answer itself; what an answer means is `verdicts`'.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from connector_sdk.rule import DeadCodes
from connectors.domain.clock import MINUTE, micros
from connectors.domain.operation import Flag, Kind, State
from connectors.domain.plan import start_of_next_month
from connectors.sevenstamp.client import Applied, InvalidKey, Limited, Outcome, Refused
from connectors.store import connections, ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.operations import Operation
from connectors.store.ledger.voucher_states import VoucherState
from connectors.sync.health import report_key_failure
from connectors.sync.planner import cancel_unwanted_redemptions, net_out, rule_for, undo_assignment
from connectors.sync.verdicts import judge, retry_pause


@dataclass(frozen=True, slots=True)
class Answer:
    """A try's outcome, and the key (hashed) it was made with."""

    operation: Operation
    outcome: Outcome
    key_hash: str


def settle(tx: Transaction, answers: Sequence[Answer]) -> None:
    """Write down what tries came to, and what follows from each that counts.

    A try that was settled meanwhile has had its consequences.
    """
    verdicts = ledger.operations.settle(tx, [judge(answer.operation, answer.outcome, tx.now) for answer in answers])
    counted = {verdict.operation.id for verdict in verdicts}
    for verdict in verdicts:
        if verdict.state is State.rejected and verdict.operation.kind is Kind.voucher_redeemed:
            follow_dead_gift(tx, verdict.operation)
    for answer in answers:
        if answer.operation.id in counted:
            _follow_up(tx, answer)
    applied = Counter(one.operation.business_id for one in verdicts if one.state is State.applied)
    connections.businesses.count_operations(tx, applied)
    unapplied = [verdict.operation.sale_id for verdict in verdicts if verdict.state in (State.pending, State.held)]
    if unapplied:
        _net_out(tx, unapplied)


def follow_dead_gift(tx: Transaction, operation: Operation) -> None:
    """Do what the rule says of a gift that was given against a code that is used, expired or unknown."""
    batch = SaleBatch.load(tx, [operation.sale_id])
    row = batch.rows[operation.sale_id]
    wish = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule.dead_codes
    if wish is not DeadCodes.tell:
        ledger.operations.quieten(tx, operation, Flag.dead_code if wish is DeadCodes.flag else None)


def _record_voucher(tx: Transaction, answer: Answer) -> None:
    """Keep what an answer says of a voucher, for the pages of receipts that name its code."""
    operation, outcome = answer.operation, answer.outcome
    if operation.redeem_code is None:
        return
    match outcome:
        case Applied():
            state = VoucherState("redeemed", tx.now, "api", operation.code)
        case Refused(code="already_redeemed", body=body):
            by_code = body.get("redeemed_by_code")
            at = _moment_in(body.get("redeemed_at"))
            state = VoucherState("redeemed", at or tx.now, None, by_code if isinstance(by_code, str) else None)
        case Refused(code="voucher_expired"):
            state = VoucherState("expired", tx.now, None, None)
        case _:
            return
    ledger.voucher_states.record(tx, operation.business_id, operation.redeem_code, state)


def _moment_in(value: object) -> int | None:
    """Return the moment that an answer names (UTC microseconds); `None` where it names none."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return micros(at) if at is not None and at.tzinfo is not None else None


def _follow_up(tx: Transaction, answer: Answer) -> None:
    operation = answer.operation
    _record_voucher(tx, answer)
    match answer.outcome:
        case Limited() | InvalidKey():
            report_key_failure(tx, answer.key_hash, answer.outcome)
        case Refused(code="plan_limit"):
            business = connections.businesses.get(tx, operation.business_id)
            connections.businesses.pause(tx, operation.business_id, start_of_next_month(tx.now, business.zone))
        case Refused(code="card_not_found") if operation.kind is Kind.stamps_added and operation.card_id:
            _forget_card(tx, operation, operation.card_id)


def _forget_card(tx: Transaction, operation: Operation, card_id: str) -> None:
    """Forget a card that is gone and find out once more whose the sale is; the held operation goes to that card."""
    ledger.cards.forget_card(tx, operation.business_id, card_id)
    batch = SaleBatch.load(tx, [operation.sale_id])
    row = batch.rows[operation.sale_id]
    if row.card_id != card_id:
        return
    if row.claimed or row.anonymous:
        undo_assignment(batch, row)
    elif (customer := ledger.sales.newest_content(tx, row).customer) is not None:
        row.bound_hash = None
        batch.mark_changed(row)
        # a card that is found and gone again and again is searched for with growing pauses
        minutes = retry_pause(operation.attempt) if operation.attempt > 1 else 0
        batch.search_card(row, customer, tx.now + minutes * MINUTE)
    batch.flush()


def _net_out(tx: Transaction, sale_ids: Sequence[str]) -> None:
    """Let opposites cancel out that met off the wire, now that one came back unapplied."""
    batch = SaleBatch.load(tx, sale_ids)
    owners = connections.registry.by_ids(tx, list({row.connection_id for row in batch.rows.values()}))
    for row in batch.rows.values():
        cancel_unwanted_redemptions(batch, row)
        if len(batch.operations[row.id]) > 1:
            rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule
            net_out(batch, row, owners[row.connection_id], rule)
    batch.flush()
