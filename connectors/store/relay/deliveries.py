"""Deliveries: each event on its way to each subscriber, with every try and what was answered.

Owns the tables `relay_event`, `relay_delivery` and `relay_attempt`. Of each lane of a subscription (a card) only the
oldest delivery that waits can be claimed, so that events of a card arrive in their order; other lanes do not wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, bindparam, exists, func, select

from connectors.domain.clock import MINUTE
from connectors.domain.events import Wakeup
from connectors.domain.relay import DeliveryState, SubscriptionState
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound
from connectors.store.events import EventText
from connectors.store.query_parts import AnyRow, in_parts
from connectors.store.relay import subscriptions
from connectors.store.schema import (
    relay_attempt_table,
    relay_delivery_table,
    relay_event_table,
    relay_subscription_table,
)

CARD_LANE = "card:"
"""What the lanes of cards begin with."""
_LEASE = MINUTE
"""A claimed delivery is due again after this, by itself, if whoever claimed it died."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to record: `lane` is what it must be in order with, `content` its body as JSON text."""

    id: str
    business_id: str
    name: str
    lane: str
    at: int
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery with its event; times in UTC microseconds."""

    seq: int
    subscription_id: str
    event_seq: int
    event_id: str
    event: str
    lane: str
    at: int
    state: DeliveryState
    made_at: int
    next_at: int
    attempts: int
    first_at: int | None
    settled_at: int | None
    content: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: `status` of the answer or the name of what went wrong, and the answer's first kilobyte."""

    number: int
    at: int
    milliseconds: int
    status: int | None
    error: str | None
    answer: str | None = field(repr=False)


# Recording


def record(tx: Transaction, events: Sequence[NewEvent], subscribers: Mapping[str, Sequence[str]]) -> None:
    """Store events with a delivery for each of their subscribers (event id → subscription ids)."""
    if not events:
        return
    rows = [
        {
            "id": event.id,
            "business_id": event.business_id,
            "name": event.name,
            "lane": event.lane,
            "at": event.at,
            "recorded_at": tx.now,
            "content": tx.vault.encrypt(event.content),
        }
        for event in events
    ]
    tx.run(relay_event_table.insert(), rows)
    ids = [event.id for event in events]
    stored = select(relay_event_table.c.id, relay_event_table.c.seq, relay_event_table.c.lane)
    placed = [row for part in in_parts(ids) for row in tx.run(stored.where(relay_event_table.c.id.in_(part)))]
    _deliver_to(
        tx,
        [
            (subscription_id, row.seq, row.lane)
            for row in sorted(placed, key=lambda row: row.seq)
            for subscription_id in subscribers.get(row.id, ())
        ],
    )


def _deliver_to(tx: Transaction, deliveries: Sequence[tuple[str, int, str]]) -> None:
    """Store deliveries, as (subscription id, event's sequence number, lane)."""
    rows = [
        {
            "subscription_id": subscription_id,
            "event_seq": event_seq,
            "lane": lane,
            "state": DeliveryState.pending,
            "made_at": tx.now,
            "next_at": tx.now,
        }
        for subscription_id, event_seq, lane in deliveries
    ]
    if rows:
        # Counted first, which locks the subscriptions until the commit: on a server a delivery that got its number
        # before another and is committed after it would be overtaken.
        subscriptions.count_pending(tx, Counter(subscription_id for subscription_id, _, _ in deliveries))
        tx.run(relay_delivery_table.insert(), rows)
        tx.wakeups.add(Wakeup.relay)


def record_for(tx: Transaction, event: NewEvent, subscription_id: str) -> int:
    """Store an event for one subscriber alone, and return its delivery's sequence number."""
    record(tx, [event], {event.id: [subscription_id]})
    newest = select(func.max(relay_delivery_table.c.seq))
    return int(tx.run(newest.where(relay_delivery_table.c.subscription_id == subscription_id)).scalar_one())


def wake(tx: Transaction, subscription_id: str) -> None:
    """Have what waits for a subscriber sent at once."""
    mine = _is_pending & (relay_delivery_table.c.subscription_id == subscription_id)
    tx.run(relay_delivery_table.update().where(mine).values(next_at=tx.now))
    tx.wakeups.add(Wakeup.relay)


# Claiming

_EVENT_COLUMNS = (
    relay_event_table.c.id.label("event_id"),
    relay_event_table.c.name.label("event_name"),
    relay_event_table.c.at,
    relay_event_table.c.content,
)
_WITH_EVENT = select(relay_delivery_table, *_EVENT_COLUMNS).join(
    relay_event_table, relay_event_table.c.seq == relay_delivery_table.c.event_seq
)
_is_pending = relay_delivery_table.c.state == DeliveryState.pending
_earlier = relay_delivery_table.alias("earlier")
_IS_FIRST = ~exists().where(
    _earlier.c.subscription_id == relay_delivery_table.c.subscription_id,
    _earlier.c.lane == relay_delivery_table.c.lane,
    _earlier.c.state == DeliveryState.pending,
    _earlier.c.seq < relay_delivery_table.c.seq,
)
_MAY_GO = (relay_subscription_table.c.state == SubscriptionState.active) & (
    relay_subscription_table.c.next_at <= bindparam("now")
)
_IS_FREE = (relay_delivery_table.c.leased_until <= bindparam("now")) | (
    # of whoever went by a clock that was put back since, and cannot end it any more: no lease is as long
    relay_delivery_table.c.leased_until - 2 * _LEASE > bindparam("now")
)
_IS_DUE = _is_pending & (relay_delivery_table.c.next_at <= bindparam("now")) & _IS_FREE
_LOCKED_SUBSCRIPTION = (
    select(relay_subscription_table.c.id).where(relay_subscription_table.c.id == bindparam("id_")).with_for_update()
)
_DUE_SUBSCRIPTIONS = (
    select(relay_subscription_table.c.id, relay_subscription_table.c.failures)
    .where(
        _MAY_GO,
        relay_subscription_table.c.pending > 0,
        exists().where(relay_delivery_table.c.subscription_id == relay_subscription_table.c.id, _IS_DUE, _IS_FIRST),
    )
    .order_by(relay_subscription_table.c.next_at, relay_subscription_table.c.id)
)


@dataclass(frozen=True, slots=True)
class DueSubscription:
    """A subscription to which something is to go now; `failures` in a row so far."""

    id: str
    failures: int


def due_subscriptions(tx: Transaction) -> list[DueSubscription]:
    """List the subscriptions to which something is to go now."""
    return [DueSubscription(row.id, row.failures) for row in tx.run(_DUE_SUBSCRIPTIONS, {"now": tx.now})]


def due_subscription(tx: Transaction, subscription_id: str) -> DueSubscription | None:
    """Return a subscription where something is to go to it now."""
    mine = _DUE_SUBSCRIPTIONS.where(relay_subscription_table.c.id == subscription_id)
    row = tx.run(mine, {"now": tx.now}).first()
    return DueSubscription(row.id, row.failures) if row is not None else None


def due_subscription_ids(tx: Transaction, limit: int) -> list[str]:
    """List the ids of subscriptions to which something is to go now."""
    return [row.id for row in tx.run(_DUE_SUBSCRIPTIONS.limit(limit), {"now": tx.now})]


def claim(tx: Transaction, subscription_id: str, limit: int) -> list[Delivery]:
    """Claim deliveries of a subscription that are due, oldest first and of each lane the first, for a minute.

    There are none where the subscription is stopped or its endpoint has a pause.
    """
    # its row: of two that claim at once, the second would take the next of a lane before the first one's has gone
    tx.run(_LOCKED_SUBSCRIPTION, {"id_": subscription_id})
    query = (
        _WITH_EVENT.where(
            relay_delivery_table.c.subscription_id == subscription_id,
            exists().where(relay_subscription_table.c.id == subscription_id, _MAY_GO),
            _IS_DUE,
            _IS_FIRST,
        )
        .order_by(relay_delivery_table.c.seq)
        .limit(limit)
    )
    rows = tx.run(query, {"now": tx.now}).all()
    if rows:
        claimed = relay_delivery_table.update().where(relay_delivery_table.c.seq.in_([row.seq for row in rows]))
        tx.run(claimed.values(leased_until=tx.now + _LEASE))
    return [_delivery(tx, row) for row in rows]


def _delivery(tx: Transaction, row: AnyRow, *, with_content: bool = True) -> Delivery:
    return Delivery(
        seq=row.seq,
        subscription_id=row.subscription_id,
        event_seq=row.event_seq,
        event_id=row.event_id,
        event=row.event_name,
        lane=row.lane,
        at=row.at,
        state=DeliveryState(row.state),
        made_at=row.made_at,
        next_at=row.next_at,
        attempts=row.attempts,
        first_at=row.first_at,
        settled_at=row.settled_at,
        content=tx.vault.decrypt(row.content) if with_content else "",
    )


def release_all(tx: Transaction) -> None:
    """Give back what the last host had claimed, when a host starts and no other delivers."""
    leased = _is_pending & (relay_delivery_table.c.leased_until > 0)
    tx.run(relay_delivery_table.update().where(leased).values(leased_until=0))


# Settling


@dataclass(frozen=True, slots=True)
class Tried:
    """What a try came to: the state that follows, and when to try again where that is `pending`."""

    delivery: Delivery
    state: DeliveryState
    attempt: Attempt | None
    next_at: int | None = None


_SETTLE = (
    relay_delivery_table.update()
    .where(relay_delivery_table.c.seq == bindparam("seq_"), _is_pending)
    .values(
        state=bindparam("state_"),
        next_at=bindparam("next_at_"),
        leased_until=0,
        attempts=relay_delivery_table.c.attempts + bindparam("tries_"),
        first_at=func.coalesce(relay_delivery_table.c.first_at, bindparam("at_")),
        settled_at=bindparam("settled_at_"),
    )
)


def settle(tx: Transaction, tries: Sequence[Tried]) -> None:
    """Write down what tries came to."""
    rows = [
        {
            "seq_": tried.delivery.seq,
            "state_": tried.state,
            "next_at_": tried.next_at if tried.next_at is not None else tx.now,
            "tries_": int(tried.attempt is not None),
            "at_": tried.attempt.at if tried.attempt is not None else tx.now,
            "settled_at_": tx.now if tried.state is not DeliveryState.pending else None,
        }
        for tried in tries
    ]
    if not rows:
        return
    ended: Counter[str] = Counter()
    for tried, row in zip(tries, rows, strict=True):
        # one by one: what was removed or replayed meanwhile is left as it is, and is not counted
        if tx.run(_SETTLE, row).rowcount and tried.state is not DeliveryState.pending:
            ended[tried.delivery.subscription_id] -= 1
    subscriptions.count_pending(tx, ended)
    attempts = [_attempt_row(tx, tried) for tried in tries if tried.attempt is not None]
    if attempts:
        tx.run(tx.insert(relay_attempt_table).on_conflict_do_nothing(), attempts)


def _attempt_row(tx: Transaction, tried: Tried) -> dict[str, object]:
    attempt = tried.attempt
    if attempt is None:
        raise ValueError("a try that was none has no row")
    return {
        "delivery_seq": tried.delivery.seq,
        "number": attempt.number,
        "at": attempt.at,
        "milliseconds": attempt.milliseconds,
        "status": attempt.status,
        "error": attempt.error,
        "answer": tx.vault.encrypt(attempt.answer) if attempt.answer else None,
    }


# Reading


def of_subscription(
    tx: Transaction,
    subscription_id: str,
    *,
    limit: int,
    before: int | None = None,
    state: DeliveryState | None = None,
) -> list[Delivery]:
    """List a subscription's deliveries, newest first, those before a sequence number; without their contents."""
    query = _WITH_EVENT.where(relay_delivery_table.c.subscription_id == subscription_id)
    if before is not None:
        query = query.where(relay_delivery_table.c.seq < before)
    if state is not None:
        query = query.where(relay_delivery_table.c.state == state)
    rows = tx.run(query.order_by(relay_delivery_table.c.seq.desc()).limit(limit))
    return [_delivery(tx, row, with_content=False) for row in rows]


def get(tx: Transaction, subscription_id: str, seq: int) -> Delivery:
    """Read a delivery of a subscription, with its event's content. Raises `NotFound`."""
    query = _WITH_EVENT.where(
        relay_delivery_table.c.subscription_id == subscription_id, relay_delivery_table.c.seq == seq
    )
    row = tx.run(query).first()
    if row is None:
        raise NotFound(f"subscription {subscription_id} has no delivery {seq}")
    return _delivery(tx, row)


def attempts_of(tx: Transaction, seqs: Sequence[int]) -> dict[int, list[Attempt]]:
    """Map the sequence number of deliveries to their tries, oldest first."""
    tries: dict[int, list[Attempt]] = {}
    for part in in_parts(seqs):
        query = select(relay_attempt_table).where(relay_attempt_table.c.delivery_seq.in_(part))
        for row in tx.run(query.order_by(relay_attempt_table.c.delivery_seq, relay_attempt_table.c.number)):
            answer = tx.vault.decrypt(row.answer) if row.answer else None
            attempt = Attempt(row.number, row.at, row.milliseconds, row.status, row.error, answer)
            tries.setdefault(row.delivery_seq, []).append(attempt)
    return tries


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A recorded event of a business."""

    seq: int
    id: str
    name: str
    at: int
    recorded_at: int
    content: str = field(repr=False)


def newest_events(
    tx: Transaction,
    business_id: str,
    *,
    limit: int,
    before: int | None = None,
    names: Collection[str] = (),
) -> list[StoredEvent]:
    """Read the newest recorded events of a business, newest first."""
    query = select(relay_event_table).where(relay_event_table.c.business_id == business_id)
    if before is not None:
        query = query.where(relay_event_table.c.seq < before)
    if names:
        query = query.where(relay_event_table.c.name.in_(sorted(names)))
    rows = tx.run(query.order_by(relay_event_table.c.seq.desc()).limit(limit))
    return [
        StoredEvent(row.seq, row.id, row.name, row.at, row.recorded_at, tx.vault.decrypt(row.content)) for row in rows
    ]


# Replaying


def replay(tx: Transaction, subscription_id: str, condition: ColumnElement[bool], limit: int) -> int:
    """Deliver again what a condition says of a subscription's ended deliveries, oldest first; return how many."""
    ended = relay_delivery_table.c.state.in_([DeliveryState.delivered, DeliveryState.failed, DeliveryState.filtered])
    query = (
        select(relay_delivery_table.c.event_seq, relay_delivery_table.c.lane)
        .where(relay_delivery_table.c.subscription_id == subscription_id, ended, condition)
        .distinct()
        .order_by(relay_delivery_table.c.event_seq)
        .limit(limit)
    )
    rows = tx.run(query).all()
    _deliver_to(tx, [(subscription_id, row.event_seq, row.lane) for row in rows])
    return len(rows)


def is_delivery(seq: int) -> ColumnElement[bool]:
    """Return the condition of one delivery."""
    return relay_delivery_table.c.seq == seq


def is_failed() -> ColumnElement[bool]:
    """Return the condition of deliveries that were given up and not delivered since."""
    later = relay_delivery_table.alias("later")
    again = exists().where(
        later.c.subscription_id == relay_delivery_table.c.subscription_id,
        later.c.event_seq == relay_delivery_table.c.event_seq,
        later.c.seq > relay_delivery_table.c.seq,
    )
    return (relay_delivery_table.c.state == DeliveryState.failed) & ~again


def is_within(start: int, end: int) -> ColumnElement[bool]:
    """Return the condition of deliveries that were made within a time (UTC microseconds, the end excluded)."""
    return (relay_delivery_table.c.made_at >= start) & (relay_delivery_table.c.made_at < end)


def replay_recorded(
    tx: Transaction, business_id: str, subscription_id: str, names: Sequence[str], start: int, end: int, limit: int
) -> int:
    """Deliver a business's events of these names, recorded within a time, oldest first; return how many.

    Those that wait for the subscriber already are left out.
    """
    waits = exists().where(
        relay_delivery_table.c.event_seq == relay_event_table.c.seq,
        relay_delivery_table.c.subscription_id == subscription_id,
        _is_pending,
    )
    query = (
        select(relay_event_table.c.seq, relay_event_table.c.lane)
        .where(
            relay_event_table.c.business_id == business_id,
            relay_event_table.c.recorded_at >= start,
            relay_event_table.c.recorded_at < end,
            relay_event_table.c.name.in_(sorted(names)),
            ~waits,
        )
        .order_by(relay_event_table.c.seq)
        .limit(limit)
    )
    rows = tx.run(query).all()
    _deliver_to(tx, [(subscription_id, row.seq, row.lane) for row in rows])
    return len(rows)


# Deleting


def delete_of_subscription(tx: Transaction, subscription_id: str) -> None:
    """Delete a subscription's deliveries with their tries."""
    mine = select(relay_delivery_table.c.seq).where(relay_delivery_table.c.subscription_id == subscription_id)
    tx.run(relay_attempt_table.delete().where(relay_attempt_table.c.delivery_seq.in_(mine)))
    tx.run(relay_delivery_table.delete().where(relay_delivery_table.c.subscription_id == subscription_id))


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete what ended before a moment, and events that nothing waits for, at most `limit` each; return how many."""
    ended = relay_delivery_table.c.state != DeliveryState.pending
    seqs = list(
        tx.run(
            select(relay_delivery_table.c.seq).where(relay_delivery_table.c.made_at < before, ended).limit(limit)
        ).scalars()
    )
    for part in in_parts(seqs):
        tx.run(relay_attempt_table.delete().where(relay_attempt_table.c.delivery_seq.in_(part)))
        tx.run(relay_delivery_table.delete().where(relay_delivery_table.c.seq.in_(part)))
    waits = exists().where(relay_delivery_table.c.event_seq == relay_event_table.c.seq)
    old = select(relay_event_table.c.seq).where(relay_event_table.c.recorded_at < before, ~waits).limit(limit)
    events = list(tx.run(old).scalars())
    return len(seqs) + delete_events(tx, events)


def delete_events(tx: Transaction, seqs: Sequence[int]) -> int:
    """Delete events, with every delivery of them; return how many events."""
    for part in in_parts(seqs):
        of_events = select(relay_delivery_table.c.seq).where(relay_delivery_table.c.event_seq.in_(part))
        tx.run(relay_attempt_table.delete().where(relay_attempt_table.c.delivery_seq.in_(of_events)))
        is_waiting = relay_delivery_table.c.event_seq.in_(part) & _is_pending
        waiting = select(relay_delivery_table.c.subscription_id, func.count().label("number")).where(is_waiting)
        rows = tx.run(waiting.group_by(relay_delivery_table.c.subscription_id)).all()
        subscriptions.count_pending(tx, {row.subscription_id: -row.number for row in rows})
        tx.run(relay_delivery_table.delete().where(relay_delivery_table.c.event_seq.in_(part)))
        tx.run(relay_event_table.delete().where(relay_event_table.c.seq.in_(part)))
    return len(seqs)


# Erasing customers


def texts_after(tx: Transaction, business_id: str, after: int, limit: int) -> list[EventText]:
    """Read the next recorded events of a business, in their order."""
    page = select(relay_event_table).where(
        relay_event_table.c.business_id == business_id, relay_event_table.c.seq > after
    )
    rows = tx.run(page.order_by(relay_event_table.c.seq).limit(limit))
    return [EventText(row.seq, _card_of(row.lane), tx.vault.decrypt(row.content)) for row in rows]


def _card_of(lane: str) -> str | None:
    return lane.removeprefix(CARD_LANE) if lane.startswith(CARD_LANE) else None


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times of tries to come, and the ends of leases, with a clock that jumped."""
    for column in (relay_delivery_table.c.next_at, relay_delivery_table.c.leased_until):
        later = _is_pending & (column > before)
        tx.run(relay_delivery_table.update().where(later).values({column: column + jump}))
