"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, and_, or_, select, union_all

from connector_sdk.rule import StampRule
from connector_sdk.sale import Customer, Sale
from connectors.domain.connection import Connection
from connectors.store import ledger
from connectors.store.connections.rules import parse_rule
from connectors.store.engine import Transaction
from connectors.store.queries.operations import MOST
from connectors.store.schema import (
    customer_name_table,
    rule_version_table,
    sale_table,
    sale_version_table,
)


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
class SearchTerm:
    """One thing a receipt is searched by: any of what is set; `between` in UTC microseconds."""

    receipt: str | None = None
    paid: int | None = None
    card_ending: str | None = None
    names: tuple[tuple[str, str], ...] = ()
    between: tuple[tuple[int, int], ...] = ()


def search(tx: Transaction, one: Connection, terms: Sequence[SearchTerm], limit: int = MOST) -> list[Receipt]:
    """The newest receipts that fit all terms."""
    if not terms:
        return []
    sides = [_conditions(tx, one, term) for term in terms]
    if not all(sides):
        return []
    # the term that fits fewest receipts leads, each of its meanings by its own index; many cost the same amount
    leading = min(range(len(terms)), key=lambda at: _selectivity(terms[at]))
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


def _selectivity(term: SearchTerm) -> int:
    """How many receipts a term may fit, roughly: a minute or a day, one customer's, a card's ending, an amount."""
    return next((rank for rank, said in enumerate((term.between, term.names, term.card_ending)) if said), 3)


def _conditions(tx: Transaction, one: Connection, term: SearchTerm) -> list[ColumnElement[bool]]:
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
            customer_name_table.c.name_hash == ledger.cards.name_hash(tx, one.business_id, kind, value),
        )
        conditions.append(sale_table.c.customer_hash.in_(named))
        with suppress(ValidationError):  # too long or short to be one: then no till said it either
            who = Customer.model_validate({kind: value})
            conditions.append(
                sale_table.c.customer_hash == ledger.cards.customer_hash(tx, one.connector, one.account.id, who)
            )
    conditions += [and_(sale_table.c.closed_at >= start, sale_table.c.closed_at < end) for start, end in term.between]
    return conditions


def first_closed_since(tx: Transaction, connection_id: str, since: int) -> Receipt | None:
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
class ReceiptDetails:
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


def details(tx: Transaction, connection_id: str, sale_id: str) -> ReceiptDetails | None:
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
    return ReceiptDetails(
        _receipt(row),
        row.location_id,
        row.refunded,
        row.card_id,
        row.wait,
        bool(row.claimed),
        parse_rule(row.rule) if row.rule else None,
        row.rule_number,
        tuple(
            Version(one.number, one.seen_at, one.source, Sale.model_validate_json(tx.vault.decrypt(one.content)))
            for one in reversed(rows)
        ),
    )
