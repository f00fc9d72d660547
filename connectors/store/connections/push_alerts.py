"""Messages by Web Push: which devices are told what now, of a till's trouble and its end, of a plan, and of the week.

Owns the table `push_alert`, and that quiet hours only put a message off: what has passed by their end is not told.
Devices are `access.push_devices`', what trouble is `alerts`', sending `connectors.notices`'. A message is taken before
it is sent: of several hosts one sends it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select

from connectors.domain.alert_timing import PATIENCE, WEEK_IS_NEWS, AlertState, next_monday, next_step
from connectors.domain.clock import moment
from connectors.domain.connection import Connection
from connectors.domain.plan import Plan
from connectors.store.access import push_devices
from connectors.store.access.push_devices import PushDevice, device_of
from connectors.store.connections import alerts, registry
from connectors.store.connections.businesses import plan_of
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import business_table, connection_table, push_alert_table, push_device_table

_MOST_TILLS = 20
"""Of so many tills of a business a device is told the week."""


@dataclass(frozen=True, slots=True)
class PushAlert:
    """A message of a connection's trouble, or of its end; `state` is what it was before."""

    device: PushDevice
    connection_id: str
    title: str
    trouble: bool
    state: AlertState = field(repr=False)


@dataclass(frozen=True, slots=True)
class PushPlan:
    """A message of a business' plan: that it is nearly used up, or that it is."""

    device: PushDevice
    business: str
    zone: str
    plan: Plan
    used_up: bool


@dataclass(frozen=True, slots=True)
class PushWeek:
    """A message of the seven days before `day`, a Monday, at some connections."""

    device: PushDevice
    connections: list[Connection]
    day: date
    due_at: int


def take_due(tx: Transaction, limit: int = 100) -> list[PushAlert]:
    """Note for each device what has gone wrong or well since the last look, and take the messages to send now."""
    taken: list[PushAlert] = []
    quiet: set[str] = set()
    for row in _changed(tx, limit):
        state = AlertState(row.since, row.alert_told_at)
        step = next_step(state, trouble=bool(row.trouble), now=tx.now)
        if step.tells:
            if row.id in quiet:
                continue
            device = device_of(tx, row)
            if until := device.quiet_until(tx.now):
                # the state stays: by the end of the quiet hours it is told, or has passed
                push_devices.pause(tx, device.id, until)
                quiet.add(device.id)
                continue
            if not _claim(tx, row.id, row.connection_id, state, step.state):
                continue  # another host's message
            taken.append(PushAlert(device, row.connection_id, row.title, bool(row.trouble), state))
        else:
            _set_state(tx, row.id, row.connection_id, step.state)
    return taken


def _claim(tx: Transaction, device_id: str, connection_id: str, before: AlertState, after: AlertState) -> bool:
    """Note that a message is taken; return whether nobody else has taken it since it was read."""
    mine = (
        (push_alert_table.c.device_id == device_id)
        & (push_alert_table.c.connection_id == connection_id)
        & push_alert_table.c.told_at.is_not_distinct_from(before.told_at)
    )
    if after.since is None:
        return tx.run(push_alert_table.delete().where(mine)).rowcount > 0
    return tx.run(push_alert_table.update().where(mine).values(told_at=after.told_at)).rowcount > 0


def _changed(tx: Transaction, limit: int) -> list[AnyRow]:
    """Read the devices and connections of which something is to be noted or told, with whether there is trouble."""
    is_told = push_device_table.c.tells_trouble == 1
    told = select(push_device_table.c.business_id).where(is_told)
    state = (
        select(
            connection_table.c.id.label("connection_id"),
            connection_table.c.business_id,
            connection_table.c.title,
            alerts.trouble_at(tx.now).label("trouble"),
        )
        .where(alerts.IS_WATCHED, connection_table.c.business_id.in_(told))
        .distinct()  # so that no database looks for trouble once for each device
        .subquery("state")
    )
    trouble, since, told_at = state.c.trouble, push_alert_table.c.since, push_alert_table.c.told_at
    mine = (push_alert_table.c.device_id == push_device_table.c.id) & (
        push_alert_table.c.connection_id == state.c.connection_id
    )
    query = (
        select(
            push_device_table,
            state.c.connection_id,
            state.c.title,
            since,
            told_at.label("alert_told_at"),
            trouble,
        )
        .join(state, state.c.business_id == push_device_table.c.business_id)
        .outerjoin(push_alert_table, mine)
    )
    # a device that is paused, for its quiet hours or after a failure, is told nothing; what begins meanwhile counts
    # from then on, and what was not told ends in silence
    may_tell = push_device_table.c.paused_until <= tx.now
    is_due = or_(
        trouble & since.is_(None),
        ~trouble & since.is_not(None) & (told_at.is_(None) | may_tell),
        trouble & told_at.is_(None) & (since <= tx.now - PATIENCE) & may_tell,
    )
    return list(tx.run(query.where(is_told, is_due).limit(limit)))


def forget(tx: Transaction, device_id: str) -> None:
    """Forget what a device was told of: it is told no more, or begins anew."""
    tx.run(push_alert_table.delete().where(push_alert_table.c.device_id == device_id))


def mark_unsent(tx: Transaction, alert: PushAlert) -> None:
    """Have a message that did not go out be taken again."""
    _set_state(tx, alert.device.id, alert.connection_id, alert.state)


def _set_state(tx: Transaction, device_id: str, connection_id: str, state: AlertState) -> None:
    mine = (push_alert_table.c.device_id == device_id) & (push_alert_table.c.connection_id == connection_id)
    if state.since is None:
        tx.run(push_alert_table.delete().where(mine))
        return
    if tx.run(select(push_device_table.c.id).where(push_device_table.c.id == device_id)).first() is None:
        return  # it was removed meanwhile
    columns = {"since": state.since, "told_at": state.told_at}
    insert = tx.insert(push_alert_table).values(device_id=device_id, connection_id=connection_id, **columns)
    keys = [push_alert_table.c.device_id, push_alert_table.c.connection_id]
    tx.run(insert.on_conflict_do_update(index_elements=keys, set_=columns))


def take_due_plans(tx: Transaction, limit: int = 100) -> list[PushPlan]:
    """Take the messages about plans to send now: once a month that four fifths are used, once that all are."""
    tells_end, tells_near = alerts.plan_news_at(tx.now, push_device_table)
    query = (
        select(
            push_device_table,
            *(column for column in business_table.c if column.name not in push_device_table.c),
            business_table.c.zone.label("business_zone"),
            tells_end.label("used_up"),
        )
        .join(business_table, business_table.c.id == push_device_table.c.business_id)
        .where(
            push_device_table.c.tells_plan == 1,
            push_device_table.c.restricted == 0,
            push_device_table.c.paused_until <= tx.now,
            business_table.c.operations_until > tx.now,
            or_(tells_end, tells_near),
        )
        .limit(limit)
    )
    taken: list[PushPlan] = []
    for row in tx.run(query).all():
        plan, device = plan_of(row, tx.now), device_of(tx, row)
        if plan is None:
            continue
        if until := device.quiet_until(tx.now):
            push_devices.pause(tx, device.id, until)
            continue
        if not push_devices.take_plan(tx, device.id, plan.until, used_up=bool(row.used_up)):
            continue  # another host's message
        taken.append(PushPlan(device, row.name, row.business_zone, plan, bool(row.used_up)))
    return taken


def mark_plan_unsent(tx: Transaction, message: PushPlan) -> None:
    """Have a message about a plan that did not go out be taken again."""
    push_devices.give_plan_back(tx, message.device.id, used_up=message.used_up)


def take_due_weeks(tx: Transaction, limit: int = 50) -> list[PushWeek]:
    """Take the messages about a week to send now; one that is late by days is left out."""
    due = push_device_table.c.week_told_next
    query = select(push_device_table).where(
        due <= tx.now, push_device_table.c.paused_until <= tx.now, push_device_table.c.restricted == 0
    )
    taken: list[PushWeek] = []
    for row in tx.run(query.order_by(due).limit(limit)).all():
        device = device_of(tx, row)
        if until := device.quiet_until(tx.now):
            push_devices.pause(tx, device.id, until)
            continue
        if not push_devices.set_week(tx, device.id, row.week_told_next, next_monday(tx.now, device.zone)):
            continue  # another host's message
        joined = registry.list_all(tx, device.business_id)
        if joined and row.week_told_next > tx.now - WEEK_IS_NEWS:
            day = moment(row.week_told_next).astimezone(ZoneInfo(device.zone)).date()
            taken.append(PushWeek(device, joined[:_MOST_TILLS], day, row.week_told_next))
    return taken


def mark_week_unsent(tx: Transaction, message: PushWeek) -> None:
    """Have a message about a week that did not go out be taken again."""
    push_devices.set_week(tx, message.device.id, next_monday(tx.now, message.device.zone), message.due_at)
