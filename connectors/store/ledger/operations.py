"""TODO docstring."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, Text, and_, bindparam, case, cast, func, or_, select
from sqlalchemy.exc import IntegrityError

from connector_sdk.hookspecs import OperationFacts
from connector_sdk.messages import Message
from connectors.domain.connection import WORKING
from connectors.domain.events import OperationSettled, Wakeup
from connectors.domain.operation import MOVABLE, UNSETTLED, Hold, Kind, Planned, State, outward
from connectors.domain.person import MASKED_CARD
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound
from connectors.store.ledger.journal import stored_message
from connectors.store.schema import (
    attempt_table,
    connection_table,
    identify_table,
    journal_table,
    operation_table,
)


@dataclass(slots=True)
class PlannedRow:
    """An operation as planning needs it."""

    id: str
    n: int
    kind: str
    card_id: str | None
    count: int
    state: str
    hold: str | None
    lane: str

    @property
    def owner(self) -> str:
        """Whose the stamps are: a card, or a customer who has none yet."""
        return self.card_id or self.lane

    def planned(self) -> Planned:
        signed = {Kind.stamps_added: self.count, Kind.stamps_reversed: -self.count}.get(Kind(self.kind), 0)
        return Planned(self.id, self.n, self.card_id, signed, State(self.state))


OF_SALES = (
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
    )
    .where(operation_table.c.sale_id.in_(bindparam("ids", expanding=True)))
    .order_by(operation_table.c.sale_id, operation_table.c.n)
    .with_for_update()
)


CANCEL = (
    operation_table.update()
    .where(
        operation_table.c.id == bindparam("id_"), or_(*(operation_table.c.state == state for state in sorted(MOVABLE)))
    )
    .values(state=State.cancelled, hold=None, reason=None, updated_at=bindparam("now"))
)


RELEASE_TO_CARD = (
    operation_table.update()
    .where(operation_table.c.id == bindparam("id_"), operation_table.c.state == State.held)
    .values(
        state=State.pending,
        hold=None,
        reason=None,
        expires_at=None,
        card_id=bindparam("card_id_"),
        card_hint=bindparam("card_hint_"),
        lane=bindparam("lane_"),
        attempt=operation_table.c.attempt + bindparam("again"),
        key=case(
            (bindparam("again") == 1, operation_table.c.code + "." + cast(operation_table.c.attempt + 1, Text)),
            else_=operation_table.c.key,
        ),
        next_at=bindparam("now"),
        updated_at=bindparam("now"),
    )
)


ASSIGN_CARD = (
    operation_table.update().where(operation_table.c.id == bindparam("id_")).values(card_id=bindparam("card_id_"))
)


def count_unsettled(tx: Transaction, connection_id: str) -> int:
    """How many operations of a connection are still to be settled."""
    return int(
        tx.run(
            select(func.count())
            .select_from(operation_table)
            .where(operation_table.c.connection_id == connection_id, operation_table.c.state.in_(sorted(UNSETTLED)))
        ).scalar_one()
    )


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as the outbox has it; times in UTC microseconds, `request` the exact body."""

    seq: int
    id: str
    sale_id: str
    n: int
    connection_id: str
    business_id: str
    receipt_id: str
    lane: str
    card_id: str | None
    card_hint: str | None
    kind: Kind
    count: int
    redeem_code: str | None = field(repr=False)
    code: str
    key: str
    attempt: int
    request: str
    state: State
    hold: str | None
    reason: Message | None
    waived: bool
    next_at: int
    sent_at: int | None
    tries: int
    conflicted: bool
    day: str
    created_at: int
    updated_at: int
    acknowledged: bool = False

    def facts(self, state: str) -> OperationFacts:
        """What plugins are told."""
        return OperationFacts(self.id, self.receipt_id, self.kind.value, self.count, state, self.code)


_OWN = frozenset(column.name for column in operation_table.c)


def operation_of(tx: Transaction, row: Row[Any], columns: frozenset[str] | None = None) -> Operation:
    """The value of a row with all columns of the table; `columns` where it has others too."""
    values = dict(row._mapping)  # by name: a row is a tuple, whose own `count` is a method
    if columns is not None:
        values = {name: value for name, value in values.items() if name in columns}
    del values["expires_at"]
    if values["redeem_code"]:
        values["redeem_code"] = tx.vault.decrypt(values["redeem_code"])
    values["kind"] = Kind(values["kind"])
    values["state"] = State(values["state"])
    values["reason"] = Message.restored(values["reason"]) if values["reason"] else None
    values["waived"] = bool(values["waived"])
    values["conflicted"] = bool(values["conflicted"])
    values["acknowledged"] = bool(values["acknowledged"])
    return Operation(**values)


_CLAIM = (
    operation_table.update()
    .where(operation_table.c.id.in_(bindparam("ids", expanding=True)), operation_table.c.state == State.pending)
    .values(
        state=State.sending,
        sent_at=bindparam("now"),
        updated_at=bindparam("now"),
        tries=operation_table.c.tries + 1,
    )
    .returning(operation_table)
)


def claim(tx: Transaction, ids: Sequence[str]) -> list[Operation]:
    """Put pending operations on the wire, in their order; those that another sender has, or whose lane, are left."""
    if not ids:
        return []
    values = {"ids": list(ids), "now": tx.now}
    try:
        with tx.session.begin_nested():
            rows = tx.run(_CLAIM, values).all()
    except IntegrityError:  # somebody else sends for one of these cards: take the others one by one
        if len(ids) == 1:
            return []
        return [one for some in ids for one in claim(tx, [some])]
    return sorted((operation_of(tx, row) for row in rows), key=lambda one: one.seq)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one try: the new state, and why."""

    operation: Operation
    state: State
    reason: Message | None = None
    hold: Hold | None = None
    next_at: int | None = None
    new_attempt: bool = False
    conflicted: bool = False


_SETTLE = (
    operation_table.update()
    .where(
        operation_table.c.id == bindparam("id_"),
        operation_table.c.tries == bindparam("tries_"),
        # not IN: an expanding list cannot be executed for many rows at once
        or_(operation_table.c.state == State.sending, operation_table.c.state == State.uncertain),
    )
    .values(
        state=bindparam("state_"),
        hold=bindparam("hold_"),
        reason=bindparam("reason_"),
        next_at=bindparam("next_at_"),
        attempt=operation_table.c.attempt + bindparam("again"),
        conflicted=bindparam("conflicted_"),
        updated_at=bindparam("now"),
    )
)


_NEW_KEY = (
    operation_table.update()
    .where(operation_table.c.id == bindparam("id_"), operation_table.c.attempt > 1)
    .values(key=operation_table.c.code + "." + cast(operation_table.c.attempt, Text))
)


_STANDING = (
    select(operation_table.c.id, operation_table.c.tries, operation_table.c.connection_id, operation_table.c.card_hint)
    .where(
        operation_table.c.id.in_(bindparam("ids", expanding=True)),
        or_(operation_table.c.state == State.sending, operation_table.c.state == State.uncertain),
    )
    .with_for_update()
)


def settle(tx: Transaction, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Write down what became of tries that are on the wire or in doubt, with a journal line where it has ended.

    Those verdicts that counted: a try that was settled meanwhile is settled.
    """
    if not verdicts:
        return []
    rows = tx.run(_STANDING, {"ids": [verdict.operation.id for verdict in verdicts]})
    standing = {(row.id, row.tries): row for row in rows}
    # another connection may have taken the receipt over meanwhile, or its customer may have been forgotten
    verdicts = [
        replace(v, operation=replace(v.operation, connection_id=now.connection_id, card_hint=now.card_hint))
        for v in verdicts
        if (now := standing.get((v.operation.id, v.operation.tries))) is not None
    ]
    if not verdicts:
        return []
    tx.run(
        _SETTLE,
        [
            {
                "id_": verdict.operation.id,
                "tries_": verdict.operation.tries,
                "state_": verdict.state.value,
                "hold_": verdict.hold.value if verdict.hold else None,
                "reason_": verdict.reason.stored() if verdict.reason else None,
                "next_at_": verdict.next_at or tx.now,
                "again": int(verdict.new_attempt),
                "conflicted_": int(verdict.conflicted),
                "now": tx.now,
            }
            for verdict in verdicts
        ],
    )
    _record_attempts(tx, verdicts)
    _add_to_daily_totals(tx, verdicts)
    again = [verdict.operation.id for verdict in verdicts if verdict.new_attempt]
    if again:
        tx.run(_NEW_KEY, [{"id_": one} for one in again])
    lines = [line for verdict in verdicts if (line := _journal_line(tx, verdict)) is not None]
    if lines:
        tx.run(journal_table.insert(), lines)
        tx.wakeups.add(Wakeup.journal)
    for verdict in verdicts:
        if verdict.state in (State.applied, State.held, State.rejected):
            one = verdict.operation
            tx.events.append(OperationSettled(one.connection_id, one.facts(verdict.state.value)))
    return list(verdicts)


def _record_attempts(tx: Transaction, verdicts: Sequence[Verdict]) -> None:
    """Every try and its answer, but for the first that succeeds: that one the operation itself tells."""
    tries = [
        {
            "operation_id": verdict.operation.id,
            "number": verdict.operation.tries,
            "sent_at": verdict.operation.sent_at,
            "at": tx.now,
            "state": verdict.state.value,
            "reason": verdict.reason.stored() if verdict.reason else None,
        }
        for verdict in verdicts
        if verdict.operation.tries > 1
        or verdict.state is not State.applied
        or verdict.operation.state is State.uncertain
    ]
    if tries:
        # a try in doubt is told of twice: what became of it in the end replaces the doubt
        said = tx.insert(attempt_table)
        told = {name: said.excluded[name] for name in ("at", "state", "reason")}
        tx.run(
            said.on_conflict_do_update(
                index_elements=[attempt_table.c.operation_id, attempt_table.c.number], set_=told
            ),
            tries,
        )


def _add_to_daily_totals(tx: Transaction, verdicts: Sequence[Verdict]) -> None:
    change: dict[tuple[str, str], ledger.daily_totals.DayTotals] = {}
    for verdict in verdicts:
        one = verdict.operation
        if verdict.state is State.applied:
            where = (one.connection_id, one.day)
            change[where] = change.get(where, ledger.daily_totals.DayTotals()) + ledger.daily_totals.of_operation(
                one.kind, one.count
            )
    ledger.daily_totals.add(tx, change)


def _journal_line(tx: Transaction, verdict: Verdict) -> dict[str, Any] | None:
    one = verdict.operation
    if verdict.state in (State.pending, State.sending):
        return None
    if verdict.state is State.uncertain and one.tries > 1:
        return None
    params = {"receipt": one.receipt_id, "count": one.count, "card": one.card_hint or "", "code": one.redeem_code or ""}
    if verdict.reason is not None:
        params["why"] = verdict.reason
    return {
        "connection_id": one.connection_id,
        "sale_id": one.sale_id,
        "receipt_id": one.receipt_id,
        "at": tx.now,
        "message": stored_message(tx, Message(f"operation.{verdict.state.value}.{one.kind.value}", params)),
        "by": tx.by,
    }


def doubt_unfinished(tx: Transaction) -> int:
    """Every operation found on the wire when a host starts is in doubt; how many there were."""
    reason = Message("why.in_doubt")
    found = [
        operation_of(tx, row) for row in tx.run(select(operation_table).where(operation_table.c.state == State.sending))
    ]
    _record_attempts(tx, [Verdict(one, State.uncertain, reason) for one in found])
    changed = tx.run(
        operation_table.update()
        .where(operation_table.c.state == State.sending)
        .values(state=State.uncertain, next_at=tx.now, updated_at=tx.now)
    )
    return changed.rowcount


def claim_uncertain(tx: Transaction, limit: int, only: str | None = None) -> list[Operation]:
    """Operations in doubt that are due for a look into the card's history, leased for a minute."""
    wanted = (
        select(operation_table)
        .join(connection_table, connection_table.c.id == operation_table.c.connection_id)
        .where(
            operation_table.c.state == State.uncertain,
            operation_table.c.next_at <= tx.now,
            connection_table.c.health.in_(WORKING),
            connection_table.c.send_after <= tx.now,
        )
        .order_by(operation_table.c.next_at)
        .limit(limit)
    )
    if only:
        wanted = wanted.where(operation_table.c.connection_id == only)
    rows = [operation_of(tx, row) for row in tx.run(wanted)]
    if rows:
        tx.run(
            operation_table.update()
            .where(operation_table.c.id == bindparam("id_"))
            .values(next_at=tx.now + 60_000_000),
            [{"id_": row.id} for row in rows],
        )
    return rows


def look_later(tx: Transaction, one: Operation, at: int) -> None:
    """The history said nothing yet: look again then."""
    tx.run(
        operation_table.update()
        .where(
            operation_table.c.id == one.id,
            operation_table.c.state == State.uncertain,
            operation_table.c.tries == one.tries,
        )
        .values(next_at=at)
    )


def release_plan_limit(tx: Transaction, business_id: str) -> int:
    """The plan allows operations again: what was held for it goes out under a new key, oldest first."""
    held = and_(
        operation_table.c.business_id == business_id,
        operation_table.c.state == State.held,
        operation_table.c.hold == Hold.plan_limit,
    )
    ids = list(tx.run(select(operation_table.c.id).where(held)).scalars())
    _release(tx, ids)
    return len(ids)


def _release(tx: Transaction, ids: Sequence[str], *, waived: bool = False) -> None:
    values: dict[str, Any] = {
        "state": State.pending,
        "hold": None,
        "reason": None,
        "expires_at": None,
        "next_at": tx.now,
        "updated_at": tx.now,
        "attempt": operation_table.c.attempt + 1,
        "acknowledged": 0,
    }
    if waived:
        values["waived"] = 1
    for start in range(0, len(ids), 400):
        some = list(ids[start : start + 400])
        tx.run(operation_table.update().where(operation_table.c.id.in_(some)).values(values))
    if ids:
        tx.run(_NEW_KEY, [{"id_": one} for one in ids])
    tx.wakeups.add(Wakeup.deliver)


def hold_back(tx: Transaction, one: Operation, reason: Hold, why: Message, expires_at: int | None) -> None:
    """Hold a pending operation back, with a reason that a person can act on."""
    changed = tx.run(
        operation_table.update()
        .where(operation_table.c.id == one.id, operation_table.c.state == State.pending)
        .values(state=State.held, hold=reason, reason=why.stored(), expires_at=expires_at, updated_at=tx.now)
    )
    if changed.rowcount:
        line = _journal_line(tx, Verdict(one, State.held, why))
        tx.run(journal_table.insert(), [line])
        tx.wakeups.add(Wakeup.journal)


def expire_holds(tx: Transaction, limit: int = 200) -> int:
    """Reject holds that have run out; `retry` revives them."""
    rows = [
        operation_of(tx, row)
        for row in tx.run(
            select(operation_table)
            .where(operation_table.c.state == State.held, operation_table.c.expires_at <= tx.now)
            .limit(limit)
        )
    ]
    reason = Message("why.hold_expired")
    for one in rows:
        tx.run(
            operation_table.update()
            .where(operation_table.c.id == one.id, operation_table.c.state == State.held)
            .values(
                state=State.rejected,
                hold=one.hold,
                reason=reason.stored(),
                acknowledged=int(one.hold == Hold.no_card),  # nobody has to look at who never got a card
                updated_at=tx.now,
            )
        )
        line = _journal_line(tx, Verdict(one, State.rejected, reason))
        tx.run(journal_table.insert(), [line])
        _stop_looking(tx, one)
    if rows:
        tx.wakeups.add(Wakeup.journal)
    return len(rows)


def _stop_looking(tx: Transaction, one: Operation) -> None:
    """Nobody waits for this customer's card any more, unless something else of theirs does."""
    if one.hold not in (Hold.no_card, Hold.conflict) or one.card_id is not None:
        return
    waits = select(operation_table.c.id).where(
        operation_table.c.sale_id == one.sale_id,
        operation_table.c.lane == one.lane,
        operation_table.c.state == State.held,
    )
    if tx.run(waits.limit(1)).first() is None:
        customer = one.lane.rpartition(":")[2]
        tx.run(
            identify_table.delete().where(
                identify_table.c.sale_id == one.sale_id, identify_table.c.customer_hash == customer
            )
        )


def unclaim(tx: Transaction, ids: Sequence[str]) -> None:
    """Take back a claim in the transaction that made it."""
    tx.run(
        operation_table.update()
        .where(operation_table.c.id.in_(list(ids)), operation_table.c.state == State.sending)
        .values(state=State.pending, tries=operation_table.c.tries - 1)
    )


def list_newest(tx: Transaction, connection_id: str, *, state: str | None = None, limit: int = 1000) -> list[Operation]:
    """A connection's newest operations, newest last; `state` as the outside names it."""
    wanted = select(operation_table).where(operation_table.c.connection_id == connection_id)
    if state is not None:
        inner = [one for one in State if outward(one) == state]
        wanted = wanted.where(operation_table.c.state.in_(inner))
    rows = tx.run(wanted.order_by(operation_table.c.seq.desc()).limit(limit)).all()
    return [operation_of(tx, row) for row in reversed(rows)]


def counts_by_state(tx: Transaction, connection_id: str, since: int) -> dict[str, int]:
    """Outward state → how many operations changed since then, or are still open."""
    rows = tx.run(
        select(operation_table.c.state, func.count())
        .where(
            operation_table.c.connection_id == connection_id,
            or_(operation_table.c.updated_at >= since, operation_table.c.state.in_(sorted(UNSETTLED))),
        )
        .group_by(operation_table.c.state)
    )
    found = dict.fromkeys(("applied", "pending", "held", "rejected", "cancelled"), 0)
    for row in rows:
        state, number = tuple(row)
        found[outward(state)] += number
    return found


def get(tx: Transaction, connection_id: str, operation_id: str) -> Operation:
    """Raises `NotFound`."""
    row = tx.run(
        select(operation_table).where(
            operation_table.c.connection_id == connection_id, operation_table.c.id == operation_id
        )
    ).first()
    if row is None:
        raise NotFound(f"connection {connection_id} has no operation {operation_id!r}: see `connectors operations`")
    return operation_of(tx, row)


def retry(tx: Transaction, one: Operation) -> bool:
    """Send a held or rejected operation again under a new key; a cap is waived for it. Whether it could."""
    if one.state not in (State.held, State.rejected):
        return False
    _release(tx, [one.id], waived=True)
    _journal(tx, one, "operation.retried")
    return True


def wait_for_card_again(tx: Transaction, one: Operation, expires_at: int) -> None:
    """Revive an operation that has no card yet: it waits for one again."""
    tx.run(
        operation_table.update()
        .where(operation_table.c.id == one.id, operation_table.c.state.in_([State.held, State.rejected]))
        .values(
            state=State.held,
            hold=Hold.no_card,
            reason=Message("why.no_card").stored(),
            expires_at=expires_at,
            acknowledged=0,
            updated_at=tx.now,
        )
    )
    _journal(tx, one, "operation.retried")


def dismiss(tx: Transaction, one: Operation) -> bool:
    """A person decided that a held operation is not to be sent. Whether it was still held."""
    reason = Message("why.dismissed")
    changed = tx.run(
        operation_table.update()
        .where(operation_table.c.id == one.id, operation_table.c.state == State.held)
        .values(state=State.rejected, reason=reason.stored(), acknowledged=1, updated_at=tx.now)
    )
    if changed.rowcount:
        line = _journal_line(tx, Verdict(one, State.rejected, reason))
        tx.run(journal_table.insert(), [line])
        tx.wakeups.add(Wakeup.journal)
        _stop_looking(tx, one)
    return changed.rowcount > 0


def acknowledge(tx: Transaction, one: Operation) -> bool:
    """A person has seen that an operation was rejected, and leaves it at that. Whether it was."""
    changed = tx.run(
        operation_table.update()
        .where(
            operation_table.c.id == one.id,
            operation_table.c.state == State.rejected,
            operation_table.c.acknowledged == 0,
        )
        .values(acknowledged=1, updated_at=tx.now)
    )
    if changed.rowcount:
        _journal(tx, one, "operation.acknowledged")
    return changed.rowcount > 0


def _journal(tx: Transaction, one: Operation, message: str) -> None:
    line = {
        "connection_id": one.connection_id,
        "sale_id": one.sale_id,
        "receipt_id": one.receipt_id,
        "at": tx.now,
        "message": stored_message(tx, Message(message, {"receipt": one.receipt_id})),
        "by": tx.by,
    }
    tx.run(journal_table.insert(), [line])
    tx.wakeups.add(Wakeup.journal)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of an operation and what came of it; times in UTC microseconds."""

    number: int
    sent_at: int | None
    at: int
    state: State
    reason: Message | None


def with_attempts(tx: Transaction, sale_id: str) -> list[tuple[Operation, list[Attempt]]]:
    """A receipt's operations in their order, each with its tries; in one query."""
    rows = tx.run(
        select(
            operation_table,
            attempt_table.c.number.label("try_number"),
            attempt_table.c.sent_at.label("try_sent_at"),
            attempt_table.c.at.label("try_at"),
            attempt_table.c.state.label("try_state"),
            attempt_table.c.reason.label("try_reason"),
        )
        .outerjoin(attempt_table, attempt_table.c.operation_id == operation_table.c.id)
        .where(operation_table.c.sale_id == sale_id)
        .order_by(operation_table.c.n, attempt_table.c.number)
    )
    found: dict[str, tuple[Operation, list[Attempt]]] = {}
    for row in rows:
        one, tries = found.setdefault(row.id, (operation_of(tx, row, _OWN), []))
        if row.try_number is not None:
            reason = Message.restored(row.try_reason) if row.try_reason else None
            tries.append(Attempt(row.try_number, row.try_sent_at, row.try_at, State(row.try_state), reason))
        elif one.state is State.applied:
            tries.append(Attempt(1, one.sent_at, one.updated_at, State.applied, None))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class UnsentOperations:
    """Operations of a person: additions that are `waiting` to be sent, and those that are on the wire or in doubt."""

    waiting: tuple[str, ...]
    being_sent: int


def _of_person(
    tx: Transaction, sale_ids: Sequence[str], hashes: Collection[str] | None, card_ids: Collection[str]
) -> list[Operation]:
    rows = tx.run(
        select(operation_table).where(operation_table.c.sale_id.in_(sale_ids)).order_by(operation_table.c.seq)
    )
    found = [operation_of(tx, row) for row in rows]
    if hashes is None:
        return found
    lanes = {f"nobody:{sale_id}:{customer}" for sale_id in sale_ids for customer in hashes}
    return [one for one in found if one.card_id in card_ids or one.lane in lanes]


def sale_ids_of_cards(tx: Transaction, business_id: str, card_ids: Collection[str]) -> list[str]:
    """The ids of the sales of a business that ever did something to one of these cards."""
    mine = (operation_table.c.business_id == business_id) & operation_table.c.card_id.in_(sorted(card_ids))
    return list(tx.run(select(operation_table.c.sale_id).where(mine).distinct()).scalars())


def unsent_of_person(
    tx: Transaction, sale_ids: Sequence[str], hashes: Collection[str], card_ids: Collection[str]
) -> UnsentOperations:
    """What of a person's is not settled. What takes stamps back and what uses a voucher is finished all the same."""
    mine = _of_person(tx, sale_ids, hashes, card_ids)
    waiting = tuple(o.id for o in mine if o.kind is Kind.stamps_added and o.state in (State.pending, State.held))
    return UnsentOperations(waiting, sum(o.state in (State.sending, State.uncertain) for o in mine))


def erase_customers(
    tx: Transaction,
    sale_ids: Sequence[str],
    hashes: Collection[str] | None,
    card_ids: Collection[str],
    opaque: Mapping[str, str],
) -> None:
    """Mask the cards of a person's operations (or of all of these sales, `None`), and end what was not sent yet.

    What is ended is rejected, not cancelled: so it counts as planned, and nothing is planned in its place. `opaque` is
    what stands for the customer of each sale.
    """
    mine = _of_person(tx, sale_ids, hashes, card_ids)
    for one in mine:
        values: dict[str, Any] = {}
        if one.card_hint:
            values["card_hint"] = MASKED_CARD
        if one.lane.startswith("nobody:"):
            values["lane"] = f"nobody:{one.sale_id}:{opaque[one.sale_id]}"
        if values:
            tx.run(operation_table.update().where(operation_table.c.id == one.id).values(values))
    if hashes is None:
        return
    reason = Message("why.forgotten")
    for one in mine:
        if one.kind is not Kind.stamps_added or one.state not in (State.pending, State.held):
            continue
        ended = tx.run(
            operation_table.update()
            .where(operation_table.c.id == one.id, operation_table.c.state.in_([State.pending, State.held]))
            .values(state=State.rejected, reason=reason.stored(), acknowledged=1, updated_at=tx.now)
        )
        if ended.rowcount:
            line = _journal_line(tx, Verdict(replace(one, card_hint=MASKED_CARD), State.rejected, reason))
            tx.run(journal_table.insert(), [line])
            tx.wakeups.add(Wakeup.journal)
