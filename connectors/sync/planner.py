"""Planning of a sale: brings its operations to the stamps and vouchers that it is entitled to, within a batch.

Owns which card gets how many and what the journal says of it; the subtraction is `connectors.domain.planning`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Mode, Refunds, StampRule
from connector_sdk.sale import Customer, Sale, SaleStatus
from connectors.domain import planning
from connectors.domain.clock import moment
from connectors.domain.connection import Connection
from connectors.domain.events import Wakeup
from connectors.domain.holds import HOLDS, WAITS_FOR_CARD
from connectors.domain.operation import IN_DOUBT, MOVABLE, Flag, Hold, Kind, State
from connectors.domain.stamps import Earned, RuleVersion, gifts_in, rule_in_force, stamps_for
from connectors.store import ledger
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.cards import KnownCard
from connectors.store.ledger.operations import PlannedOperation
from connectors.store.ledger.sales import SaleRow

STAMPS = (Kind.stamps_added, Kind.stamps_reversed)
SKIP = "skip"
"""In place of a hold: the rule gives nothing to customers without a card."""


def amount(row: SaleRow) -> Money:
    """Return what was paid for a receipt."""
    return Money(row.paid, row.currency)


def rule_for(row: SaleRow, versions: Sequence[RuleVersion]) -> RuleVersion:
    """Return the rule a sale is planned by: the one in force when it was closed, or the one `replan` pinned."""
    # by its number: `replan` chose it, and later rules do not look back
    if row.pinned and row.rule_number is not None:
        return next((version for version in versions if version.number == row.rule_number), versions[-1])
    return rule_in_force(versions, row.closed_at or 0)


def entitlement(row: SaleRow, sale: Sale, rule: StampRule, zone: str) -> Earned:
    """Work out the stamps a sale earns: a plugin's answer, kept with its version, or the rule's."""
    earned = stamps_for(sale, rule, zone)
    # a plugin is asked about closed receipts; a void or an open one is the rule's own answer
    if row.stamps_by_plugin is None or sale.status is not SaleStatus.closed:
        return earned
    return Earned(row.stamps_by_plugin, Message("why.plugin", {"stamps": row.stamps_by_plugin}))


def target(row: SaleRow) -> int:
    """Return the stamps a sale is entitled to: none before it is admitted."""
    return row.stamps if row.admitted else 0


def day_of(row: SaleRow, connection: Connection) -> str:
    """Return the calendar day, in the zone of its location, on which the receipt was closed (`2026-11-23`)."""
    closed: datetime = moment(row.closed_at if row.closed_at is not None else row.changed_at)
    return closed.astimezone(ZoneInfo(connection.zone_of(row.location_id))).date().isoformat()


@dataclass(frozen=True, slots=True)
class _Planning:
    """A sale that is planned: in which batch, for which connection, and by which rule."""

    batch: SaleBatch
    row: SaleRow
    connection: Connection
    rule: StampRule

    def write_line(self, message_id: str, **params: object) -> None:
        """Add a line to the journal that names the receipt and what was paid."""
        facts = {"receipt": self.row.receipt_id, "amount": amount(self.row)}
        self.batch.write_line(self.row, Message(message_id, {**facts, **params}))


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose stamps are planned: a card, or a customer without one (`card_id` is `None`).

    `target` is what the sale owes them, `operations` are the stamps planned for them so far.
    """

    card_id: str | None
    target: int
    operations: tuple[PlannedOperation, ...]


def plan_sale(batch: SaleBatch, row: SaleRow, connection: Connection, rule: StampRule, why: Message) -> None:
    """Plan what is missing, cancel what is too much, and say so in the journal.

    A sale whose customer is still to be identified keeps its plan as it is, unless it earns nothing anyway.
    """
    sale = _Planning(batch, row, connection, rule)
    # what it was given for the customer before stays until the new one is known: nothing is taken back on a guess
    if row.customer_hash is not None and not row.identified and target(row):
        sale.write_line("sale.identifying")
        return
    # every owner is brought to a target, so that whoever is no owner any more ends at none
    changes = [_bring_to_target(sale, owner, why) for owner in _owners(batch, row)]
    has_operations = any(operation.kind in STAMPS for operation in batch.operations[row.id])
    if not any(changes) and not has_operations:
        sale.write_line("sale.none", why=_why_none(row, connection, why))


def _owners(batch: SaleBatch, row: SaleRow) -> Iterator[_Owner]:
    """Yield everybody for whom stamps of this sale are planned, or are to be: at most one has a target above 0.

    In the order of their first operations, a new owner last: where a sale goes from one card to another for the first
    time, the journal says first what is taken back.
    """
    present = _present_owner(row)
    by_owner: dict[str, list[PlannedOperation]] = {}
    for operation in batch.operations[row.id]:
        if operation.kind in STAMPS:
            by_owner.setdefault(operation.owner, []).append(operation)
    if present is not None:
        by_owner.setdefault(present, [])
    for owner, operations in by_owner.items():
        # a lane's operations have no card; whoever is new has the card that the sale is bound to, or none
        card_id = operations[0].card_id if operations else row.card_id
        yield _Owner(card_id, target(row) if owner == present else 0, tuple(operations))


def _present_owner(row: SaleRow) -> str | None:
    """Name whose the sale's stamps are now: a card, the lane of a customer who has none yet, or nobody."""
    # with nobody's name, or one that is still looked for, the stamps are nobody's
    if row.customer_hash is None or not row.identified:
        return None
    if row.card_id is not None:
        return row.card_id
    return row.cardless_lane if row.wait in WAITS_FOR_CARD else None


def _why_none(row: SaleRow, connection: Connection, why: Message) -> Message:
    """Give every reason why nothing was planned, the rule's own last."""
    # the journal answers "why no stamps?": all reasons that hold, not only the first
    reasons: list[Message] = []
    if row.customer_hash is None:
        reasons.append(Message("why.nobody"))
    elif row.wait == SKIP:
        reasons.append(Message("why.skipped"))
    if not row.admitted and row.closed_at is not None:
        before = Message("why.before", {"date": moment(row.closed_at).date()})
        reasons.append(Message("why.left_out") if row.closed_at >= connection.began_at else before)
    if not reasons or not row.stamps:
        reasons.append(why)
    first, *others = reasons
    for other in others:
        first = Message("why.both", {"first": first, "second": other})
    return first


def _bring_to_target(sale: _Planning, owner: _Owner, why: Message) -> bool:
    """Bring one owner's stamps of the sale to their target; say whether that changed anything."""
    # per owner, so that a reversal is of the card that was given, and an addition of the card there is now
    step = planning.plan(owner.target, [operation.planned() for operation in owner.operations])
    # what never had a card has nothing to give back
    remainder = step.remainder if owner.card_id is not None else max(0, step.remainder)
    if not step.cancel and not remainder:
        return False
    sale.batch.cancel(sale.row, step.cancel)
    hold = _plan_stamps(sale, owner.card_id, remainder) if remainder else None
    _write_change(sale, owner, remainder, why, is_held=hold is not None)
    return True


def _write_change(sale: _Planning, owner: _Owner, remainder: int, why: Message, *, is_held: bool) -> None:
    """Say in the journal what a change of plan comes to: `remainder` stamps more, or fewer where negative."""
    params: dict[str, object] = {"card": _hint_of(sale, owner.card_id) or "", "why": why}
    if remainder > 0 and owner.card_id is not None:
        message_id = "sale.earned_more" if _has_stamps(owner.operations) else "sale.earned"
        sale.write_line(message_id, **params, count=remainder)
    elif remainder > 0:
        waits = HOLDS[Hold(sale.row.wait or Hold.no_card)]
        sale.write_line("sale.waiting", **params | {"why": Message(waits.reason)}, count=remainder)
    elif remainder < 0:
        sale.write_line("sale.to_decide" if is_held else "sale.taken_back", **params, count=-remainder)
    else:
        sale.write_line("sale.cancelled", **params)


def _has_stamps(operations: Sequence[PlannedOperation]) -> bool:
    """Say whether stamps were, or will be, added by one of these."""
    ended = (State.cancelled, State.rejected)
    return any(operation.planned().signed > 0 and operation.state not in ended for operation in operations)


def _hint_of(sale: _Planning, card_id: str | None) -> str | None:
    """Return the last digits of the number of a card that the sale has now, or had for an earlier customer."""
    if card_id == sale.row.card_id:
        return sale.row.card_hint
    return sale.batch.hint_of_former_card(sale.row, card_id) if card_id is not None else None


def _plan_stamps(sale: _Planning, card_id: str | None, signed: int) -> Hold | None:
    """Plan so many stamps (negative: a reversal) for a card; return why they are held, where they are."""
    row = sale.row
    # planned all the same: what is held counts as planned, so it is not planned again
    hold = _hold_of(sale, card_id, signed)
    body: dict[str, str | int | None] = {"count": abs(signed), "receipt": row.code}
    # 7stamp shows it in the card's history; a reversal refers to the receipt
    if signed > 0:
        body["amount"] = amount(row).decimal
    sale.batch.plan_operation(
        row,
        Kind.stamps_added if signed > 0 else Kind.stamps_reversed,
        count=abs(signed),
        card_id=card_id,
        card_hint=_hint_of(sale, card_id),
        body=body,
        day=day_of(row, sale.connection),
        hold=hold,
        reason=Message(HOLDS[hold].reason) if hold else None,
        expires_at=HOLDS[hold].expires_at(sale.batch.tx.now, rule_days=sale.rule.hold_days) if hold else None,
    )
    return hold


def _hold_of(sale: _Planning, card_id: str | None, signed: int) -> Hold | None:
    if card_id is None:
        return Hold(sale.row.wait or Hold.no_card)
    # a reversal of another customer's card is no refund that a cafe asked to see first
    is_refund = signed < 0 and card_id == sale.row.card_id
    return Hold.flagged if is_refund and sale.rule.refunds is Refunds.flag else None


def plan_redemptions(
    batch: SaleBatch, row: SaleRow, connection: Connection, rule: StampRule, sale: Sale | None
) -> None:
    """Redeem each code of a closed, admitted receipt once, and a voucher of its card for each gift without a code.

    What is not sent when its code or its gift is gone is cancelled; what was used up before its receipt was voided is
    flagged, for 7stamp gives no voucher back. `sale` is the receipt as it is now, `None` where it counts no more.
    """
    redeems = sale is not None and bool(row.admitted) and row.status == SaleStatus.closed
    # rejected ones count: a dead code on a receipt is not tried again with every new version
    planned = _planned_redemptions(batch, row)
    codes_by_lane = {batch.voucher_lane(row, code): code for code in sale.redeem_codes} if sale and redeems else {}
    by_code = [operation for lane, operation in planned.items() if lane in codes_by_lane]
    others = [operation for lane, operation in planned.items() if lane not in codes_by_lane]
    # a gift is paid for by the code beside it, if there is one; what was redeemed without a code here has paid for one
    gifts = max(0, gifts_in(sale, rule) - len(codes_by_lane)) if sale and redeems else 0
    _bring_to_gifts(batch, row, connection, others, gifts)
    for lane, code in codes_by_lane.items():
        if lane not in planned:
            _plan_redemption(batch, row, connection, code)
    _flag_redemptions(batch, row, [*by_code, *others])


def cancel_unwanted_redemptions(batch: SaleBatch, row: SaleRow) -> None:
    """Cancel what a receipt that was voided meanwhile would still redeem, now that it surely was not."""
    if not row.admitted or row.status != SaleStatus.closed:
        planned = _planned_redemptions(batch, row).values()
        batch.cancel(row, [operation.id for operation in planned if operation.state in MOVABLE])


def _planned_redemptions(batch: SaleBatch, row: SaleRow) -> dict[str, PlannedOperation]:
    """Map the lane of each voucher to the sale's redemption of it, whatever became of that."""
    return {
        operation.lane: operation
        for operation in batch.operations[row.id]
        if operation.kind == Kind.voucher_redeemed and operation.state != State.cancelled
    }


def _bring_to_gifts(
    batch: SaleBatch, row: SaleRow, connection: Connection, others: Sequence[PlannedOperation], gifts: int
) -> None:
    """Bring the redemptions that no code of the receipt asks for to the number of its gifts."""
    # what was sent stays: a reward that somebody has taken is not taken back
    sent = [operation for operation in others if operation.state not in MOVABLE]
    # one whose code was typed and is gone is no gift's: only a gift's waits for a gift
    waiting = [operation for operation in others if operation.state in MOVABLE]
    # a voucher of the customer that the receipt had before pays for nothing of the one that it has now
    card_id = row.card_id if row.identified else None
    own = [operation for operation in waiting if operation.card_id in (None, card_id)]
    kept = own[: max(0, gifts - len(sent))]
    batch.cancel(row, [operation.id for operation in waiting if operation not in kept])
    for _ in range(gifts - len(sent) - len(kept)):
        _plan_gift(batch, row, connection)


def _plan_gift(batch: SaleBatch, row: SaleRow, connection: Connection) -> None:
    """Plan the redemption of some voucher of the receipt's card; without a customer nobody's voucher can be meant."""
    params = {"receipt": row.receipt_id, "amount": amount(row)}
    if row.customer_hash is None:
        batch.write_line(row, Message("sale.gift_without_card", params))
        return
    facts = HOLDS[Hold.gift]
    batch.plan_operation(
        row,
        Kind.voucher_redeemed,
        count=1,
        card_id=None,
        card_hint=None,
        body={},
        day=day_of(row, connection),
        hold=Hold.gift,
        reason=Message(facts.reason),
        expires_at=facts.expires_at(batch.tx.now),
    )
    batch.tx.wakeups.add(Wakeup.gifts)
    batch.write_line(row, Message("sale.gift", params))


def _plan_redemption(batch: SaleBatch, row: SaleRow, connection: Connection, code: str) -> None:
    # a voucher waits for no card: used twice meanwhile would be worse than unnamed
    card_id = row.card_id if row.identified else None
    batch.plan_operation(
        row,
        Kind.voucher_redeemed,
        count=1,
        card_id=card_id,
        card_hint=row.card_hint if card_id else None,
        body={"card_id": card_id} if card_id else {},
        day=day_of(row, connection),
        redeem_code=code,
    )
    batch.write_line(row, Message("sale.redeems", {"receipt": row.receipt_id, "code": code}))


def _flag_redemptions(batch: SaleBatch, row: SaleRow, operations: Sequence[PlannedOperation]) -> None:
    """Flag what a voided receipt has redeemed, or may have; take the flag away where it counts again."""
    used = [operation for operation in operations if operation.state in (State.applied, *IN_DOUBT)]
    is_voided = row.status == SaleStatus.voided
    if is_voided and any(operation.flag is None and not operation.acknowledged for operation in used):
        batch.write_line(row, Message("sale.voided_redeemed", {"receipt": row.receipt_id, "amount": amount(row)}))
    for operation in used:
        batch.flag(operation, Flag.voided if is_voided else None)


def bind_card(batch: SaleBatch, row: SaleRow, card: KnownCard) -> None:
    """Bind the sale permanently to a card and release its holds."""
    # the former customer's card, before it is overwritten: the till may name them again
    batch.remember_binding(row)
    row.bound_hash, row.card_id, row.card_hint, row.wait = row.customer_hash, card.id, card.hint, None
    batch.mark_changed(row)
    batch.end_search(row)
    for operation in batch.operations[row.id]:
        if operation.kind in STAMPS and _is_of(operation, row, card):
            _give_card(batch, row, operation, card)


def _is_of(operation: PlannedOperation, row: SaleRow, card: KnownCard) -> bool:
    """Say whether an operation is this card's or this customer's, not another card's or an earlier customer's."""
    return (operation.card_id or row.cardless_lane) in (card.id, operation.lane)


def _give_card(batch: SaleBatch, row: SaleRow, operation: PlannedOperation, card: KnownCard) -> None:
    # its hold ran out, or somebody dismissed it: now that there is a card it is that card's, and not planned anew
    if operation.card_id is None and operation.state == State.rejected:
        batch.assign_card(operation, card.id)
    elif operation.hold in WAITS_FOR_CARD and operation.state == State.held:
        batch.release_to_card(operation, card.id, card.hint)
        params = {"receipt": row.receipt_id, "amount": amount(row), "count": operation.count, "card": card.hint}
        batch.write_line(row, Message("sale.released", params))


def undo_assignment(batch: SaleBatch, row: SaleRow) -> None:
    """Undo that a person named a card for this receipt: it is gone before it got its stamps. It can be named again."""
    cancelled = [
        operation.id
        for operation in batch.operations[row.id]
        if operation.state in MOVABLE and operation.card_id == row.card_id
    ]
    batch.cancel(row, cancelled)
    # nothing is said any more: the next version's customer, or another person, may say it
    row.claimed = 0
    row.customer_hash = row.bound_hash = row.card_id = row.card_hint = row.wait = None
    batch.mark_changed(row)
    batch.write_line(row, Message("sale.unclaimed", {"receipt": row.receipt_id, "amount": amount(row)}))


def named_customer(sale: Sale, rule: StampRule) -> Customer | None:
    """Return the customer that a till names, where the rule goes by it."""
    return sale.customer if rule.mode is not Mode.receipt_qr else None


def needs_card(row: SaleRow, sale: Sale, rule: StampRule) -> bool:
    """Say whether there is something to find the customer's card for, or to make one: stamps, or a gift's voucher."""
    return bool(row.stamps) or gifts_in(sale, rule) > 0


def take_back_assignment(batch: SaleBatch, row: SaleRow, connection: Connection, rule: StampRule) -> None:
    """Undo that a person named a card for this receipt: the card gives back what it got. It can be named again.

    What the till says of its customer counts again; without one, the receipt is nobody's.
    """
    batch.write_line(
        row, Message("sale.given_back", {"receipt": row.receipt_id, "amount": amount(row), "card": row.card_hint or ""})
    )
    batch.remember_binding(row)
    row.claimed = 0
    row.customer_hash = row.bound_hash = row.card_id = row.card_hint = row.wait = None
    batch.mark_changed(row)
    if row.status == SaleStatus.closed:
        # nobody's now: whoever has stamps of it is brought to none, as when a till takes its customer away
        plan_sale(batch, row, connection, rule, Message("why.given_by_mistake"))
    content = ledger.sales.newest_content(batch.tx, row)
    if (customer := named_customer(content, rule)) is not None:
        account_id = connection.account.id
        row.customer_hash = ledger.cards.customer_hash(batch.tx, connection.connector, account_id, customer)
        if row.admitted and needs_card(row, content, rule):
            batch.search_card(row, customer, batch.tx.now)
    # a voucher of the wrong card that was not sent yet pays for no gift of this receipt
    plan_redemptions(batch, row, connection, rule, content)


def conclude_without_card(batch: SaleBatch, row: SaleRow, wait: str) -> None:
    """Settle that the sale's customer has no card (yet): `wait` is a reason to hold, or `SKIP`."""
    batch.remember_binding(row)
    row.bound_hash, row.card_id, row.card_hint, row.wait = row.customer_hash, None, None, wait
    batch.mark_changed(row)


def net_out(batch: SaleBatch, row: SaleRow, connection: Connection, rule: StampRule) -> None:
    """Cancel opposites that wait side by side, after an operation came back from the wire unapplied."""
    sale = _Planning(batch, row, connection, rule)
    operations = [operation for operation in batch.operations[row.id] if operation.kind in STAMPS]
    for card_id in dict.fromkeys(operation.card_id for operation in operations if operation.card_id):
        step = planning.net_out([operation.planned() for operation in operations if operation.card_id == card_id])
        if not step.cancel:
            continue
        batch.cancel(row, step.cancel)
        if step.remainder:
            _plan_stamps(sale, card_id, step.remainder)
        sale.write_line("sale.cancelled")
