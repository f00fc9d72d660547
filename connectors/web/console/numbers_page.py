"""The page of an owner's numbers, and the same as a file for a spreadsheet.

Owns both; what is counted is `connectors.domain.numbers`'.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from starlette.responses import Response

from connector_sdk.money import exponent
from connectors.domain.connection import Connection
from connectors.domain.numbers import MOST_DAYS, Counts, Numbers, Period, Span, chosen_span, compared, span_of
from connectors.store import queries
from connectors.web.console.charts import chart_of_days
from connectors.web.console.numbers_cache import NumbersKey
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()

_MOST_MONEY = 10**15


@router.get("/connections/{connection}/numbers", Role.manager)
async def numbers_page(visit: Visit) -> Response:
    """Show a day, a week, a month or chosen days against those before."""
    overview = await visit.load_overview()
    connection = overview.connection
    chosen = _chosen(visit)
    numbers = await _read_numbers(visit, connection, chosen.span)
    return visit.render(
        "numbers.html",
        connection=connection,
        numbers=numbers,
        chosen=chosen,
        periods=[period for period in Period if period is not Period.chosen],
        places={location.id: location.name for location in connection.account.locations},
        compared=compared,
        few_with_customer=numbers.total.has_few_customers,
        chart=chart_of_days(_receipts(numbers.by_day_before), _receipts(numbers.by_day)),
        money=lambda minor: visit.localizer.money(_bounded(minor), connection.account.currency),
        sum_of_money=lambda minor: visit.localizer.sum_of_money(_bounded(minor), connection.account.currency),
        today=visit.localizer.today(),
        errors={"days": chosen.wrong} if chosen.wrong else {},
    )


def _receipts(days: Mapping[str, Counts]) -> list[int]:
    return [counts.receipts for counts in days.values()]


def _bounded(minor: int) -> int:
    # a till may say anything, and no amount of money is larger
    return max(-_MOST_MONEY, min(_MOST_MONEY, minor))


_COLUMNS: Mapping[str, Callable[[Counts], object]] = {
    "receipts": lambda counts: counts.receipts,
    "with_customer": lambda counts: counts.with_customer,
    "without_customer": lambda counts: counts.without_customer,
    "stamps": lambda counts: counts.stamps,
    "vouchers_used": lambda counts: counts.vouchers,
    "stamps_taken_back": lambda counts: counts.taken_back,
    "new_cards": lambda counts: counts.new_cards,
    "rewards": lambda counts: counts.rewards,
}


@router.get("/connections/{connection}/numbers.csv", Role.manager)
async def numbers_file(visit: Visit) -> Response:
    """Answer with the days of the page as a file, at most three months of them."""
    connection = (await visit.load_overview()).connection
    currency = connection.account.currency
    numbers = await _read_numbers(visit, connection, _chosen(visit).span)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("day", *_COLUMNS, "taken", "taken_with_customer", "currency"))
    for day, counts in numbers.by_day.items():
        taken = [_plain(minor, currency) for minor in (counts.taken, counts.taken_with_customer)]
        rows.writerow((day, *(column(counts) for column in _COLUMNS.values()), *taken, currency))
    which = numbers.period if numbers.period is not Period.chosen else f"{numbers.span.days[0]}-{numbers.span.days[-1]}"
    headers = {"Content-Disposition": f'attachment; filename="7stamp-{connection.id}-{which}.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _plain(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-exponent(currency))


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The days that somebody asks for; `first` and `last` as they were typed, and what is `wrong` with them."""

    span: Span
    first: str
    last: str
    wrong: str = ""


def _chosen(visit: Visit) -> _Chosen:
    """Read which days are asked for: those of a period, unless days were chosen that can be counted."""
    query = visit.request.query_params
    # the venue's day: loading the overview has set the zone
    today = date.fromisoformat(visit.localizer.today())
    asked = query.get("period")
    usual = span_of(Period(asked) if asked in set(Period) - {Period.chosen} else Period.week, today)
    first, last = query.get("from", ""), query.get("until", "")
    if not first and not last:
        return _Chosen(usual, "", "")
    try:
        ends = date.fromisoformat(first[:10]), min(date.fromisoformat(last[:10]), today)
    except ValueError:
        return _Chosen(usual, first, last, visit.localizer.text("Say the first day and the last, as in 2026-11-23."))
    try:
        return _Chosen(chosen_span(*ends), first, last)
    except (ValueError, OverflowError):
        most = visit.localizer.text("Choose at most {count} days, the first before the last.", count=MOST_DAYS)
        return _Chosen(usual, first, last, most)


async def _read_numbers(visit: Visit, connection: Connection, span: Span) -> Numbers:
    return await visit.console.numbers.numbers(NumbersKey(connection.id, span), lambda: _count(visit, connection, span))


async def _count(visit: Visit, connection: Connection, span: Span) -> Numbers:
    return await visit.host.store.read(lambda tx: queries.numbers.read(tx, connection, span))
