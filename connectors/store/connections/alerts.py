"""Alerts by email: whom to tell when a connection needs a person or a plan ends, and what has been told.

Owns the table `watch`; when a message is due is `connectors.domain.alert_timing`', sending it `connectors.notices`'. A
message is claimed before it is sent: of several hosts one sends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Select, Table, exists, func, literal, or_, select

from connectors.domain.alert_timing import PATIENCE, WEEK_IS_NEWS, AlertState, next_monday, next_step
from connectors.domain.clock import moment
from connectors.domain.connection import UNWELL, Connection, Health
from connectors.domain.operation import Hold
from connectors.domain.plan import Plan
from connectors.domain.relay import SubscriptionState
from connectors.store.connections import registry
from connectors.store.connections.businesses import plan_of
from connectors.store.engine import Transaction
from connectors.store.ledger.operation_conditions import worth_an_email
from connectors.store.query_parts import AnyRow
from connectors.store.schema import (
    business_table,
    connection_table,
    operation_table,
    relay_subscription_table,
    watch_table,
)

# somebody who pauses has seen it: nothing is news until the connection works again
IS_WATCHED = connection_table.c.health.not_in([Health.removed, Health.paused])
_other = connection_table.alias("other")
_other_watch = watch_table.alias("other_watch")
# subscriptions are the business': of several of its tills one tells of them, and for emails one that is watched
FIRST_OF_BUSINESS = (
    select(func.min(_other.c.id))
    .where(
        _other.c.business_id == connection_table.c.business_id,
        _other.c.health.not_in([Health.removed, Health.paused]),
    )
    .correlate(connection_table)
)
_FIRST_WATCHED = FIRST_OF_BUSINESS.join(_other_watch, _other_watch.c.connection_id == _other.c.id)
_HAS_SILENCED = exists().where(
    relay_subscription_table.c.business_id == connection_table.c.business_id,
    relay_subscription_table.c.state == SubscriptionState.disabled,
    relay_subscription_table.c.reason.is_not(None),  # a person who stopped it need not be told
)


_STOPPED = [
    # of a plan that is used up there is a message of its own
    exists().where(
        operation_table.c.connection_id == connection_table.c.id,
        condition,
        func.coalesce(operation_table.c.hold, "") != Hold.plan_limit,
    )
    for condition in worth_an_email
]


def trouble_at(now: int, first: Select[str] = FIRST_OF_BUSINESS) -> ColumnElement[bool]:
    """Return the condition that a connection needs a person; of its business' subscriptions only `first` tells."""
    tells_for_business = connection_table.c.id == first.scalar_subquery()
    consent_ends = func.coalesce(connection_table.c.consent_trouble_at <= now, literal(False))
    return or_(connection_table.c.health.in_(UNWELL), consent_ends, _HAS_SILENCED & tells_for_business, *_STOPPED)


@dataclass(frozen=True, slots=True)
class Notification:
    """A message to send: of `trouble`, or of its end."""

    connection_id: str
    title: str
    business_id: str
    language: str
    trouble: bool
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlanNotification:
    """A message to send of a business' plan: that it is nearly used up, or that it is; for one address only once."""

    connection_id: str
    """One of its connections, for the link."""
    business: str
    plan: Plan
    used_up: bool
    zone: str
    language: str
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WeekNotification:
    """A message to send of a connection's week: the seven days before `day`, a Monday at its venue."""

    connection: Connection
    day: date
    due_at: int
    language: str
    email: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Watch:
    """Whom a connection tells, and whether each Monday of its week, too."""

    email: str = field(repr=False)
    weekly: bool


def set_email(tx: Transaction, connection_id: str, email: str | None, language: str) -> None:
    """Set whom to tell, and in which language; nobody with `None`."""
    if email is None:
        tx.run(watch_table.delete().where(watch_table.c.connection_id == connection_id))
        return
    columns = {"email": tx.vault.encrypt(email), "language": language}
    insert = tx.insert(watch_table).values(connection_id=connection_id, **columns)
    tx.run(insert.on_conflict_do_update(index_elements=[watch_table.c.connection_id], set_=columns))


def watch_of(tx: Transaction, connection_id: str) -> Watch | None:
    """Return whom a connection tells, and of what; `None` where it tells nobody."""
    row = tx.run(select(watch_table).where(watch_table.c.connection_id == connection_id)).first()
    return Watch(tx.vault.decrypt(row.email), row.week_told_next is not None) if row else None


def emails_of_business(tx: Transaction, business_id: str) -> dict[str, str]:
    """Return the addresses that a business' connections write to, by connection."""
    query = select(watch_table.c.connection_id, watch_table.c.email).join(
        connection_table, connection_table.c.id == watch_table.c.connection_id
    )
    rows = tx.run(query.where(connection_table.c.business_id == business_id))
    return {row.connection_id: tx.vault.decrypt(row.email) for row in rows}


def set_weekly(tx: Transaction, connection_id: str, *, weekly: bool) -> None:
    """Have whom a connection tells be told of its week, from the next Monday on, or no more."""
    zone = registry.get(tx, connection_id).account.zone
    at = next_monday(tx.now, zone) if weekly else None
    tx.run(watch_table.update().where(watch_table.c.connection_id == connection_id).values(week_told_next=at))


def take_due_weeks(tx: Transaction, limit: int = 50) -> list[WeekNotification]:
    """Take the messages about a week to send now; one that is late by days is left out."""
    due = select(watch_table).where(watch_table.c.week_told_next <= tx.now).order_by(watch_table.c.week_told_next)
    rows = tx.run(due.limit(limit)).all()
    known = registry.by_ids(tx, [row.connection_id for row in rows])
    notifications: list[WeekNotification] = []
    for row in rows:
        connection = known.get(row.connection_id)
        following = next_monday(tx.now, connection.account.zone) if connection is not None else None
        mine = (watch_table.c.connection_id == row.connection_id) & (watch_table.c.week_told_next == row.week_told_next)
        if tx.run(watch_table.update().where(mine).values(week_told_next=following)).rowcount == 0:
            continue  # another host's message
        is_news = row.week_told_next > tx.now - WEEK_IS_NEWS
        if connection is not None and connection.health is not Health.removed and is_news:
            day = moment(row.week_told_next).astimezone(ZoneInfo(connection.account.zone)).date()
            email = tx.vault.decrypt(row.email)
            notifications.append(WeekNotification(connection, day, row.week_told_next, row.language, email))
    return notifications


def mark_week_unsent(tx: Transaction, notification: WeekNotification) -> None:
    """Have a message about a week that surely did not go out sent again."""
    mine = (watch_table.c.connection_id == notification.connection.id) & watch_table.c.week_told_next.is_not(None)
    tx.run(watch_table.update().where(mine).values(week_told_next=notification.due_at))


def take_due(tx: Transaction, limit: int = 50) -> list[Notification]:
    """Note what has gone wrong or well since the last look, and take the messages to send now."""
    notifications: list[Notification] = []
    for row in _changed(tx, limit):
        state = AlertState(row.since, row.told_at)
        step = next_step(state, trouble=bool(row.trouble), now=tx.now)
        if step.state != state:
            _set_state(tx, row.connection_id, step.state)
        if step.tells:
            notifications.append(_notification(tx, row))
    return notifications


def _changed(tx: Transaction, limit: int) -> list[AnyRow]:
    """Read the watched connections about which something may have to be told, with whether there is trouble."""
    trouble = trouble_at(tx.now, _FIRST_WATCHED)
    watched = select(
        watch_table, connection_table.c.title, connection_table.c.business_id, trouble.label("trouble")
    ).join(connection_table, connection_table.c.id == watch_table.c.connection_id)
    is_due = or_(
        trouble & watch_table.c.since.is_(None),
        ~trouble & watch_table.c.since.is_not(None),
        trouble & watch_table.c.told_at.is_(None) & (watch_table.c.since <= tx.now - PATIENCE),
    )
    return list(tx.run(watched.where(IS_WATCHED, is_due).limit(limit)))


def _notification(tx: Transaction, row: AnyRow) -> Notification:
    email = tx.vault.decrypt(row.email)
    return Notification(row.connection_id, row.title, row.business_id, row.language, bool(row.trouble), email)


def plan_news_at(now: int, table: Table) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Return the conditions that whoever `table` has a row of is told of a plan's end, and that it is near."""
    until = business_table.c.operations_until
    is_near = business_table.c.operations_used * 5 >= business_table.c.operations_allowed * 4
    tells_end = (business_table.c.paused_until > now) & (table.c.plan_used_told_until < until)
    return tells_end, is_near & (table.c.plan_near_told_until < until)


def take_due_plans(tx: Transaction, limit: int = 50) -> list[PlanNotification]:
    """Take the messages about plans to send now: once a month that four fifths are used, once that all are."""
    tells_end, tells_near = plan_news_at(tx.now, watch_table)
    query = (
        select(watch_table, business_table, tells_end.label("used_up"))
        .join(connection_table, connection_table.c.id == watch_table.c.connection_id)
        .join(business_table, business_table.c.id == connection_table.c.business_id)
        .where(
            connection_table.c.health != Health.removed,
            business_table.c.operations_until > tx.now,
            or_(tells_end, tells_near),
        )
        .order_by(business_table.c.id, watch_table.c.connection_id)
        .limit(limit)
    )
    # by address: a cafe with three tills has one plan
    notifications: dict[tuple[str, str], PlanNotification] = {}
    for row in tx.run(query).all():
        plan = plan_of(row, tx.now)
        if plan is None:
            continue
        # whoever is told of the end need not be told any more that it is near
        told = {"plan_near_told_until": plan.until} | ({"plan_used_told_until": plan.until} if row.used_up else {})
        column = watch_table.c.plan_used_told_until if row.used_up else watch_table.c.plan_near_told_until
        is_untold = (watch_table.c.connection_id == row.connection_id) & (column < plan.until)
        if tx.run(watch_table.update().where(is_untold).values(told)).rowcount == 0:
            continue  # another host's message
        email = tx.vault.decrypt(row.email)
        notifications.setdefault(
            (row.id, email),
            PlanNotification(row.connection_id, row.name, plan, bool(row.used_up), row.zone, row.language, email),
        )
    return list(notifications.values())


def mark_plan_unsent(tx: Transaction, notification: PlanNotification) -> None:
    """Have a message about a plan that surely did not go out sent again."""
    column = watch_table.c.plan_used_told_until if notification.used_up else watch_table.c.plan_near_told_until
    tx.run(watch_table.update().where(watch_table.c.connection_id == notification.connection_id).values({column: 0}))


def mark_unsent(tx: Transaction, notification: Notification) -> None:
    """Have a message that surely did not go out sent again."""
    watched = watch_table.c.connection_id == notification.connection_id
    if notification.trouble:
        is_notified = watched & watch_table.c.told_at.is_not(None)
        tx.run(watch_table.update().where(is_notified).values(told_at=None))
    else:  # as if the trouble, told of, had ended only now
        ended = watched & watch_table.c.since.is_(None)
        tx.run(watch_table.update().where(ended).values(since=tx.now, told_at=tx.now))


def _set_state(tx: Transaction, connection_id: str, state: AlertState) -> None:
    watched = watch_table.c.connection_id == connection_id
    tx.run(watch_table.update().where(watched).values(since=state.since, told_at=state.told_at))
