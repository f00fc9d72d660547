"""Overviews: a connection with what stands around it, for pages that show many or one; each is a single query.

Owns no state; the counts are read, not kept, so that none can be wrong.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, ScalarSelect, Select, func, or_, select

from connector_sdk.rule import StampRule
from connectors.domain.connection import UNWELL, Business, Connection, Health
from connectors.domain.operation import Hold
from connectors.domain.plan import Plan
from connectors.domain.relay import SubscriptionState
from connectors.store import inbox
from connectors.store.connections.businesses import plan_of
from connectors.store.connections.registry import connection_of
from connectors.store.connections.rules import parse_rule
from connectors.store.engine import Transaction
from connectors.store.ledger import agreements
from connectors.store.ledger.agreements import Agreement
from connectors.store.ledger.operation_conditions import is_held, needs_person, on_the_way
from connectors.store.query_parts import AnyRow
from connectors.store.schema import (
    agreement_table,
    business_table,
    connection_table,
    hint_table,
    kept_table,
    operation_table,
    relay_subscription_table,
    rule_version_table,
)


@dataclass(frozen=True, slots=True)
class Overview:
    """A connection with what stands around it."""

    connection: Connection
    business: Business
    rule: StampRule
    paused_until: int
    stopped: int
    """How many operations need a person."""
    without_card: int
    """How many wait for their customers to have a card."""
    on_its_way: int
    """How many are still to be sent, or in doubt."""
    hints: bool
    """Whether the till told of receipts that are not read yet."""
    unread: int
    """How many requests or receipts could not be read and wait for a person."""
    silenced: int
    """How many subscriptions of the business were stopped because their endpoints failed."""
    plan: Plan | None
    """The card operations of this month; `None` where 7stamp has not said them yet."""
    agreement: Agreement | None
    """The last comparison of till, ledger and cards, or the one under way; `None` also where many are listed."""


_NEWEST_RULE = (
    select(rule_version_table.c.rule)
    .where(rule_version_table.c.connection_id == connection_table.c.id)
    .order_by(rule_version_table.c.number.desc())
    .limit(1)
    .correlate(connection_table)
    .scalar_subquery()
)


_SILENCED = (
    select(func.count())
    .select_from(relay_subscription_table)
    .where(
        relay_subscription_table.c.business_id == connection_table.c.business_id,
        relay_subscription_table.c.state == SubscriptionState.disabled,
        relay_subscription_table.c.reason.is_not(None),  # a person who stopped it need not be told
    )
    .correlate(connection_table)
    .scalar_subquery()
)


def _count(condition: ColumnElement[bool]) -> ScalarSelect[int]:
    """Build the count of a connection's operations that fit a condition."""
    of_connection = operation_table.c.connection_id == connection_table.c.id
    return select(func.count()).where(of_connection, condition).correlate(connection_table).scalar_subquery()


def _unread() -> ScalarSelect[int]:
    columns = (
        connection_table.c.id,
        connection_table.c.business_id,
        connection_table.c.connector,
        connection_table.c.account_id,
    )
    # what the till itself showed since is not counted, by the same words as on the page
    unread = select(func.count()).select_from(kept_table).where(*inbox.unreadable.waits_for_person(*columns))
    return unread.correlate(connection_table).scalar_subquery()


def _overviews(*conditions: ColumnElement[bool]) -> Select[*tuple[object, ...]]:
    hints = select(hint_table.c.receipt_id).where(hint_table.c.connection_id == connection_table.c.id)
    # a connection's own columns are selected whole: these must not have the same names
    return (
        select(
            connection_table,
            business_table.c.name.label("business_name"),
            business_table.c.country.label("business_country"),
            business_table.c.currency.label("business_currency"),
            business_table.c.zone.label("business_zone"),
            business_table.c.language.label("business_language"),
            business_table.c.paused_until.label("paused_until"),
            business_table.c.operations_used,
            business_table.c.operations_allowed,
            business_table.c.operations_until,
            business_table.c.plan_checked_at,
            _NEWEST_RULE.label("rule"),
            functools.reduce(operator.add, map(_count, needs_person)).label("stopped"),
            _count(is_held & (operation_table.c.hold == Hold.no_card)).label("without_card"),
            _count(on_the_way).label("on_its_way"),
            hints.correlate(connection_table).exists().label("hints"),
            _unread().label("unread"),
            _SILENCED.label("silenced"),
        )
        .join(business_table, business_table.c.id == connection_table.c.business_id)
        .where(connection_table.c.health != Health.removed, *conditions)
    )


def _overview(row: AnyRow, now: int, agreement: Agreement | None = None) -> Overview:
    return Overview(
        connection=connection_of(row),
        business=Business(
            row.business_id,
            row.business_name,
            row.business_country,
            row.business_currency,
            row.business_zone,
            row.business_language,
        ),
        rule=parse_rule(row.rule),
        paused_until=row.paused_until,
        stopped=row.stopped,
        without_card=row.without_card,
        on_its_way=row.on_its_way,
        hints=bool(row.hints),
        unread=row.unread,
        silenced=row.silenced,
        plan=plan_of(row, now),
        agreement=agreement,
    )


def overview(tx: Transaction, connection_id: str) -> Overview | None:
    """Read one connection that is not removed."""
    one = _overviews(connection_table.c.id == connection_id)
    joined = one.add_columns(*agreements.LABELLED).outerjoin(
        agreement_table, agreement_table.c.connection_id == connection_table.c.id
    )
    row = tx.run(joined).first()
    return _overview(row, tx.now, agreements.agreement_of(row)) if row else None


def overviews(tx: Transaction, business_id: str | None, *, search: str = "", limit: int = 200) -> list[Overview]:
    """List the connections of a business (or of all, those that need somebody first); with `search`, by name."""
    conditions: list[ColumnElement[bool]] = []
    if business_id:
        conditions.append(connection_table.c.business_id == business_id)
    if search:
        pattern = f"%{search.lower()}%"
        names = (connection_table.c.title, business_table.c.name)
        conditions.append(or_(*(func.lower(name).like(pattern) for name in names)))
    # on the operator's page only some fit: those that need somebody must be among them
    is_unwell = connection_table.c.health.in_(UNWELL)
    in_order = (is_unwell.desc(), connection_table.c.began_at, connection_table.c.id)
    return [_overview(row, tx.now) for row in tx.run(_overviews(*conditions).order_by(*in_order).limit(limit))]


def with_refused_keys(tx: Transaction, business_id: str, key_hash: str) -> list[Connection]:
    """List the connections of a business whose key 7stamp refuses, and that use another key than this."""
    rows = tx.run(
        select(connection_table).where(
            connection_table.c.business_id == business_id,
            connection_table.c.health == Health.needs_authorisation,
            connection_table.c.key_hash != key_hash,
            # by the message's id, with which its stored text begins
            connection_table.c.reason.like('["why.key_refused"%'),
        )
    )
    return [connection_of(row) for row in rows]
