"""Operations: every change of an operation's state, from planned to settled.

Owns the tables `operation` and `attempt`. What is due is read in `delivery_queue`, what pages show in `queries`; what
an answer of 7stamp means is decided in `connectors.sync.verdicts`.

A change of state names the states that it may start from, in the statement itself: of two writers one finds the row
changed and leaves it, so that no state is overwritten by something decided about an older one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, case, cast, literal, or_, select
from sqlalchemy.exc import IntegrityError

from connector_sdk.hookspecs import OperationFacts
from connector_sdk.messages import Message
from connectors.domain.clock import CLOCKS_AGREE, MINUTE
from connectors.domain.connection import WORKING
from connectors.domain.events import OperationSettled, Wakeup
from connectors.domain.holds import HOLDS, WAITS_FOR_CARD, needs_person
from connectors.domain.operation import IN_DOUBT, MOVABLE, UNSETTLED, Flag, Hold, Kind, Planned, State
from connectors.domain.person import MASKED_CARD
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound
from connectors.store.ledger import card_searches, daily_totals, journal
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.ledger.journal import NewLine
from connectors.store.ledger.operation_conditions import finds_voucher, is_gift, is_open
from connectors.store.ledger.sales import cardless_lane, lock
from connectors.store.query_parts import AnyRow, claiming, in_parts
from connectors.store.schema import attempt_table, connection_table, operation_table, sale_table

JsonBody = Mapping[str, str | int | None]
"""A request's body: every value of the two requests that operations make is a text or a number."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as it is stored; times in UTC microseconds, `request` the exact body."""

    seq: int
    id: str
    sale_id: str
    n: int
    connection_id: str
    business_id: str
    receipt_id: str
    lane: str
    """The card, the voucher, or the customer without a card: at most one operation of a lane is on the wire."""
    card_id: str | None
    card_hint: str | None
    kind: Kind
    count: int
    redeem_code: str | None = field(repr=False)
    code: str
    key: str
    """The idempotency key: the code, with the number of the attempt from the second on."""
    attempt: int
    request: str
    state: State
    hold: str | None
    reason: Message | None
    waived: bool
    """Whether a person let it go beyond the cap of its card's day."""
    next_at: int
    sent_at: int | None
    tries: int
    conflicted: bool
    """Whether 7stamp knew the key with another body: the next try needs another key."""
    day: str
    created_at: int
    updated_at: int
    acknowledged: bool = False
    """Whether a person has seen that it was rejected."""
    flag: Flag | None = None
    """Why a person should look at it though nothing is to be sent."""

    def facts(self, state: State) -> OperationFacts:
        """Build what plugins are told of it."""
        return OperationFacts(self.id, self.receipt_id, self.kind.value, self.count, state.value, self.code)


_COLUMNS = frozenset(column.name for column in operation_table.c) - {"expires_at", "sender"}


def operation_of(tx: Transaction, row: AnyRow) -> Operation:
    """Build the value of a row that has all columns of the table, and perhaps others."""
    # by name: a row is a tuple, whose own `count` is a method
    columns = {name: value for name, value in row._mapping.items() if name in _COLUMNS}
    # a code is decrypted for whoever sends it or shows it to its own cafe; `repr` never has it
    code, reason = columns["redeem_code"], columns["reason"]
    return Operation(
        **columns
        | {
            "redeem_code": tx.vault.decrypt(code) if code else None,
            "kind": Kind(columns["kind"]),
            "state": State(columns["state"]),
            "reason": Message.restored(reason) if reason else None,
            "waived": bool(columns["waived"]),
            "conflicted": bool(columns["conflicted"]),
            "acknowledged": bool(columns["acknowledged"]),
            "flag": Flag(columns["flag"]) if columns["flag"] else None,
        }
    )


# Planning: a batch of sales hands over what it planned and cancelled


@dataclass(slots=True)
class PlannedOperation:
    """An operation as planning needs it."""

    id: str
    n: int
    kind: str
    card_id: str | None
    count: int
    state: str
    hold: str | None
    lane: str
    acknowledged: int = 0
    flag: str | None = None

    @property
    def owner(self) -> str:
        """Whose the stamps are: a card, or the lane of a customer who has none yet."""
        return self.card_id or self.lane

    def planned(self) -> Planned:
        """Build the value that the arithmetic of planning works with."""
        # a voucher is no stamps: it counts as nothing in the arithmetic
        signed = {Kind.stamps_added: self.count, Kind.stamps_reversed: -self.count}.get(Kind(self.kind), 0)
        return Planned(self.id, self.n, self.card_id, signed, State(self.state))


@dataclass(slots=True)
class NewOperation:
    """An operation to store; `body` is the request without its code, which the operation's own is."""

    planned: PlannedOperation
    sale_id: str
    connection_id: str
    business_id: str
    receipt_id: str
    card_hint: str | None
    code: str
    body: JsonBody
    day: str
    redeem_code: str | None = field(default=None, repr=False)
    reason: Message | None = None
    expires_at: int | None = None


_OF_SALES = (
    select(
        operation_table.c.sale_id,
        operation_table.c.id,
        operation_table.c.n,
        operation_table.c.kind,
        operation_table.c.card_id,
        operation_table.c.count,
        operation_table.c.state,
        operation_table.c.hold,
        operation_table.c.lane,
        operation_table.c.acknowledged,
        operation_table.c.flag,
    )
    .where(operation_table.c.sale_id.in_(bindparam("ids", expanding=True)))
    .order_by(operation_table.c.sale_id, operation_table.c.n)
    .with_for_update()
)
_INSERT = operation_table.insert()
# not IN: an expanding list cannot be executed for many rows at once
_IS_MOVABLE = or_(*(operation_table.c.state == state for state in sorted(MOVABLE)))
_IS_IN_DOUBT = or_(*(operation_table.c.state == state for state in sorted(IN_DOUBT)))
_HAS_ID = operation_table.c.id == bindparam("id_")


def lock_of_sales(tx: Transaction, sale_ids: Sequence[str]) -> list[tuple[str, PlannedOperation]]:
    """Read the operations of sales for a change, as (sale id, operation), each sale's in their order."""
    return [(row.sale_id, PlannedOperation(*tuple(row)[1:])) for row in tx.run(_OF_SALES, {"ids": list(sale_ids)})]


def are_on_their_way(tx: Transaction, sale_id: str) -> bool:
    """Say whether something of a sale is still to be sent, or in doubt."""
    of_sale = (operation_table.c.sale_id == sale_id) & operation_table.c.state.in_([State.pending, *sorted(IN_DOUBT)])
    return tx.run(select(operation_table.c.id).where(of_sale).limit(1)).first() is not None


def insert(tx: Transaction, operations: Sequence[NewOperation]) -> None:
    """Store planned operations."""
    tx.run_each(_INSERT, [_new_row(tx, operation) for operation in operations])
    tx.events += [_held_event(operation) for operation in operations if operation.planned.state == State.held]
    # held ones wake nobody: there is nothing to send yet
    if any(operation.planned.state == State.pending for operation in operations):
        tx.wakeups.add(Wakeup.deliver)


def _held_event(operation: NewOperation) -> OperationSettled:
    planned = operation.planned
    facts = OperationFacts(
        planned.id, operation.receipt_id, Kind(planned.kind).value, planned.count, State.held.value, operation.code
    )
    return OperationSettled(operation.connection_id, facts, operation.business_id, planned.card_id, operation.reason)


def _new_row(tx: Transaction, operation: NewOperation) -> dict[str, object]:
    planned, code = operation.planned, operation.code
    return {
        "id": planned.id,
        "sale_id": operation.sale_id,
        "n": planned.n,
        "connection_id": operation.connection_id,
        "business_id": operation.business_id,
        "receipt_id": operation.receipt_id,
        "lane": planned.lane,
        "card_id": planned.card_id,
        "card_hint": operation.card_hint,
        "kind": Kind(planned.kind).value,
        "count": planned.count,
        "redeem_code": tx.vault.encrypt(operation.redeem_code) if operation.redeem_code else None,
        "code": code,
        # the first try's key is the code itself; later ones add the attempt's number
        "key": code,
        "attempt": 1,
        "request": json.dumps({**operation.body, "code": code}, separators=(",", ":")),
        "state": State(planned.state).value,
        "hold": planned.hold,
        "reason": operation.reason.stored() if operation.reason else None,
        "waived": 0,
        # due at once: the order of delivery is by `seq`, which this insert gives
        "next_at": tx.now,
        "expires_at": operation.expires_at,
        "sent_at": None,
        "tries": 0,
        "conflicted": 0,
        "day": operation.day,
        "created_at": tx.now,
        "updated_at": tx.now,
    }


_CANCEL = (
    operation_table.update()
    .where(_HAS_ID, _IS_MOVABLE)
    # a flag is on what was done: of what never was, there is nothing to look at
    .values(state=State.cancelled, hold=None, reason=None, flag=None, updated_at=bindparam("now"))
)


def cancel(tx: Transaction, ids: Iterable[str]) -> None:
    """Cancel operations that are pending or held, each by a conditional update of its own."""
    tx.run_each(_CANCEL, [{"id_": operation_id, "now": tx.now} for operation_id in ids])


@dataclass(frozen=True, slots=True)
class CardRelease:
    """A held operation whose card was found; `new_key` where it was refused before, under another key."""

    operation_id: str
    card_id: str
    card_hint: str
    new_key: bool


_RELEASE_TO_CARD = (
    operation_table.update()
    .where(_HAS_ID, operation_table.c.state == State.held)
    .values(
        state=State.pending,
        hold=None,
        reason=None,
        expires_at=None,
        card_id=bindparam("card_id_"),
        card_hint=bindparam("card_hint_"),
        lane=bindparam("lane_"),
        attempt=operation_table.c.attempt + bindparam("new_key_"),
        key=case(
            (bindparam("new_key_") == 1, operation_table.c.code + "." + cast(operation_table.c.attempt + 1, Text)),
            else_=operation_table.c.key,
        ),
        next_at=bindparam("now"),
        updated_at=bindparam("now"),
    )
)


def release_to_cards(tx: Transaction, releases: Sequence[CardRelease]) -> None:
    """Give held operations their cards and let them go."""
    rows = [
        {
            "id_": release.operation_id,
            "card_id_": release.card_id,
            "card_hint_": release.card_hint,
            # the lane changes with the card: from now on it waits its turn with that card's others
            "lane_": card_lane(release.card_id),
            "new_key_": int(release.new_key),
            "now": tx.now,
        }
        for release in releases
    ]
    if rows:
        tx.run_each(_RELEASE_TO_CARD, rows)
        tx.wakeups.add(Wakeup.deliver)


def card_lane(card_id: str) -> str:
    """Name the lane of a card."""
    return f"card:{card_id}"


def assign_cards(tx: Transaction, cards: Mapping[str, str]) -> None:
    """Operation id → card id: count what ended without a card as this card's, so that it is not planned again."""
    if cards:
        change = operation_table.update().where(_HAS_ID).values(card_id=bindparam("card_id_"))
        tx.run(change, [{"id_": operation_id, "card_id_": card_id} for operation_id, card_id in cards.items()])


def move(tx: Transaction, sales: Mapping[str, str]) -> None:
    """Hand the operations of sales over: sale id → the connection that has the sale now."""
    if sales:
        change = operation_table.update().where(operation_table.c.sale_id == bindparam("id_"))
        rows = [{"id_": sale_id, "connection_id_": connection_id} for sale_id, connection_id in sales.items()]
        tx.run(change.values(connection_id=bindparam("connection_id_")), rows)


def move_all(tx: Transaction, sale_ids: Select[tuple[str]], connection_id: str) -> None:
    """Hand the operations of all sales of a query over to a connection."""
    moved = operation_table.c.sale_id.in_(sale_ids.scalar_subquery())
    tx.run(operation_table.update().where(moved).values(connection_id=connection_id))


# Delivery

_CLAIM = (
    operation_table.update()
    .where(operation_table.c.id.in_(bindparam("ids", expanding=True)), operation_table.c.state == State.pending)
    .values(
        state=State.sending,
        sent_at=bindparam("now"),
        updated_at=bindparam("now"),
        tries=operation_table.c.tries + 1,
        sender=bindparam("sender_"),
    )
    .returning(operation_table)
)


def claim(tx: Transaction, ids: Sequence[str]) -> list[Operation]:
    """Mark pending operations as being sent, and return them in their order.

    What another sender has, or whose lane it has, is left out: a unique index over the lanes of what is on the wire
    refuses the second, whatever both have read before. Nothing is claimed by a wrong time.
    """
    if not ids or not tx.may_send():
        return []
    try:
        # a savepoint: a refused claim must not take the answers of this transaction with it
        with tx.session.begin_nested():
            rows = tx.run(_CLAIM, {"ids": list(ids), "now": tx.now, "sender_": tx.member}).all()
    except IntegrityError:  # another sender has one of these lanes: claim one by one, so that only that one is left
        if len(ids) == 1:
            return []
        return [operation for operation_id in ids for operation in claim(tx, [operation_id])]
    return sorted((operation_of(tx, row) for row in rows), key=lambda operation: operation.seq)


def unclaim(tx: Transaction, ids: Sequence[str]) -> None:
    """Undo claims of this process for what it surely has not sent: in the transaction that made them, or later."""
    # each turn of the delivery asks, and seldom has any to give back
    if not ids:
        return
    tx.run(
        operation_table.update()
        .where(
            operation_table.c.id.in_(list(ids)),
            operation_table.c.state == State.sending,
            operation_table.c.sender.is_not_distinct_from(tx.member),
        )
        # the try did not happen: its number must not be skipped, or `settle` would not know the next one
        .values(state=State.pending, tries=operation_table.c.tries - 1)
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about one try: the state that follows, and why; `new_attempt` sends it again under another key."""

    operation: Operation
    state: State
    reason: Message | None = None
    hold: Hold | None = None
    next_at: int | None = None
    new_attempt: bool = False
    conflicted: bool = False


_SETTLE = (
    operation_table.update()
    .where(_HAS_ID, operation_table.c.tries == bindparam("tries_"), _IS_IN_DOUBT)
    .values(
        state=bindparam("state_"),
        hold=bindparam("hold_"),
        reason=bindparam("reason_"),
        # what a voided receipt has used up, or may have, is flagged; what it surely has not is not
        flag=case((bindparam("keeps_flag_", type_=Integer) == 1, operation_table.c.flag), else_=None),
        next_at=bindparam("next_at_"),
        attempt=operation_table.c.attempt + bindparam("new_attempt_"),
        conflicted=bindparam("conflicted_"),
        updated_at=bindparam("now"),
    )
)
_RENEW_KEY = (
    operation_table.update()
    .where(_HAS_ID, operation_table.c.attempt > 1)
    .values(key=operation_table.c.code + "." + cast(operation_table.c.attempt, Text))
)
_IN_DOUBT_NOW = (
    select(
        operation_table.c.id,
        operation_table.c.tries,
        operation_table.c.connection_id,
        operation_table.c.card_hint,
    )
    .where(operation_table.c.id.in_(bindparam("ids", expanding=True)), _IS_IN_DOUBT)
    .with_for_update()
)


_BY_CODE = select(operation_table).where(
    operation_table.c.state.in_(sorted(IN_DOUBT)),
    operation_table.c.business_id == bindparam("business"),
    operation_table.c.code == bindparam("code_"),
)


def settle(tx: Transaction, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Write down what became of tries, with attempts, totals, journal lines and events; return the verdicts that count.

    A try is settled once: a verdict about a try that was settled meanwhile, or followed by another, counts for nothing.
    """
    # what follows goes by these alone: totals, lines and events are counted once
    verdicts = _still_open(tx, verdicts)
    if not verdicts:
        return []
    tx.run_each(_SETTLE, [_settled_values(tx, verdict) for verdict in verdicts])
    _renew_keys(tx, [verdict.operation.id for verdict in verdicts if verdict.new_attempt])
    _record_attempts(tx, verdicts)
    _add_to_daily_totals(tx, verdicts)
    journal.write_lines(tx, [line for verdict in verdicts if (line := _line(verdict)) is not None])
    tx.events += [_settled_event(verdict) for verdict in verdicts if verdict.state in _TOLD]
    return verdicts


_TOLD = (State.applied, State.held, State.rejected)
"""States of which plugins and subscribers are told."""


def _settled_event(verdict: Verdict) -> OperationSettled:
    operation = verdict.operation
    facts = operation.facts(verdict.state)
    return OperationSettled(operation.connection_id, facts, operation.business_id, operation.card_id, verdict.reason)


def _still_open(tx: Transaction, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Lock the rows and drop verdicts about tries that are settled, or were followed by another.

    Another connection may have taken the receipt over since the try was sent, or its customer may have been forgotten:
    what is journalled and told goes by the row as it is now.
    """
    if not verdicts:
        return []
    rows = tx.run(_IN_DOUBT_NOW, {"ids": [verdict.operation.id for verdict in verdicts]})
    open_tries = {(row.id, row.tries): row for row in rows}
    still_open: list[Verdict] = []
    for verdict in verdicts:
        operation = verdict.operation
        row = open_tries.get((operation.id, operation.tries))
        if row is None:
            continue
        if (row.connection_id, row.card_hint) != (operation.connection_id, operation.card_hint):
            operation = replace(operation, connection_id=row.connection_id, card_hint=row.card_hint)
            verdict = replace(verdict, operation=operation)
        still_open.append(verdict)
    return still_open


def _settled_values(tx: Transaction, verdict: Verdict) -> dict[str, object]:
    return {
        "id_": verdict.operation.id,
        "tries_": verdict.operation.tries,
        "state_": verdict.state.value,
        "hold_": verdict.hold.value if verdict.hold else None,
        "reason_": verdict.reason.stored() if verdict.reason else None,
        # for what has ended the time says nothing; the column takes no null
        "next_at_": verdict.next_at or tx.now,
        "keeps_flag_": int(verdict.state in (State.applied, *IN_DOUBT)),
        "new_attempt_": int(verdict.new_attempt),
        "conflicted_": int(verdict.conflicted),
        "now": tx.now,
    }


def _renew_keys(tx: Transaction, ids: Sequence[str]) -> None:
    tx.run_each(_RENEW_KEY, [{"id_": operation_id} for operation_id in ids])


def _record_attempts(tx: Transaction, verdicts: Sequence[Verdict]) -> None:
    """Keep every try and its answer, but for a first one that succeeds: the operation itself says that."""
    rows = [_attempt_row(tx, verdict) for verdict in verdicts if not _succeeded_at_once(verdict)]
    if rows:
        # a try in doubt is settled twice: what became of it in the end replaces the doubt
        insert = tx.insert(attempt_table)
        columns = {name: insert.excluded[name] for name in ("at", "state", "reason")}
        keys = [attempt_table.c.operation_id, attempt_table.c.number]
        tx.run(insert.on_conflict_do_update(index_elements=keys, set_=columns), rows)


def _succeeded_at_once(verdict: Verdict) -> bool:
    first = verdict.operation.tries == 1 and verdict.operation.state is not State.uncertain
    return first and verdict.state is State.applied


def _attempt_row(tx: Transaction, verdict: Verdict) -> dict[str, object]:
    return {
        "operation_id": verdict.operation.id,
        "number": verdict.operation.tries,
        "sent_at": verdict.operation.sent_at,
        "at": tx.now,
        "state": verdict.state.value,
        "reason": verdict.reason.stored() if verdict.reason else None,
    }


def _add_to_daily_totals(tx: Transaction, verdicts: Sequence[Verdict]) -> None:
    change: dict[tuple[str, str], DayTotals] = {}
    for verdict in verdicts:
        operation = verdict.operation
        # only what surely took effect counts for its day
        if verdict.state is State.applied:
            day = (operation.connection_id, operation.day)
            change[day] = change.get(day, DayTotals()) + daily_totals.of_operation(operation.kind, operation.count)
    daily_totals.add(tx, change)


def _line(verdict: Verdict) -> NewLine | None:
    """Build the journal line of a verdict: none while it is on its way, and one for the first doubt only."""
    operation = verdict.operation
    if verdict.state in (State.pending, State.sending) or (verdict.state is State.uncertain and operation.tries > 1):
        return None
    params: dict[str, object] = {
        "receipt": operation.receipt_id,
        "count": operation.count,
        "card": operation.card_hint or "",
        "code": operation.redeem_code or "",
    }
    if verdict.reason is not None:
        params["why"] = verdict.reason
    # a gift without a redeem code has none to name
    is_gift_line = operation.kind is Kind.voucher_redeemed and operation.redeem_code is None
    what = "gift" if is_gift_line else operation.kind.value
    message = Message(f"operation.{verdict.state.value}.{what}", params)
    return NewLine(operation.connection_id, message, operation.receipt_id, operation.sale_id)


def _journal_verdict(tx: Transaction, verdict: Verdict) -> None:
    """Say what an operation came to without being sent: in the journal, and to plugins and subscribers."""
    if (line := _line(verdict)) is not None:
        journal.write_lines(tx, [line])
    if verdict.state in _TOLD:
        tx.events.append(_settled_event(verdict))


def mark_unfinished_uncertain(tx: Transaction, senders: Collection[str] | None = None) -> int:
    """Make operations uncertain that are being sent by senders that are known to be dead; return how many.

    Without `senders` all of them are: a host starts on a database of which it alone has the lock.
    """
    sending = operation_table.c.state == State.sending
    if senders is not None:
        sending &= operation_table.c.sender.in_(sorted(senders))
    return _doubt(tx, sending)


def mark_unclaimed_uncertain(tx: Transaction, living: Select[tuple[str]], before: int) -> int:
    """Make operations uncertain that were sent before a moment by nobody who is living now; return how many."""
    living_senders = living.scalar_subquery()
    nobodys = operation_table.c.sender.is_(None) | operation_table.c.sender.not_in(living_senders)
    return _doubt(tx, (operation_table.c.state == State.sending) & (operation_table.c.sent_at < before) & nobodys)


def _doubt(tx: Transaction, sending: ColumnElement[bool]) -> int:
    # read before they change: each one's doubt is recorded as that try's outcome
    operations = [operation_of(tx, row) for row in tx.run(select(operation_table).where(sending).with_for_update())]
    reason = Message("why.in_doubt")
    _record_attempts(tx, [Verdict(operation, State.uncertain, reason) for operation in operations])
    changed = tx.run(
        operation_table.update().where(sending).values(state=State.uncertain, next_at=tx.now, updated_at=tx.now)
    )
    return changed.rowcount


def lease_uncertain(tx: Transaction, limit: int, only: str | None = None) -> list[Operation]:
    """Lease operations in doubt (of one connection) that are due for a look into their cards' history, for a minute."""
    query = (
        select(operation_table)
        .join(connection_table, connection_table.c.id == operation_table.c.connection_id)
        .where(
            is_open,
            operation_table.c.state == State.uncertain,
            operation_table.c.next_at <= tx.now,
            connection_table.c.health.in_(WORKING),
            connection_table.c.send_after <= tx.now,
        )
        .order_by(operation_table.c.next_at)
        .limit(limit)
    )
    if only is not None:
        query = query.where(operation_table.c.connection_id == only)
    operations = [operation_of(tx, row) for row in tx.run(claiming(query, operation_table))]
    if operations:
        # if whoever looks dies, it is due again in a minute
        lease = operation_table.update().where(_HAS_ID).values(next_at=tx.now + MINUTE)
        tx.run(lease, [{"id_": operation.id} for operation in operations])
    return operations


def find_in_doubt(tx: Transaction, business_id: str, code: str) -> Operation | None:
    """Find an operation of a business that is being sent or in doubt, by its code; `None` where there is none."""
    # by the few that are open, of which there is an index: codes have none
    row = tx.run(_BY_CODE, {"business": business_id, "code_": code}).first()
    return operation_of(tx, row) if row is not None else None


def record_applied(tx: Transaction, operation: Operation) -> bool:
    """Note that 7stamp has applied an operation that is not in doubt; say whether it still was as it was read."""
    if not _change(tx, operation, {"state": State.applied, "hold": None, "reason": None, "expires_at": None}):
        return False
    verdict = Verdict(operation, State.applied)
    _add_to_daily_totals(tx, [verdict])
    _journal_verdict(tx, verdict)
    tx.wakeups.add(Wakeup.deliver)  # what waited behind it may go out
    return True


def doubt_again(tx: Transaction, operation: Operation) -> bool:
    """Put an applied operation in doubt, for 7stamp does not show it; say whether it still was applied."""
    reason = Message("why.not_on_card")
    if not _change(tx, operation, {"state": State.uncertain, "next_at": tx.now, "reason": reason.stored()}):
        return False
    _record_attempts(tx, [Verdict(operation, State.uncertain, reason)])
    totals = daily_totals.of_operation(operation.kind, operation.count)
    daily_totals.add(tx, {(operation.connection_id, operation.day): -totals})
    return True


def _change(tx: Transaction, operation: Operation, values: Mapping[str, object]) -> bool:
    """Change an operation that is still as it was read, and return whether it was."""
    unchanged = (
        _is(operation) & (operation_table.c.state == operation.state) & (operation_table.c.tries == operation.tries)
    )
    return bool(tx.run(operation_table.update().where(unchanged).values(**values, updated_at=tx.now)).rowcount)


def is_card_known(tx: Transaction, business_id: str, card_id: str) -> bool:
    """Say whether some operation of a business was ever for a card."""
    of_card = (operation_table.c.business_id == business_id) & (operation_table.c.card_id == card_id)
    return tx.run(select(operation_table.c.id).where(of_card).limit(1)).first() is not None


_IS_UNSETTLED = is_open & operation_table.c.state.in_(sorted(UNSETTLED))
_IS_IN_DOUBT = is_open & operation_table.c.state.in_(sorted(IN_DOUBT))


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times to come of open operations with a clock that jumped."""
    later = _IS_UNSETTLED & (operation_table.c.next_at > before)
    tx.run(operation_table.update().where(later).values(next_at=operation_table.c.next_at + jump))


def shift_sent(tx: Transaction, jump: int) -> None:
    """Move when operations that are not settled were sent with a clock that jumped."""
    sent = _IS_UNSETTLED & operation_table.c.sent_at.is_not(None)
    tx.run(operation_table.update().where(sent).values(sent_at=operation_table.c.sent_at + jump))


def correct_future(tx: Transaction) -> None:
    """Take operations that are on the wire or in doubt, and sent in the future, as sent now, to be looked up now."""
    future = _IS_IN_DOUBT & (operation_table.c.sent_at > tx.now + CLOCKS_AGREE)
    tx.run(operation_table.update().where(future).values(sent_at=tx.now, next_at=tx.now))


def look_later(tx: Transaction, operation: Operation, at: int) -> None:
    """Look into the card's history again at a moment: it says nothing about this try yet.

    Not where `correct_future` has changed meanwhile when it was sent, by which the moment was reckoned.
    """
    tx.run(
        operation_table.update()
        .where(
            operation_table.c.id == operation.id,
            operation_table.c.state == State.uncertain,
            operation_table.c.tries == operation.tries,
            operation_table.c.sent_at == operation.sent_at,
        )
        .values(next_at=at)
    )


# Holds

_RELEASED: dict[str, object] = {
    "state": State.pending,
    "hold": None,
    "reason": None,
    "expires_at": None,
    "acknowledged": 0,
    "flag": None,
    "attempt": operation_table.c.attempt + 1,
}


def release_plan_limit(tx: Transaction, business_id: str) -> int:
    """Release what was held for a business' plan, oldest first and each under a new key; return how many."""
    is_held = (operation_table.c.state == State.held) & (operation_table.c.hold == Hold.plan_limit)
    of_business = operation_table.c.business_id == business_id
    # read first, because the new keys are written by id
    ids = list(tx.run(select(operation_table.c.id).where(of_business, is_held)).scalars())
    return sum(_release(tx, operation_table.c.id.in_(part) & is_held, part, _RELEASED) for part in in_parts(ids))


def _release(tx: Transaction, condition: ColumnElement[bool], ids: Sequence[str], columns: Mapping[str, object]) -> int:
    """Let the operations go that a condition says, of these ids, each under a new key; return how many."""
    release = operation_table.update().where(condition).values(columns)
    released = tx.run(release.values(next_at=tx.now, updated_at=tx.now)).rowcount
    if released:
        _renew_keys(tx, ids)
        tx.wakeups.add(Wakeup.deliver)
    return released


def hold_back(tx: Transaction, operation: Operation, hold: Hold, reason: Message, expires_at: int | None) -> None:
    """Hold a pending operation back, with a reason that a person can act on."""
    changed = tx.run(
        operation_table.update()
        .where(operation_table.c.id == operation.id, operation_table.c.state == State.pending)
        .values(state=State.held, hold=hold, reason=reason.stored(), expires_at=expires_at, updated_at=tx.now)
    )
    if changed.rowcount:
        _journal_verdict(tx, Verdict(operation, State.held, reason))


def expire_holds(tx: Transaction, limit: int = 200) -> int:
    """Reject operations whose hold has run out; return how many. `retry` revives them."""
    expired = select(operation_table).where(
        operation_table.c.state == State.held, operation_table.c.expires_at <= tx.now
    )
    operations = [operation_of(tx, row) for row in tx.run(expired.limit(limit))]
    reason = Message("why.hold_expired")
    # what needed nobody while it was held, such as a customer who never got a card, needs nobody now
    return sum(
        _reject_held(tx, operation, reason, acknowledged=not needs_person(operation.hold)) for operation in operations
    )


def _reject_held(tx: Transaction, operation: Operation, reason: Message, *, acknowledged: bool) -> bool:
    """Reject an operation that is held, and end its search for a card; say whether it was still held."""
    changed = tx.run(
        operation_table.update()
        .where(operation_table.c.id == operation.id, operation_table.c.state == State.held)
        .values(state=State.rejected, reason=reason.stored(), acknowledged=int(acknowledged), updated_at=tx.now)
    )
    if not changed.rowcount:
        return False
    _journal_verdict(tx, Verdict(operation, State.rejected, reason))
    _end_search(tx, operation)
    return True


def _end_search(tx: Transaction, operation: Operation) -> None:
    """End the search for the card of a customer for whom nothing waits any more."""
    # other holds have a card: nobody is looked for on their account
    if operation.hold not in WAITS_FOR_CARD or operation.card_id is not None:
        return
    others = select(operation_table.c.id).where(
        operation_table.c.sale_id == operation.sale_id,
        operation_table.c.lane == operation.lane,
        operation_table.c.state == State.held,
    )
    if tx.run(others.limit(1)).first() is None:
        card_searches.delete(tx, operation.sale_id, operation.lane.rpartition(":")[2])


# What a person decides


def get(tx: Transaction, connection_id: str, operation_id: str) -> Operation:
    """Read an operation of a connection. Raises `NotFound`."""
    row = tx.run(
        select(operation_table).where(
            operation_table.c.connection_id == connection_id, operation_table.c.id == operation_id
        )
    ).first()
    # of this connection only: an id alone opens nobody else's operation
    if row is None:
        raise NotFound(f"connection {connection_id} has no operation {operation_id!r}: see `connectors operations`")
    return operation_of(tx, row)


def retry(tx: Transaction, operation: Operation) -> bool:
    """Send a held or rejected operation again, under a new key and beyond any cap; say whether it could be."""
    # in the statement: of two who press the button at once, the second must not take it back from the wire
    may_be_retried = _is(operation) & operation_table.c.state.in_([State.held, State.rejected])
    if not _release(tx, may_be_retried, [operation.id], _RELEASED | {"waived": 1}):
        return False
    _journal(tx, operation, "operation.retried")
    return True


def wait_for_card_again(tx: Transaction, operation: Operation, expires_at: int | None) -> None:
    """Revive an operation that has no card yet: it waits for one again."""
    tx.run(
        operation_table.update()
        .where(operation_table.c.id == operation.id, operation_table.c.state.in_([State.held, State.rejected]))
        .values(
            state=State.held,
            hold=Hold.no_card,
            # whatever it was held for before: from now on it waits for a card, like a new customer's
            reason=Message(HOLDS[Hold.no_card].reason).stored(),
            expires_at=expires_at,
            acknowledged=0,
            updated_at=tx.now,
        )
    )
    _journal(tx, operation, "operation.retried")


def dismiss(tx: Transaction, operation: Operation) -> bool:
    """Reject a held operation because a person decided so; say whether it was still held."""
    return _reject_held(tx, operation, Message("why.dismissed"), acknowledged=True)


def acknowledge(tx: Transaction, operation: Operation) -> bool:
    """Note that a person has seen that an operation was rejected, or why it is flagged; say whether that was news."""
    is_news = (operation_table.c.state == State.rejected) & (operation_table.c.acknowledged == 0)
    changed = tx.run(
        operation_table.update()
        .where(_is(operation), is_news | operation_table.c.flag.is_not(None))
        .values(acknowledged=1, flag=None, updated_at=tx.now)
    )
    if changed.rowcount:
        _journal(tx, operation, "operation.acknowledged")
    return changed.rowcount > 0


# Vouchers


def set_flags(tx: Transaction, flags: Mapping[str, Flag | None]) -> None:
    """Flag operations by their ids, or take their flags away; what a person has seen already is left."""
    for operation_id, flag in flags.items():
        unseen = (operation_table.c.id == operation_id) & (operation_table.c.acknowledged == 0)
        tx.run(operation_table.update().where(unseen).values(flag=flag.value if flag else None))


def quieten(tx: Transaction, operation: Operation, flag: Flag | None) -> None:
    """Have a rejected operation bother nobody, or be flagged only."""
    rejected = _is(operation) & (operation_table.c.state == State.rejected)
    tx.run(operation_table.update().where(rejected).values(acknowledged=1, flag=flag.value if flag else None))


@dataclass(frozen=True, slots=True)
class GiftOperation:
    """A gift whose voucher is looked for, with the card that its receipt is bound to."""

    operation: Operation
    card_id: str
    card_hint: str


def lease_gifts(tx: Transaction, limit: int, only: str | None = None) -> list[GiftOperation]:
    """Lease gifts (of one connection) of receipts with a card, for a minute: their vouchers are to be looked for."""
    query = (
        select(operation_table, sale_table.c.card_id.label("bound_card"), sale_table.c.card_hint.label("bound_hint"))
        .where(*finds_voucher, operation_table.c.next_at <= tx.now, connection_table.c.send_after <= tx.now)
        .order_by(operation_table.c.next_at)
        .limit(limit)
    )
    if only is not None:
        query = query.where(operation_table.c.connection_id == only)
    rows = tx.run(claiming(query, operation_table))
    gifts = [GiftOperation(operation_of(tx, row), row.bound_card, row.bound_hint or "") for row in rows]
    if gifts:
        lease = operation_table.update().where(_HAS_ID).values(next_at=tx.now + MINUTE)
        tx.run(lease, [{"id_": gift.operation.id} for gift in gifts])
    return gifts


def give_voucher(tx: Transaction, gift: GiftOperation, redeem_code: str) -> bool:
    """Have a gift redeem a voucher; say whether it still waited for one."""
    operation = gift.operation
    if not _is_still_of_card(tx, gift):
        return False
    changed = tx.run(
        operation_table.update()
        .where(_is(operation), is_gift)
        .values(
            state=State.pending,
            hold=None,
            reason=None,
            expires_at=None,
            redeem_code=tx.vault.encrypt(redeem_code),
            lane=voucher_lane(tx, operation.business_id, redeem_code),
            card_id=gift.card_id,
            card_hint=gift.card_hint,
            request=json.dumps({"card_id": gift.card_id, "code": operation.code}, separators=(",", ":")),
            next_at=tx.now,
            updated_at=tx.now,
        )
    )
    tx.wakeups.add(Wakeup.deliver)
    return changed.rowcount > 0


def reject_gift(tx: Transaction, gift: GiftOperation) -> bool:
    """Reject a gift for which its card has no voucher; say whether it still waited for one."""
    return _is_still_of_card(tx, gift) and _reject_held(
        tx, gift.operation, Message("why.no_voucher"), acknowledged=False
    )


def _is_still_of_card(tx: Transaction, gift: GiftOperation) -> bool:
    """Lock a gift's receipt, and say whether it is still the customer's whose card was looked at."""
    return any(row.identified and row.card_id == gift.card_id for row in lock(tx, [gift.operation.sale_id]))


def look_for_voucher_again(tx: Transaction, operation: Operation, expires_at: int | None) -> bool:
    """Revive a gift that found no voucher, or has one looked for at once; say whether it could be."""
    may_be_revived = _is(operation) & operation_table.c.state.in_([State.held, State.rejected])
    revived = tx.run(
        operation_table.update()
        .where(may_be_revived)
        .values(
            state=State.held,
            hold=Hold.gift,
            reason=Message(HOLDS[Hold.gift].reason).stored(),
            expires_at=expires_at,
            acknowledged=0,
            flag=None,
            next_at=tx.now,
            updated_at=tx.now,
        )
    )
    if revived.rowcount:
        tx.wakeups.add(Wakeup.gifts)
        _journal(tx, operation, "operation.retried")
    return revived.rowcount > 0


def free_code(tx: Transaction, business_id: str, redeem_codes: Sequence[str]) -> str | None:
    """Return the first of a card's redeem codes that no redemption of ours has used or is about to use."""
    lanes = {voucher_lane(tx, business_id, code): code for code in redeem_codes}
    if not lanes:
        return None
    # whoever's receipt it was: a code that somebody typed is of no card until its customer has one
    taken = select(operation_table.c.lane).where(
        operation_table.c.business_id == business_id,
        operation_table.c.lane.in_(lanes),
        operation_table.c.kind == literal(Kind.voucher_redeemed.value, literal_execute=True),
        operation_table.c.state.not_in([State.cancelled, State.rejected]),
    )
    used = set(tx.run(taken).scalars())
    return next((code for lane, code in lanes.items() if lane not in used), None)


def voucher_lane(tx: Transaction, business_id: str, redeem_code: str) -> str:
    """Name the lane of a voucher, by which a redeem code is found: the code itself is stored encrypted."""
    return f"voucher:{tx.vault.hash('redeem code', business_id, redeem_code)}"


def _journal(tx: Transaction, operation: Operation, message_id: str) -> None:
    message = Message(message_id, {"receipt": operation.receipt_id})
    journal.write(tx, operation.connection_id, message, operation.receipt_id, sale_id=operation.sale_id)


# Erasing customers


@dataclass(frozen=True, slots=True)
class UnsentOperations:
    """A person's unsettled operations: the ids of additions that wait, and how many are on the wire or in doubt."""

    waiting: tuple[str, ...]
    being_sent: int


def sale_ids_of_cards(tx: Transaction, business_id: str, card_ids: Collection[str]) -> list[str]:
    """List the ids of the sales of a business that ever did something to one of these cards."""
    of_cards = (operation_table.c.business_id == business_id) & operation_table.c.card_id.in_(sorted(card_ids))
    return list(tx.run(select(operation_table.c.sale_id).where(of_cards).distinct()).scalars())


def unsent_of_person(
    tx: Transaction, sale_ids: Sequence[str], customer_hashes: Collection[str], card_ids: Collection[str]
) -> UnsentOperations:
    """Find what of a person's is not settled. Reversals and vouchers do not wait: those are finished all the same."""
    operations = _of_person(tx, sale_ids, customer_hashes, card_ids)
    waiting = tuple(operation.id for operation in operations if _is_unsent_addition(operation))
    return UnsentOperations(waiting, sum(operation.state in IN_DOUBT for operation in operations))


def _is_unsent_addition(operation: Operation) -> bool:
    return operation.kind is Kind.stamps_added and operation.state in MOVABLE


def _of_person(
    tx: Transaction, sale_ids: Sequence[str], customer_hashes: Collection[str] | None, card_ids: Collection[str]
) -> list[Operation]:
    """Read the operations of these cards, and those of these customers that have no card; all with `None`."""
    query = select(operation_table).where(operation_table.c.sale_id.in_(sale_ids)).order_by(operation_table.c.seq)
    operations = [operation_of(tx, row) for row in tx.run(query)]
    if customer_hashes is None:
        return operations
    # what has no card yet is the person's by the customer that its lane names
    lanes = {cardless_lane(sale_id, customer) for sale_id in sale_ids for customer in customer_hashes}
    return [operation for operation in operations if operation.card_id in card_ids or operation.lane in lanes]


def erase_customers(
    tx: Transaction,
    sale_ids: Sequence[str],
    customer_hashes: Collection[str] | None,
    card_ids: Collection[str],
    opaque: Mapping[str, str],
) -> None:
    """Mask the cards of a person's operations (or of all of these sales, `None`), and end what was not sent yet.

    What is ended is rejected, not cancelled: so it counts as planned, and nothing is planned in its place. `opaque`
    maps sale id to what stands in place of its customer's hash.
    """
    operations = _of_person(tx, sale_ids, customer_hashes, card_ids)
    for operation in operations:
        _mask(tx, operation, opaque[operation.sale_id])
    if customer_hashes is not None:
        for operation in filter(_is_unsent_addition, operations):
            _reject_unsent(tx, operation)


def _mask(tx: Transaction, operation: Operation, opaque: str) -> None:
    columns: dict[str, str] = {}
    if operation.card_hint:
        columns["card_hint"] = MASKED_CARD
    if operation.lane == cardless_lane(operation.sale_id, operation.lane.rpartition(":")[2]):
        columns["lane"] = cardless_lane(operation.sale_id, opaque)
    if columns:
        tx.run(operation_table.update().where(_is(operation)).values(columns))


def _is(operation: Operation) -> ColumnElement[bool]:
    return operation_table.c.id == operation.id


def _reject_unsent(tx: Transaction, operation: Operation) -> None:
    reason = Message("why.forgotten")
    changed = tx.run(
        operation_table.update()
        .where(_is(operation), _IS_MOVABLE)
        .values(state=State.rejected, reason=reason.stored(), acknowledged=1, updated_at=tx.now)
    )
    if changed.rowcount:
        _journal_verdict(tx, Verdict(replace(operation, card_hint=MASKED_CARD), State.rejected, reason))
