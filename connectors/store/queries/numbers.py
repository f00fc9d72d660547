"""Receipts counted by day, time, location and whether a customer was attached: what an owner's numbers are made of.

Owns no state; a query goes by an index over when receipts were closed, and its rows are bounded by the days asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import case, func, literal, or_, select

from connectors.domain.clock import DAY, MINUTE, micros
from connectors.domain.connection import Connection
from connectors.domain.numbers import Counts, Numbers, QuarterHour, Span, numbers_of
from connectors.store.engine import Transaction
from connectors.store.inbox import card_totals
from connectors.store.inbox.card_totals import DayOfCards
from connectors.store.ledger import daily_totals
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.schema import sale_table

QUARTER = 15 * MINUTE
"""No time zone is off by less: a quarter of an hour lies within one hour of every venue's clock."""

_MOST_PAID = 10**12


def read(tx: Transaction, connection: Connection, span: Span) -> Numbers:
    """Count the receipts of a connection on some days of the venue, and on those before."""
    first, last = span.before[0], span.days[-1]
    totals = daily_totals.of_days(tx, [connection.id], first)[connection.id]
    cards = card_totals.of_days(tx, connection.business_id, first)
    told = cards or {}
    given = {day: _given_on(totals.get(day, DayTotals()), told.get(day, DayOfCards())) for day in {*totals, *told}}
    receipts = quarter_hours(tx, connection.id, first, last, connection.account.currency)
    return numbers_of(span, receipts, given, connection.account, cards_are_told=cards is not None)


def _given_on(totals: DayTotals, cards: DayOfCards) -> Counts:
    return Counts(
        stamps=totals.stamps,
        vouchers=totals.redemptions,
        taken_back=totals.taken_back,
        new_cards=cards.issued,
        rewards=cards.rewards,
    )


def quarter_hours(
    tx: Transaction, connection_id: str, first_day: str, last_day: str, currency: str
) -> list[QuarterHour]:
    """Count a connection's receipts of some days, both included, and what was taken in a currency."""
    sale = sale_table.c
    # a card without a customer is that of a guest who scanned the receipt
    with_customer = or_(sale.customer_hash.is_not(None), sale.card_id.is_not(None)).label("with_customer")
    quarter = (sale.closed_at // literal(QUARTER)).label("quarter")
    # an amount in another currency cannot be added to these, and one that no receipt has must not overflow the sum
    is_counted = (
        (sale.currency == currency)
        & sale.paid.between(-_MOST_PAID, _MOST_PAID)
        & sale.refunded.between(-_MOST_PAID, _MOST_PAID)
    )
    taken = case((is_counted, sale.paid - sale.refunded), else_=0)
    columns = (sale.day, quarter, sale.location_id, with_customer)
    query = (
        select(*columns, func.count().label("receipts"), func.sum(taken).label("taken"))
        .where(
            sale.connection_id == connection_id,
            # a venue's day begins and ends within a day of that of UTC
            sale.closed_at >= _midnight(first_day) - DAY,
            sale.closed_at < _midnight(last_day) + 2 * DAY,
            sale.day >= first_day,
            sale.day <= last_day,
            sale.status == "closed",
            sale.admitted == 1,
        )
        .group_by(*columns)
    )
    return [
        QuarterHour(
            row.day, row.quarter * QUARTER, row.location_id, bool(row.with_customer), row.receipts, int(row.taken)
        )
        for row in tx.run(query)
    ]


def _midnight(day: str) -> int:
    return micros(datetime.fromisoformat(day).replace(tzinfo=UTC))
