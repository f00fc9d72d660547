"""Receipts as pages show them: found by what somebody typed, and one with its whole history.

Owns no state; every query is bounded and goes by an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Select, and_, func, literal, or_, select, true, union_all

from connector_sdk.rule import StampRule
from connector_sdk.sale import Customer, Sale, SaleStatus
from connectors.domain.connection import Connection
from connectors.domain.holds import WAITS_FOR_CARD
from connectors.domain.person import Reference
from connectors.store import ledger
from connectors.store.connections.rules import parse_rule
from connectors.store.engine import Transaction
from connectors.store.ledger.operation_conditions import is_held
from connectors.store.query_parts import AnyRow
from connectors.store.schema import (
    customer_name_table,
    operation_table,
    rule_version_table,
    sale_table,
    sale_version_table,
)

MOST = 50


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
    location_id: str | None

    @property
    def earned(self) -> int:
        """The stamps it is entitled to, for a card there is."""
        return self.stamps if self.admitted and self.customer and self.card_hint else 0


def _receipt(row: AnyRow) -> Receipt:
    return Receipt(
        id=row.id,
        receipt_id=row.receipt_id,
        status=row.status,
        closed_at=row.closed_at,
        paid=row.paid,
        currency=row.currency,
        stamps=row.stamps,
        card_hint=row.card_hint,
        customer=row.customer_hash is not None,
        admitted=bool(row.admitted),
        wait=row.wait,
        location_id=row.location_id,
    )


# Which


class ReceiptKind(StrEnum):
    """Which of a connection's receipts a list shows."""

    all = "all"
    paid = "paid"
    """Paid, and not taken back as a whole: what numbers count."""
    nobody = "nobody"
    """Paid, and nobody is attached: they give no stamps."""
    refunded = "refunded"
    """Refunded, wholly or in part, or removed at the till."""
    by_hand = "by-hand"
    """A person, or the customer, said whose they are."""
    waiting = "waiting"
    """Their customer has no card yet."""


_IS_PAID = sale_table.c.status == literal(SaleStatus.closed.value, literal_execute=True)
# written out, not bound: a partial index serves a condition that the planner can read
_CONDITIONS: Mapping[ReceiptKind, Sequence[ColumnElement[bool]]] = {
    ReceiptKind.all: [true()],
    ReceiptKind.paid: [_IS_PAID],
    ReceiptKind.nobody: [and_(sale_table.c.customer_hash.is_(None), _IS_PAID)],
    ReceiptKind.refunded: [
        sale_table.c.refunded > literal(0, literal_execute=True),
        sale_table.c.status == literal(SaleStatus.voided.value, literal_execute=True),
    ],
    ReceiptKind.by_hand: [sale_table.c.claimed == literal(1, literal_execute=True)],
}
"""By what each kind is found: any of these, each of which an index serves."""


@dataclass(frozen=True, slots=True)
class ListedReceipts:
    """Some closed receipts of a connection: of a kind, of a stretch (UTC microseconds), behind a receipt."""

    kind: ReceiptKind = ReceiptKind.all
    between: tuple[int, int] | None = None
    behind: tuple[int, str] | None = None
    """The moment at which a receipt was closed, and its id."""


# Searching


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One thing a receipt is searched by: it fits by any of what is set.

    `paid` is the least and the most (minor units), `between` in UTC microseconds.
    """

    receipt: str | None = None
    paid: tuple[int, int] | None = None
    card_ending: str | None = None
    names: tuple[Reference, ...] = ()
    between: tuple[tuple[int, int], ...] = ()

    @property
    def rank(self) -> int:
        """How few receipts it may fit, roughly, the fewest first: a stretch of time, a customer's, a card's ending."""
        kinds = (self.between, self.names, self.card_ending)
        return next((rank for rank, value in enumerate(kinds) if value), len(kinds))


def search(
    tx: Transaction,
    connection: Connection,
    terms: Sequence[SearchTerm],
    limit: int = MOST,
    among: ListedReceipts = ListedReceipts(),
) -> list[Receipt]:
    """Find the newest receipts that fit all terms, `among` those of a kind and a stretch."""
    # all terms must fit, each by any of its meanings
    conditions = [_conditions(tx, connection, term) for term in terms]
    # a term without a meaning fits nothing, so neither do all of them together
    if not conditions or not all(conditions):
        return []
    # the term that fits fewest receipts leads, each of its meanings by its own index; many cost the same amount
    leading = min(range(len(terms)), key=lambda index: terms[index].rank)
    others = [or_(*any_of) for index, any_of in enumerate(conditions) if index != leading]
    if among.kind is not ReceiptKind.all:
        others.append(or_(*_conditions_of_kind(connection.id, among.kind)))
    if among.between is not None:
        others.append(_is_closed_between(*among.between))
    parts = [
        select(
            select(sale_table)
            .where(sale_table.c.connection_id == connection.id, condition, *others)
            .order_by(sale_table.c.closed_at.desc())
            .limit(limit)
            .subquery()
        )
        for condition in conditions[leading]
    ]
    # a receipt may fit the leading term by two of its meanings
    rows = {row.id: row for row in tx.run(union_all(*parts))}
    newest = sorted(rows.values(), key=lambda row: (row.closed_at or 0, row.receipt_id), reverse=True)
    return [_receipt(row) for row in newest[:limit]]


def _conditions(tx: Transaction, connection: Connection, term: SearchTerm) -> list[ColumnElement[bool]]:
    """Build a condition for each meaning that a term may have."""
    conditions: list[ColumnElement[bool]] = []
    if term.receipt is not None:
        conditions.append(
            and_(
                sale_table.c.business_id == connection.business_id,
                sale_table.c.connector == connection.connector,
                sale_table.c.account_id == connection.account.id,
                sale_table.c.receipt_id == term.receipt,
            )
        )
    if term.paid is not None:
        least, most = term.paid
        conditions.append(sale_table.c.paid == least if least == most else sale_table.c.paid.between(least, most))
    if term.card_ending is not None:
        conditions.append(sale_table.c.card_hint == term.card_ending)
    for name in term.names:
        conditions += _conditions_of_name(tx, connection, name)
    conditions += [and_(sale_table.c.closed_at >= start, sale_table.c.closed_at < end) for start, end in term.between]
    return conditions


def _conditions_of_name(tx: Transaction, connection: Connection, name: Reference) -> list[ColumnElement[bool]]:
    """Build the conditions for a customer's name: as 7stamp knows them, and as the till itself may have said it."""
    business_id = connection.business_id
    named = select(customer_name_table.c.customer_hash).where(
        customer_name_table.c.business_id == business_id,
        customer_name_table.c.name_hash == ledger.cards.name_hash(tx, business_id, name.kind, name.value),
    )
    conditions: list[ColumnElement[bool]] = [sale_table.c.customer_hash.in_(named)]
    with suppress(ValidationError):  # too long or short to be one: then no till said it either
        customer = Customer.model_validate({name.kind: name.value})
        customer_hash = ledger.cards.customer_hash(tx, connection.connector, connection.account.id, customer)
        conditions.append(sale_table.c.customer_hash == customer_hash)
    return conditions


# Listing


def listed(tx: Transaction, connection_id: str, asked: ListedReceipts, limit: int) -> list[Receipt]:
    """List a connection's closed receipts of a kind, the newest first."""
    mine = (sale_table.c.connection_id == connection_id) & sale_table.c.closed_at.is_not(None)
    if asked.between is not None:
        mine &= _is_closed_between(*asked.between)
    if asked.behind is not None:
        mine &= _behind(*asked.behind)
    in_order = (sale_table.c.closed_at.desc(), sale_table.c.id)
    parts = [
        select(select(sale_table).where(mine, condition).order_by(*in_order).limit(limit).subquery())
        for condition in _conditions_of_kind(connection_id, asked.kind)
    ]
    # one that was refunded and then removed is found twice
    rows = {row.id: row for row in tx.run(union_all(*parts) if len(parts) > 1 else parts[0])}
    newest_first = sorted(rows.values(), key=lambda row: (-row.closed_at, row.id))
    return [_receipt(row) for row in newest_first[:limit]]


def _conditions_of_kind(connection_id: str, kind: ReceiptKind) -> Sequence[ColumnElement[bool]]:
    """Return by what a kind is found: any of these."""
    if kind is ReceiptKind.waiting:
        return [sale_table.c.id.in_(_waiting_for_card(connection_id))]
    return _CONDITIONS[kind]


def is_missed(connection_id: str, between: tuple[int, int]) -> ColumnElement[bool]:
    """Return the condition of receipts of a stretch that earn stamps, and on which nobody was attached."""
    (is_of_nobody,) = _CONDITIONS[ReceiptKind.nobody]
    of_stretch = (sale_table.c.connection_id == connection_id) & _is_closed_between(*between)
    return of_stretch & is_of_nobody & (sale_table.c.admitted == 1) & (sale_table.c.stamps > 0)


def _is_closed_between(start: int, end: int) -> ColumnElement[bool]:
    return (sale_table.c.closed_at >= start) & (sale_table.c.closed_at < end)


def _waiting_for_card(connection_id: str) -> Select[tuple[str]]:
    held = select(operation_table.c.sale_id).where(
        operation_table.c.connection_id == connection_id,
        is_held,
        operation_table.c.hold.in_(sorted(WAITS_FOR_CARD)),
    )
    # the newest: what a page shows first
    return held.order_by(operation_table.c.seq.desc()).limit(1000)


def _behind(closed_at: int, sale_id: str) -> ColumnElement[bool]:
    """Return the condition that a receipt comes behind another, the newest first."""
    # by both: a till that writes minutes only closes several receipts at one moment
    return (sale_table.c.closed_at < closed_at) | ((sale_table.c.closed_at == closed_at) & (sale_table.c.id > sale_id))


def of_card(tx: Transaction, connection_id: str, card_id: str, card_hint: str, limit: int) -> list[Receipt]:
    """List a connection's receipts of a card, the newest first."""
    # the index is of the last four digits, which few cards share
    mine = (sale_table.c.connection_id == connection_id) & (sale_table.c.card_hint == card_hint)
    query = select(sale_table).where(mine, sale_table.c.card_id == card_id).order_by(sale_table.c.closed_at.desc())
    return [_receipt(row) for row in tx.run(query.limit(limit))]


def cards_ending(tx: Transaction, connection_id: str, card_hint: str, limit: int) -> list[str]:
    """List the ids of cards of a connection's receipts that end in four digits, those of the newest receipts first."""
    mine = (sale_table.c.connection_id == connection_id) & (sale_table.c.card_hint == card_hint)
    newest = func.max(sale_table.c.closed_at).desc()
    query = select(sale_table.c.card_id).where(mine, sale_table.c.card_id.is_not(None)).group_by(sale_table.c.card_id)
    return list(tx.run(query.order_by(newest).limit(limit)).scalars())


def newest_with_cards(tx: Transaction, connection_id: str, limit: int) -> list[Receipt]:
    """List the newest receipt of each card among the newest receipts of a connection, at most `limit` cards."""
    query = (
        select(sale_table)
        .where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at.is_not(None))
        .order_by(sale_table.c.closed_at.desc())
        .limit(_LOOKED_AT)
    )
    newest: dict[str, Receipt] = {}
    for row in tx.run(query):
        if row.card_id is not None and row.card_hint is not None:
            newest.setdefault(row.card_id, _receipt(row))
    return list(newest.values())[:limit]


_LOOKED_AT = 100
"""Receipts among which the newest cards are looked for."""


def admitted_among(tx: Transaction, sale_ids: Sequence[str]) -> set[str]:
    """Return which of some receipts are stored and count already."""
    query = select(sale_table.c.id).where(sale_table.c.id.in_(sale_ids), sale_table.c.admitted == 1)
    return set(tx.run(query).scalars())


def first_closed_since(tx: Transaction, connection_id: str, since: int) -> Receipt | None:
    """Return the first receipt of a connection that was closed since a moment."""
    query = select(sale_table).where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at >= since)
    row = tx.run(query.order_by(sale_table.c.closed_at).limit(1)).first()
    return _receipt(row) if row else None


_IS_OPEN = sale_table.c.status == literal(SaleStatus.open.value, literal_execute=True)


def at_the_counter(tx: Transaction, connection_id: str, since: int, limit: int) -> list[Receipt]:
    """List a connection's receipts that are open or were closed since a moment, the open ones first."""
    of_connection = sale_table.c.connection_id == connection_id
    is_open = select(sale_table).where(of_connection, _IS_OPEN, sale_table.c.changed_at >= since)
    closed = select(sale_table).where(of_connection, sale_table.c.closed_at >= since, ~_IS_OPEN)
    rows = [
        *tx.run(is_open.order_by(sale_table.c.changed_at.desc()).limit(limit)),
        *tx.run(closed.order_by(sale_table.c.closed_at.desc()).limit(limit)),
    ]
    return [_receipt(row) for row in rows[:limit]]


# One receipt


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a receipt: its content, and when and how it came (UTC microseconds)."""

    number: int
    seen_at: int
    source: str
    content: Sale


@dataclass(frozen=True, slots=True)
class ReceiptDetails:
    """A receipt with its versions, the rule it was planned by, and whose it is."""

    receipt: Receipt
    location_id: str | None
    refunded: int
    card_id: str | None
    wait: str | None
    claimed: bool
    rule: StampRule | None
    rule_number: int | None
    versions: tuple[Version, ...]


_RULE_OF_SALE = (
    select(rule_version_table.c.rule)
    .where(
        rule_version_table.c.connection_id == sale_table.c.rule_of,
        rule_version_table.c.number == sale_table.c.rule_number,
    )
    .correlate(sale_table)
    .scalar_subquery()
)
# numbers below one are states that lost
_COUNTED_VERSIONS = (sale_version_table.c.sale_id == sale_table.c.id) & (sale_version_table.c.number > 0)


def details(tx: Transaction, connection_id: str, sale_id: str) -> ReceiptDetails | None:
    """Read one receipt of a connection, with its newest versions, the newest last."""
    rows = tx.run(
        select(
            sale_table,
            _RULE_OF_SALE.label("rule"),
            sale_version_table.c.number,
            sale_version_table.c.seen_at,
            sale_version_table.c.source,
            sale_version_table.c.content,
        )
        .join(sale_version_table, _COUNTED_VERSIONS)
        .where(sale_table.c.id == sale_id, sale_table.c.connection_id == connection_id)
        .order_by(sale_version_table.c.number.desc())
        .limit(MOST)
    ).all()
    if not rows:
        return None
    # the sale's own columns are the same in every row
    newest = rows[0]
    return ReceiptDetails(
        receipt=_receipt(newest),
        location_id=newest.location_id,
        refunded=newest.refunded,
        card_id=newest.card_id,
        wait=newest.wait,
        claimed=bool(newest.claimed),
        rule=parse_rule(newest.rule) if newest.rule else None,
        rule_number=newest.rule_number,
        versions=tuple(_version(tx, row) for row in reversed(rows)),
    )


def _version(tx: Transaction, row: AnyRow) -> Version:
    content = Sale.model_validate_json(tx.vault.decrypt(row.content))
    return Version(row.number, row.seen_at, row.source, content)
