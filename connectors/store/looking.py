"""What pages show, read in one query each however much there is: every one is bounded and goes by an index.

Owns read models only; nothing here writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, union_all

from connector_sdk.rule import StampRule
from connector_sdk.sale import Customer, Sale
from connectors.domain.connection import Business, Connection, Health
from connectors.domain.operation import Hold, State
from connectors.store import cards, journal
from connectors.store.connections import connection_of, rule_of
from connectors.store.engine import Transaction
from connectors.store.outbox import Operation, operation_of
from connectors.store.schema import (
    business_table,
    connection_table,
    customer_name_table,
    hint_table,
    identify_table,
    kept_table,
    operation_table,
    rule_version_table,
    sale_table,
    sale_version_table,
)
from connectors.store.watches import held, rejected, stopped

MOST = 50
# in the words of the index
on_its_way = operation_table.c.state.in_(
    [literal(one.value, literal_execute=True) for one in (State.pending, State.sending, State.uncertain)]
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
    unread = select(func.count()).select_from(kept_table).where(*journal.waiting(*columns)).correlate(connection_table)
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
            (number(stopped[0]) + number(stopped[1])).label("stopped"),
            number(held, operation_table.c.hold == Hold.no_card).label("without_card"),
            number(on_its_way).label("on_its_way"),
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
        rule_of(row.rule),
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


# each reason by itself: asked for several at once, SQLite goes through all operations to have them in order
_STOPPED = [*(held & (operation_table.c.hold == one.value) for one in Hold if one is not Hold.no_card), rejected]


def waiting(tx: Transaction, connection_id: str, limit: int = MOST) -> list[Operation]:
    """The operations of a connection that need a person, newest first."""
    return _newest_operations(tx, connection_id, _STOPPED, limit)


def without_card(tx: Transaction, connection_id: str, limit: int = MOST) -> list[Operation]:
    """The operations that wait for their customers to have a card, newest first."""
    return _newest_operations(tx, connection_id, [held & (operation_table.c.hold == Hold.no_card)], limit)


def _newest_operations(
    tx: Transaction, connection_id: str, kinds: Sequence[ColumnElement[bool]], limit: int
) -> list[Operation]:
    parts = [
        select(
            select(operation_table)
            .where(operation_table.c.connection_id == connection_id, one)
            .order_by(operation_table.c.seq.desc())
            .limit(limit)
            .subquery()
        )
        for one in kinds
    ]
    found = [operation_of(tx, row) for row in tx.run(union_all(*parts))]
    return sorted(found, key=lambda one: -one.seq)[:limit]


# --- receipts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt in a list; amounts in minor units, times in UTC microseconds."""

    id: str
    receipt_id: str
    status: str
    closed_at: int | None
    paid: int
    currency: str
    stamps: int
    card_hint: str | None
    customer: bool
    admitted: bool
    wait: str | None

    @property
    def earned(self) -> int:
        """The stamps it is entitled to, for a card there is."""
        return self.stamps if self.admitted and self.customer and self.card_hint else 0


@dataclass(frozen=True, slots=True)
class Term:
    """One thing a receipt is searched by: any of what is set; `between` in UTC microseconds."""

    receipt: str | None = None
    paid: int | None = None
    card_ending: str | None = None
    names: tuple[tuple[str, str], ...] = ()
    between: tuple[tuple[int, int], ...] = ()


def find(tx: Transaction, one: Connection, terms: Sequence[Term], limit: int = MOST) -> list[Receipt]:
    """The newest receipts that fit all terms."""
    if not terms:
        return []
    sides = [_conditions(tx, one, term) for term in terms]
    if not all(sides):
        return []
    # the term that fits fewest receipts leads, each of its meanings by its own index; many cost the same amount
    leading = min(range(len(terms)), key=lambda at: _spread(terms[at]))
    others = [or_(*side) for at, side in enumerate(sides) if at != leading]
    parts = [
        select(
            select(sale_table)
            .where(sale_table.c.connection_id == one.id, condition, *others)
            .order_by(sale_table.c.closed_at.desc())
            .limit(limit)
            .subquery()
        )
        for condition in sides[leading]
    ]
    found = {row.id: row for row in tx.run(union_all(*parts))}
    newest = sorted(found.values(), key=lambda row: (row.closed_at or 0, row.receipt_id), reverse=True)
    return [_receipt(row) for row in newest[:limit]]


def _spread(term: Term) -> int:
    """How many receipts a term may fit, roughly: a minute or a day, one customer's, a card's ending, an amount."""
    return next((rank for rank, said in enumerate((term.between, term.names, term.card_ending)) if said), 3)


def _conditions(tx: Transaction, one: Connection, term: Term) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if term.receipt is not None:
        conditions.append(
            and_(
                sale_table.c.business_id == one.business_id,
                sale_table.c.connector == one.connector,
                sale_table.c.account_id == one.account.id,
                sale_table.c.receipt_id == term.receipt,
            )
        )
    if term.paid is not None:
        conditions.append(sale_table.c.paid == term.paid)
    if term.card_ending is not None:
        conditions.append(sale_table.c.card_hint == term.card_ending)
    for kind, value in term.names:
        named = select(customer_name_table.c.customer_hash).where(
            customer_name_table.c.business_id == one.business_id,
            customer_name_table.c.name_hash == cards.name_hash(tx, one.business_id, kind, value),
        )
        conditions.append(sale_table.c.customer_hash.in_(named))
        with suppress(ValidationError):  # too long or short to be one: then no till said it either
            who = Customer.model_validate({kind: value})
            conditions.append(sale_table.c.customer_hash == cards.customer_hash(tx, one.connector, one.account.id, who))
    conditions += [and_(sale_table.c.closed_at >= start, sale_table.c.closed_at < end) for start, end in term.between]
    return conditions


def latest(tx: Transaction, connection_id: str, since: int) -> Receipt | None:
    """The first receipt of a connection that was closed since then."""
    row = tx.run(
        select(sale_table)
        .where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at >= since)
        .order_by(sale_table.c.closed_at)
        .limit(1)
    ).first()
    return _receipt(row) if row else None


def _receipt(row: Any) -> Receipt:
    return Receipt(
        row.id,
        row.receipt_id,
        row.status,
        row.closed_at,
        row.paid,
        row.currency,
        row.stamps,
        row.card_hint,
        row.customer_hash is not None,
        bool(row.admitted),
        row.wait,
    )


@dataclass(frozen=True, slots=True)
class Version:
    """What the till said, and when and how we came to know."""

    number: int
    seen_at: int
    source: str
    content: Sale


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt with its versions, the rule it was planned by, and what it stands at."""

    receipt: Receipt
    location_id: str | None
    refunded: int
    card_id: str | None
    wait: str | None
    claimed: bool
    rule: StampRule | None
    rule_number: int | None
    versions: tuple[Version, ...]


def receipt(tx: Transaction, connection_id: str, sale_id: str) -> Told | None:
    """One receipt of a connection, its newest versions last."""
    planned_by = (
        select(rule_version_table.c.rule)
        .where(
            rule_version_table.c.connection_id == sale_table.c.rule_of,
            rule_version_table.c.number == sale_table.c.rule_number,
        )
        .correlate(sale_table)
        .scalar_subquery()
    )
    rows = tx.run(
        select(
            sale_table,
            planned_by.label("rule"),
            sale_version_table.c.number,
            sale_version_table.c.seen_at,
            sale_version_table.c.source,
            sale_version_table.c.content,
        )
        .join(sale_version_table, (sale_version_table.c.sale_id == sale_table.c.id) & (sale_version_table.c.number > 0))
        .where(sale_table.c.id == sale_id, sale_table.c.connection_id == connection_id)
        .order_by(sale_version_table.c.number.desc())
        .limit(MOST)
    ).all()
    if not rows:
        return None
    row = rows[0]
    return Told(
        _receipt(row),
        row.location_id,
        row.refunded,
        row.card_id,
        row.wait,
        bool(row.claimed),
        rule_of(row.rule) if row.rule else None,
        row.rule_number,
        tuple(
            Version(one.number, one.seen_at, one.source, Sale.model_validate_json(tx.vault.decrypt(one.content)))
            for one in reversed(rows)
        ),
    )


# --- the installation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Queue:
    """What is on its way: how much, and since when the oldest waits (UTC microseconds)."""

    name: str
    depth: int
    oldest: int | None


def queues(tx: Transaction) -> list[Queue]:
    """Receipts to read again, customers to find, operations to send, in one query."""
    asked = {
        "hints": (select(func.count()).select_from(hint_table), select(func.min(hint_table.c.created_at))),
        "identify": (select(func.count()).select_from(identify_table), select(func.min(identify_table.c.created_at))),
        "operations": (
            select(func.count()).select_from(operation_table).where(on_its_way),
            select(func.min(operation_table.c.created_at)).where(on_its_way),
        ),
    }
    columns = [
        one.scalar_subquery().label(f"{name}_{what}")
        for name, pair in asked.items()
        for what, one in zip(("depth", "oldest"), pair, strict=True)
    ]
    row = tx.run(select(*columns)).one()._mapping
    return [Queue(name, row[f"{name}_depth"], row[f"{name}_oldest"]) for name in asked]


def health_counts(tx: Transaction) -> dict[str, int]:
    """How many connections are how."""
    rows = tx.run(
        select(connection_table.c.health, func.count().label("number"))
        .where(connection_table.c.health != Health.removed)
        .group_by(connection_table.c.health)
    )
    return {row.health: row.number for row in rows}


def last_hooks(tx: Transaction) -> dict[str, int]:
    """Connector → when its last hook came."""
    rows = tx.run(
        select(connection_table.c.connector, func.max(connection_table.c.last_hook_at).label("at"))
        .where(connection_table.c.last_hook_at.is_not(None))
        .group_by(connection_table.c.connector)
    )
    return {row.connector: row.at for row in rows}


def dead_keys(tx: Transaction, business_id: str, key_hash: str) -> list[Connection]:
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
