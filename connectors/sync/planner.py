"""Brings the operations of a sale to what it is entitled to, on a page of the ledger.

Owns which card gets how many and what is said of it in the journal; the subtraction is `connectors.domain.planning`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Refunds, StampRule
from connectors.domain import planning
from connectors.domain.clock import DAY, moment
from connectors.domain.connection import Connection
from connectors.domain.operation import MOVABLE, Hold, Kind, State
from connectors.domain.stamps import RuleVersion, rule_in_force
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.operations import PlannedRow
from connectors.store.ledger.sales import SaleRow

_STAMPS = (Kind.stamps_added, Kind.stamps_reversed)
_WAITS = {Hold.no_card: Message("why.no_card"), Hold.conflict: Message("why.conflict")}


def amount(row: SaleRow) -> Money:
    """What was paid."""
    return Money(row.paid, row.currency)


def rule_for(row: SaleRow, versions: Sequence[RuleVersion]) -> RuleVersion:
    """The rule a sale is planned by: the one in force when it was closed, or the one `replan` pinned."""
    if row.pinned and row.rule_number is not None:
        return next((v for v in versions if v.number == row.rule_number), versions[-1])
    return rule_in_force(versions, row.closed_at or 0)


def target(row: SaleRow) -> int:
    """The stamps a sale is entitled to."""
    return row.stamps if row.admitted else 0


def plan_sale(page: SaleBatch, row: SaleRow, connection: Connection, rule: StampRule, why: Message) -> None:
    """Plan what is missing, cancel what is too much, and say so.

    A sale whose customer is still to be identified keeps its plan as it is, unless it earns nothing anyway.
    """
    entitled = target(row)
    if row.customer_hash is not None and not row.identified and entitled:
        page.note(row, Message("sale.identifying", {"receipt": row.receipt_id, "amount": amount(row)}))
        return
    targets: dict[str, int] = {}
    cards: dict[str, str | None] = {}
    if row.customer_hash is not None and row.identified:
        if row.card_id is not None:
            targets[row.card_id], cards[row.card_id] = entitled, row.card_id
        elif row.wait in (Hold.no_card, Hold.conflict):
            targets[row.nobody] = entitled
    changed = 0
    operations = [o for o in page.operations[row.id] if o.kind in _STAMPS]
    cards |= {o.owner: o.card_id for o in operations}
    for owner in dict.fromkeys([*(o.owner for o in operations), *targets]):
        mine = [o for o in operations if o.owner == owner]
        changed += _bring_to(page, row, connection, rule, why, cards.get(owner), targets.get(owner, 0), mine)
    if not changed and not operations:
        page.note(
            row,
            Message(
                "sale.none", {"receipt": row.receipt_id, "amount": amount(row), "why": _why_none(row, connection, why)}
            ),
        )


def _why_none(row: SaleRow, connection: Connection, why: Message) -> Message:
    """Every reason why nothing was planned, the rule's own last."""
    reasons: list[Message] = []
    if row.customer_hash is None:
        reasons.append(Message("why.nobody"))
    elif row.wait == "skip":
        reasons.append(Message("why.skipped"))
    if not row.admitted and row.closed_at is not None:
        left_out = row.closed_at >= connection.began_at
        before = Message("why.before", {"date": moment(row.closed_at).date()})
        reasons.append(Message("why.left_out") if left_out else before)
    if not reasons or not row.stamps:
        reasons.append(why)
    first, *others = reasons
    for other in others:
        first = Message("why.both", {"first": first, "second": other})
    return first


def _bring_to(
    page: SaleBatch,
    row: SaleRow,
    connection: Connection,
    rule: StampRule,
    why: Message,
    card_id: str | None,
    wanted: int,
    operations: Sequence[PlannedRow],
) -> int:
    """Bring one card of the sale to `wanted` stamps; how many changes that took."""
    step = planning.plan(wanted, [o.planned() for o in operations])
    page.cancel(row, step.cancel)
    remainder = step.remainder
    if card_id is None:
        remainder = max(0, remainder)  # what never had a card has nothing to give back
    if not step.cancel and not remainder:
        return 0
    hint = row.card_hint if card_id == row.card_id else None
    params = {"receipt": row.receipt_id, "amount": amount(row), "card": hint or "", "why": why}
    held = _plan_new(page, row, connection, rule, card_id, hint, remainder) if remainder else None
    if remainder > 0 and card_id is not None:
        more = any(o.planned().signed > 0 and o.state not in (State.cancelled, State.rejected) for o in operations)
        page.note(row, Message("sale.earned_more" if more else "sale.earned", {**params, "count": remainder}))
    elif remainder > 0:
        page.note(
            row, Message("sale.waiting", {**params, "count": remainder, "why": _WAITS[Hold(row.wait or "no_card")]})
        )
    elif remainder < 0:
        page.note(row, Message("sale.to_decide" if held else "sale.taken_back", {**params, "count": -remainder}))
    else:
        page.note(row, Message("sale.cancelled", params))
    return 1


def _plan_new(
    page: SaleBatch,
    row: SaleRow,
    connection: Connection,
    rule: StampRule,
    card_id: str | None,
    hint: str | None,
    signed: int,
) -> Hold | None:
    """Plan so many stamps for a card; why they are held, where they are."""
    hold: Hold | None = None
    reason: Message | None = None
    expires: int | None = None
    if card_id is None:
        hold = Hold(row.wait or Hold.no_card)
        reason = _WAITS[hold]
        expires = page.tx.now + rule.hold_days * DAY
    elif signed < 0 and rule.refunds is Refunds.flag and card_id == row.card_id:
        hold, reason = Hold.flagged, Message("why.flagged")
    body: dict[str, object] = {"count": abs(signed), "receipt": row.code}
    if signed > 0:
        body["amount"] = Money(row.paid, row.currency).decimal
    page.plan_operation(
        row,
        Kind.stamps_added if signed > 0 else Kind.stamps_reversed,
        count=abs(signed),
        card_id=card_id,
        card_hint=hint,
        body=body,
        day=day_of(row, connection),
        hold=hold,
        reason=reason,
        expires_at=expires,
    )
    return hold


def day_of(row: SaleRow, connection: Connection) -> str:
    """The venue's calendar day on which the receipt was closed."""
    closed: datetime = moment(row.closed_at if row.closed_at is not None else row.changed_at)
    return closed.astimezone(ZoneInfo(connection.account.zone)).date().isoformat()


def plan_redemptions(page: SaleBatch, row: SaleRow, connection: Connection, codes: Sequence[str]) -> None:
    """Redeem each code of a closed, admitted receipt once; take back what is not sent when a code is gone."""
    planned = {
        o.lane: o for o in page.operations[row.id] if o.kind == Kind.voucher_redeemed and o.state != State.cancelled
    }
    admitted = row.admitted and row.status == "closed"
    wanted = {page.voucher_lane(row, code): code for code in codes} if admitted else {}
    gone = [o.id for lane, o in planned.items() if lane not in wanted and o.state in MOVABLE]
    page.cancel(row, gone)
    for lane, code in wanted.items():
        if lane in planned:
            continue
        body: dict[str, object] = {"card_id": row.card_id} if row.identified and row.card_id else {}
        page.plan_operation(
            row,
            Kind.voucher_redeemed,
            count=1,
            card_id=row.card_id if row.identified else None,
            card_hint=row.card_hint if row.identified else None,
            body=body,
            day=day_of(row, connection),
            redeem_code=code,
        )
        page.note(row, Message("sale.redeems", {"receipt": row.receipt_id, "code": code}))


def bind(page: SaleBatch, row: SaleRow, card_id: str, card_hint: str) -> None:
    """The sale's customer is this card's: for good. What was held for want of a card gets it."""
    page.remember_binding(row)
    row.bound_hash, row.card_id, row.card_hint, row.wait = row.customer_hash, card_id, card_hint, None
    page.changed(row)
    page.identified(row)
    for held in page.operations[row.id]:
        if held.kind not in _STAMPS or (held.card_id or row.nobody) not in (card_id, held.lane):
            continue  # another card's, or another customer's who had none
        if held.card_id is None and held.state == State.rejected:
            page.assign(held, card_id)
        elif held.hold in (Hold.no_card, Hold.conflict) and held.state == State.held:
            page.adopt(row, held, card_id, card_hint)
            params = {"receipt": row.receipt_id, "amount": amount(row), "count": held.count, "card": card_hint}
            page.note(row, Message("sale.released", params))


def unclaim(page: SaleBatch, row: SaleRow) -> None:
    """The card that somebody named for this receipt is gone before it got its stamps: they can be given again."""
    page.cancel(row, [o.id for o in page.operations[row.id] if o.state in MOVABLE and o.card_id == row.card_id])
    row.claimed, row.customer_hash, row.bound_hash, row.card_id, row.card_hint, row.wait = (
        0,
        None,
        None,
        None,
        None,
        None,
    )
    page.changed(row)
    page.note(row, Message("sale.unclaimed", {"receipt": row.receipt_id, "amount": amount(row)}))


def conclude_without_card(page: SaleBatch, row: SaleRow, wait: str) -> None:
    """It is settled that the sale's customer has no card (yet): `wait` is a hold reason, or `skip`."""
    page.remember_binding(row)
    row.bound_hash, row.card_id, row.card_hint, row.wait = row.customer_hash, None, None, wait
    page.changed(row)


def net_out(page: SaleBatch, row: SaleRow, connection: Connection, rule: StampRule) -> None:
    """After an operation came back from the wire unapplied: opposites that wait side by side cancel out."""
    for card_id in dict.fromkeys(o.card_id for o in page.operations[row.id] if o.card_id):
        mine = [o for o in page.operations[row.id] if o.card_id == card_id and o.kind in _STAMPS]
        step = planning.net([o.planned() for o in mine])
        if not step.cancel:
            continue
        page.cancel(row, step.cancel)
        hint = row.card_hint if card_id == row.card_id else None
        if step.remainder:
            _plan_new(page, row, connection, rule, card_id, hint, step.remainder)
        page.note(row, Message("sale.cancelled", {"receipt": row.receipt_id, "amount": amount(row)}))
