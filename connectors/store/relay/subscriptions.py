"""Subscriptions: who is told of which events of a business, where, and how it goes with them.

Owns the table `relay_subscription`; what is on its way is `deliveries`'.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, bindparam, case, func, select

from connector_sdk.messages import Message
from connectors.domain.relay import SECRET_LIVES, Shape, SubscriptionState
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound, QuotaMet
from connectors.store.query_parts import AnyRow
from connectors.store.schema import relay_subscription_table

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it is stored; times in UTC microseconds. `url` and `secrets` may let others in."""

    id: str
    business_id: str
    title: str
    url: str = field(repr=False)
    host: str
    events: tuple[str, ...]
    filter: str | None
    personal: bool
    """Whether bodies hold phones, emails, card numbers, and codes that can still be used."""
    shape: Shape
    secrets: tuple[str, ...] = field(repr=False)
    """The one in use first, then the one before it while that still lives."""
    state: SubscriptionState
    reason: Message | None
    made_at: int
    made_by: str | None
    failures: int
    failing_since: int | None
    delivered_at: int | None
    pending: int


@dataclass(frozen=True, slots=True)
class SubscriptionContent:
    """What a subscriber chooses; the address and the filter have been checked."""

    url: str = field(repr=False)
    host: str
    events: tuple[str, ...]
    title: str = ""
    filter: str | None = None
    personal: bool = False
    shape: Shape = Shape.standard


def _subscription(tx: Transaction, row: AnyRow) -> Subscription:
    former = tx.vault.decrypt(row.former_secret) if row.former_secret and row.former_until > tx.now else None
    return Subscription(
        id=row.id,
        business_id=row.business_id,
        title=row.title,
        url=tx.vault.decrypt(row.url),
        host=row.host,
        events=tuple(json.loads(row.events)),
        filter=row.filter,
        personal=bool(row.personal),
        shape=Shape(row.shape),
        secrets=(tx.vault.decrypt(row.secret), *((former,) if former else ())),
        state=SubscriptionState(row.state),
        reason=Message.restored(row.reason) if row.reason else None,
        made_at=row.made_at,
        made_by=row.made_by,
        failures=row.failures,
        failing_since=row.failing_since,
        delivered_at=row.delivered_at,
        pending=row.pending,
    )


# Reading


def of_business(tx: Transaction, business_id: str) -> list[Subscription]:
    """List the subscriptions of a business, oldest first."""
    query = select(relay_subscription_table).where(relay_subscription_table.c.business_id == business_id)
    order = (relay_subscription_table.c.made_at, relay_subscription_table.c.id)
    return [_subscription(tx, row) for row in tx.run(query.order_by(*order))]


def get(tx: Transaction, business_id: str, subscription_id: str) -> Subscription:
    """Read a subscription of a business. Raises `NotFound`."""
    mine = relay_subscription_table.c.business_id == business_id
    row = tx.run(select(relay_subscription_table).where(_is(subscription_id), mine)).first()
    # of this business only: an id alone opens nobody else's
    if row is None:
        raise NotFound(f"there is no subscription {subscription_id!r}: see `connectors subscription list`")
    return _subscription(tx, row)


def by_ids(tx: Transaction, ids: Collection[str]) -> dict[str, Subscription]:
    """Map id to subscription, for those that there are."""
    query = select(relay_subscription_table).where(relay_subscription_table.c.id.in_(sorted(ids)))
    return {row.id: _subscription(tx, row) for row in tx.run(query)}


def _is(subscription_id: str) -> ColumnElement[bool]:
    return relay_subscription_table.c.id == subscription_id


@dataclass(frozen=True, slots=True)
class Interest:
    """Which events an active subscription asks for, and how much waits for it."""

    subscription_id: str
    business_id: str
    events: frozenset[str]
    pending: int


_INTERESTS = select(
    relay_subscription_table.c.id,
    relay_subscription_table.c.business_id,
    relay_subscription_table.c.events,
    relay_subscription_table.c.pending,
).where(
    relay_subscription_table.c.business_id.in_(bindparam("businesses", expanding=True)),
    relay_subscription_table.c.state == SubscriptionState.active,
)


def interests(tx: Transaction, business_ids: Collection[str]) -> list[Interest]:
    """List what the active subscriptions of these businesses ask for."""
    # nothing is decrypted: every commit that changes something asks, and most businesses have no subscription
    rows = tx.run(_INTERESTS, {"businesses": sorted(business_ids)})
    return [Interest(row.id, row.business_id, frozenset(json.loads(row.events)), row.pending) for row in rows]


# Writing


def insert(tx: Transaction, business_id: str, content: SubscriptionContent, *, token_id: str | None = None) -> str:
    """Store a subscription and return its id. Raises `QuotaMet` beyond the business's quota."""
    tx.alone("subscriptions", business_id)
    number = select(func.count()).where(relay_subscription_table.c.business_id == business_id)
    if tx.run(number).scalar_one() >= tx.quotas.subscriptions:
        raise QuotaMet(tx.quotas.subscriptions, "subscriptions")
    subscription_id = f"sub_{secrets.token_hex(6)}"
    row = {
        "id": subscription_id,
        "business_id": business_id,
        "secret": tx.vault.encrypt(_make_secret()),
        "state": SubscriptionState.active,
        "made_at": tx.now,
        "made_by": tx.by,
        "token_id": token_id,
        **_columns(tx, content),
    }
    tx.run(relay_subscription_table.insert(), [row])
    return subscription_id


def _make_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def _columns(tx: Transaction, content: SubscriptionContent) -> dict[str, object]:
    return {
        "title": content.title,
        "url": tx.vault.encrypt(content.url),
        "host": content.host,
        "events": json.dumps(content.events),
        "filter": content.filter,
        "personal": int(content.personal),
        "shape": content.shape,
    }


def change(tx: Transaction, subscription_id: str, content: SubscriptionContent) -> None:
    """Replace what a subscription asks for; another address is tried at once."""
    columns = {**_columns(tx, content), "next_at": tx.now, "failures": 0, "failing_since": None}
    tx.run(relay_subscription_table.update().where(_is(subscription_id)).values(columns))


def enable(tx: Transaction, subscription_id: str) -> None:
    """Record and deliver again, from what waits on."""
    columns = {
        "state": SubscriptionState.active,
        "reason": None,
        "next_at": tx.now,
        "failures": 0,
        "failing_since": None,
    }
    tx.run(relay_subscription_table.update().where(_is(subscription_id)).values(columns))


def disable(tx: Transaction, subscription_id: str, reason: Message | None) -> bool:
    """Stop recording and delivering; say whether it was active."""
    is_active = relay_subscription_table.c.state == SubscriptionState.active
    columns = {"state": SubscriptionState.disabled, "reason": reason.stored() if reason else None}
    return tx.run(relay_subscription_table.update().where(_is(subscription_id), is_active).values(columns)).rowcount > 0


def renew_secret(tx: Transaction, subscription_id: str) -> None:
    """Make another secret; deliveries are signed with the one before as well, for a day longer."""
    columns = {
        "former_secret": relay_subscription_table.c.secret,
        "former_until": tx.now + SECRET_LIVES,
        "secret": tx.vault.encrypt(_make_secret()),
    }
    tx.run(relay_subscription_table.update().where(_is(subscription_id)).values(columns))


def delete(tx: Transaction, subscription_id: str) -> None:
    """Delete a subscription; its deliveries are `deliveries`' to delete."""
    tx.run(relay_subscription_table.delete().where(_is(subscription_id)))


def count_pending(tx: Transaction, changes: dict[str, int]) -> None:
    """Change how many deliveries wait, by subscription; each is locked until the commit."""
    columns = relay_subscription_table.c
    # in order, so that two transactions do not wait for each other in turn
    rows = [{"id_": subscription_id, "by": by} for subscription_id, by in sorted(changes.items()) if by]
    if rows:
        update = relay_subscription_table.update().where(columns.id == bindparam("id_"))
        tx.run(update.values(pending=columns.pending + bindparam("by")), rows)


def record_success(tx: Transaction, ids: Sequence[str]) -> None:
    """Note that these subscribers took something."""
    columns = {"failures": 0, "failing_since": None, "delivered_at": tx.now, "next_at": 0}
    tx.run(relay_subscription_table.update().where(relay_subscription_table.c.id.in_(ids)).values(columns))


def record_failure(tx: Transaction, subscription_id: str, pause: int | None) -> int:
    """Note that a subscriber did not take something; with a `pause` (microseconds) nothing is sent to it before.

    Return since when it has failed (UTC microseconds).
    """
    columns = relay_subscription_table.c
    values: dict[str, object] = {"failing_since": func.coalesce(columns.failing_since, tx.now)}
    if pause is not None:
        values |= {
            "failures": columns.failures + 1,
            "next_at": case((columns.next_at < tx.now + pause, tx.now + pause), else_=columns.next_at),
        }
    update = relay_subscription_table.update().where(_is(subscription_id)).values(values)
    since = tx.run(update.returning(columns.failing_since)).scalar_one_or_none()
    return int(since) if since is not None else tx.now


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the ends of subscribers' pauses with a clock that jumped."""
    columns = relay_subscription_table.c
    tx.run(relay_subscription_table.update().where(columns.next_at > before).values(next_at=columns.next_at + jump))


def send_at_once(tx: Transaction, subscription_id: str) -> None:
    """End the pause of a subscriber that failed: somebody waits for what becomes of the next try."""
    tx.run(relay_subscription_table.update().where(_is(subscription_id)).values(next_at=tx.now))
