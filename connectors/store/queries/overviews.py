"""TODO docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from connector_sdk.rule import StampRule
from connectors.domain.connection import Business, Connection, Health
from connectors.domain.operation import Hold
from connectors.store import inbox
from connectors.store.connections.alerts import held, needs_person
from connectors.store.connections.registry import connection_of
from connectors.store.connections.rules import parse_rule
from connectors.store.engine import Transaction
from connectors.store.queries.operations import on_the_way
from connectors.store.schema import (
    business_table,
    connection_table,
    hint_table,
    kept_table,
    operation_table,
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


_NEWEST_RULE = (
    select(rule_version_table.c.rule)
    .where(rule_version_table.c.connection_id == connection_table.c.id)
    .order_by(rule_version_table.c.number.desc())
    .limit(1)
    .correlate(connection_table)
    .scalar_subquery()
)


def _overviews(*wanted: ColumnElement[bool]) -> Select[Any]:
    def number(*those: ColumnElement[bool]) -> Any:
        mine = operation_table.c.connection_id == connection_table.c.id
        return select(func.count()).where(mine, *those).correlate(connection_table).scalar_subquery()

    columns = (
        connection_table.c.id,
        connection_table.c.business_id,
        connection_table.c.connector,
        connection_table.c.account_id,
    )
    unread = (
        select(func.count())
        .select_from(kept_table)
        .where(*inbox.unreadable.waits_for_person(*columns))
        .correlate(connection_table)
    )
    waits = (
        select(hint_table.c.receipt_id)
        .where(hint_table.c.connection_id == connection_table.c.id)
        .correlate(connection_table)
        .exists()
    )
    return (
        select(
            connection_table,
            business_table.c.name.label("business_name"),
            business_table.c.country.label("business_country"),
            business_table.c.currency.label("business_currency"),
            business_table.c.zone.label("business_zone"),
            business_table.c.language.label("business_language"),
            business_table.c.paused_until.label("paused_until"),
            _NEWEST_RULE.label("rule"),
            (number(needs_person[0]) + number(needs_person[1])).label("stopped"),
            number(held, operation_table.c.hold == Hold.no_card).label("without_card"),
            number(on_the_way).label("on_its_way"),
            waits.label("hints"),
            unread.scalar_subquery().label("unread"),
        )
        .join(business_table, business_table.c.id == connection_table.c.business_id)
        .where(connection_table.c.health != Health.removed, *wanted)
    )


def _overview(row: Any) -> Overview:
    return Overview(
        connection_of(row),
        Business(
            row.business_id,
            row.business_name,
            row.business_country,
            row.business_currency,
            row.business_zone,
            row.business_language,
        ),
        parse_rule(row.rule),
        row.paused_until,
        row.stopped,
        row.without_card,
        row.on_its_way,
        bool(row.hints),
        row.unread,
    )


def overview(tx: Transaction, connection_id: str) -> Overview | None:
    """One connection that is not removed."""
    row = tx.run(_overviews(connection_table.c.id == connection_id)).first()
    return _overview(row) if row else None


def overviews(tx: Transaction, business_id: str | None, *, search: str = "", limit: int = 200) -> list[Overview]:
    """The connections of a business (or of all, those that need somebody first), by name with `search`."""
    wanted = [connection_table.c.business_id == business_id] if business_id else []
    if search:
        like = f"%{search.lower()}%"
        wanted.append(
            or_(func.lower(connection_table.c.title).like(like), func.lower(business_table.c.name).like(like))
        )
    unwell = connection_table.c.health.in_([Health.needs_authorisation, Health.failing])
    rows = tx.run(
        _overviews(*wanted).order_by(unwell.desc(), connection_table.c.began_at, connection_table.c.id).limit(limit)
    )
    return [_overview(row) for row in rows]


def with_refused_keys(tx: Transaction, business_id: str, key_hash: str) -> list[Connection]:
    """The connections of a business that need authorisation and use another key than this."""
    rows = tx.run(
        select(connection_table).where(
            connection_table.c.business_id == business_id,
            connection_table.c.health == Health.needs_authorisation,
            connection_table.c.key_hash != key_hash,
            connection_table.c.reason.like('["why.key_refused"%'),
        )
    )
    return [connection_of(row) for row in rows]
