"""Loyalty events: what 7stamp told of cards, on disk before it is answered, and how far each has come here.

Owns the table `loyalty_event`; what an event does is `connectors.sync.loyalty_effects`'. An event that comes again,
under the id that it had, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import bindparam, select

from connector_sdk.loyalty import LoyaltyEvent, event_from_json
from connectors.domain.clock import MINUTE, micros
from connectors.domain.events import LoyaltyEventReceived, Wakeup
from connectors.store.engine import Transaction
from connectors.store.events import EventText
from connectors.store.query_parts import AnyRow, claiming
from connectors.store.schema import loyalty_event_table

_LEASE = MINUTE
"""A claimed event is due again after this, by itself, if whoever claimed it died."""


class Stage(StrEnum):
    """How far an event has come."""

    arrived = "arrived"
    """On disk; its effects on operations and searches are still to come."""
    settled = "settled"
    """Its effects are written; connectors and plugins are still to be told."""
    done = "done"
    """Everybody was told, or given up on."""
    unknown = "unknown"
    """Everybody was told; it is of a card or a business that the ledger does not know, and is kept a week."""
    unreadable = "unreadable"
    """Its body is no event: kept as it came."""


UNFINISHED = (Stage.arrived, Stage.settled)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A proven body to keep: `event` is what it says, or `None` where it cannot be read."""

    business_id: str
    event_id: str
    event: LoyaltyEvent | None = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it is stored; times in UTC microseconds. `event` is `None` where its body could not be read."""

    seq: int
    business_id: str
    event_id: str
    name: str
    received_at: int
    stage: Stage
    attempts: int
    told: tuple[str, ...]
    event: LoyaltyEvent | None = field(repr=False)


def _stored(tx: Transaction, row: AnyRow) -> StoredEvent:
    stage, content = Stage(row.stage), tx.vault.decrypt(row.content)
    return StoredEvent(
        seq=row.seq,
        business_id=row.business_id,
        event_id=row.event_id,
        name=row.name,
        received_at=row.received_at,
        stage=stage,
        attempts=row.attempts,
        told=tuple(json.loads(row.told)),
        event=None if stage is Stage.unreadable else event_from_json(content),
    )


def keep(tx: Transaction, events: Sequence[NewEvent]) -> list[bool]:
    """Store events, and say of each whether it is new: one that came before is left as it is."""
    return [_keep(tx, event) for event in events]


def _keep(tx: Transaction, new: NewEvent) -> bool:
    event = new.event
    row = {
        "business_id": new.business_id,
        "event_id": new.event_id,
        "name": event.event if event is not None else "",
        "at": micros(event.at) if event is not None else tx.now,
        "received_at": tx.now,
        "card_id": event.card.id if event is not None else None,
        "content": tx.vault.encrypt(event.model_dump_json() if event is not None else new.body.decode("latin-1")),
        "stage": Stage.arrived if event is not None else Stage.unreadable,
        "next_at": tx.now,
        "attempts": 0,
        "told": "[]",
    }
    keys = [loyalty_event_table.c.business_id, loyalty_event_table.c.event_id]
    insert = tx.insert(loyalty_event_table).values(row).on_conflict_do_nothing(index_elements=keys)
    if not tx.run(insert).rowcount:
        return False
    if event is not None:
        tx.events.append(LoyaltyEventReceived(new.business_id, event))
        tx.wakeups.add(Wakeup.loyalty)
    return True


_DUE = claiming(
    select(loyalty_event_table)
    .where(loyalty_event_table.c.stage == bindparam("stage_"), loyalty_event_table.c.next_at <= bindparam("now"))
    .order_by(loyalty_event_table.c.next_at, loyalty_event_table.c.seq)
    .limit(bindparam("most")),
    loyalty_event_table,
)


def lease(tx: Transaction, stage: Stage, limit: int) -> list[StoredEvent]:
    """Lease events of a stage that are due, oldest first, for a minute."""
    rows = tx.run(_DUE, {"stage_": stage, "now": tx.now, "most": limit}).all()
    if rows:
        change = loyalty_event_table.update().where(loyalty_event_table.c.seq == bindparam("seq_"))
        tx.run(change.values(next_at=tx.now + _LEASE), [{"seq_": row.seq} for row in rows])
    return [_stored(tx, row) for row in rows]


def move_on(tx: Transaction, event: StoredEvent, stage: Stage) -> bool:
    """Bring an event to its next stage; say whether it still stood in the one that it was read in."""
    in_stage = (loyalty_event_table.c.seq == event.seq) & (loyalty_event_table.c.stage == event.stage)
    moved = tx.run(loyalty_event_table.update().where(in_stage).values(stage=stage, next_at=tx.now, attempts=0))
    if stage in UNFINISHED:
        tx.wakeups.add(Wakeup.loyalty)
    return moved.rowcount > 0


def try_later(tx: Transaction, event: StoredEvent, at: int, told: Collection[str] = ()) -> None:
    """Come back to an event at a moment; `told` are those who have heard of it so far."""
    columns = {"next_at": at, "attempts": event.attempts + 1, "told": json.dumps(sorted({*event.told, *told}))}
    tx.run(loyalty_event_table.update().where(loyalty_event_table.c.seq == event.seq).values(columns))


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times of tries to come with a clock that jumped."""
    later = loyalty_event_table.update().where(loyalty_event_table.c.next_at > before)
    tx.run(later.values(next_at=loyalty_event_table.c.next_at + jump))


def newest(tx: Transaction, business_id: str, limit: int, before: int | None = None) -> list[StoredEvent]:
    """Read the newest events of a business, newest first, those before a sequence number."""
    query = select(loyalty_event_table).where(loyalty_event_table.c.business_id == business_id)
    if before is not None:
        query = query.where(loyalty_event_table.c.seq < before)
    return [_stored(tx, row) for row in tx.run(query.order_by(loyalty_event_table.c.seq.desc()).limit(limit))]


def sweep(tx: Transaction, before: int, limit: int, stages: Collection[Stage]) -> int:
    """Delete events of these stages that arrived before a moment, at most `limit`; return how many."""
    old = (
        select(loyalty_event_table.c.seq)
        .where(loyalty_event_table.c.received_at < before, loyalty_event_table.c.stage.in_(sorted(stages)))
        .limit(limit)
    )
    return _delete(tx, list(tx.run(old).scalars()))


def _delete(tx: Transaction, seqs: Sequence[int]) -> int:
    if seqs:
        tx.run(loyalty_event_table.delete().where(loyalty_event_table.c.seq.in_(seqs)))
    return len(seqs)


# Erasing customers


def texts_after(tx: Transaction, business_id: str, after: int, limit: int) -> list[EventText]:
    """Read the next events of a business, in the order in which they came."""
    page = select(loyalty_event_table).where(
        loyalty_event_table.c.business_id == business_id, loyalty_event_table.c.seq > after
    )
    rows = tx.run(page.order_by(loyalty_event_table.c.seq).limit(limit))
    return [EventText(row.seq, row.card_id, tx.vault.decrypt(row.content)) for row in rows]


def delete(tx: Transaction, seqs: Sequence[int]) -> None:
    """Delete events."""
    _delete(tx, seqs)
