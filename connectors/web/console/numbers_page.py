"""The page of an owner's numbers, and the same as a file for a spreadsheet.

Owns both; what is counted is `connectors.domain.numbers`'.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from datetime import date

from starlette.responses import Response

from connectors.domain.connection import Connection
from connectors.domain.numbers import Counts, Numbers, Period, compared
from connectors.store import queries
from connectors.store.queries.overviews import Overview
from connectors.web.console.charts import chart_of_days
from connectors.web.console.numbers_cache import NumbersKey
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connections/{connection}/numbers", Role.manager)
async def numbers_page(visit: Visit) -> Response:
    """Show a day, a week or a month against the one before."""
    overview = await visit.load_overview()
    connection = overview.connection
    numbers = await _read_numbers(visit, overview)
    return visit.render(
        "numbers.html",
        connection=connection,
        numbers=numbers,
        periods=list(Period),
        places={location.id: location.name for location in connection.account.locations},
        compared=compared,
        few_with_customer=numbers.total.has_few_customers,
        chart=chart_of_days(_receipts(numbers.by_day_before), _receipts(numbers.by_day)),
    )


def _receipts(days: Mapping[str, Counts]) -> list[int]:
    return [counts.receipts for counts in days.values()]


@router.get("/connections/{connection}/numbers.csv", Role.manager)
async def numbers_file(visit: Visit) -> Response:
    """Answer with the days of the page as a file, at most a month of them."""
    overview = await visit.load_overview()
    numbers = await _read_numbers(visit, overview)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(
        (
            "day",
            "receipts",
            "with_customer",
            "without_customer",
            "stamps",
            "vouchers_used",
            "stamps_taken_back",
            "new_cards",
            "rewards",
        )
    )
    for day, counts in numbers.by_day.items():
        rows.writerow(
            (
                day,
                counts.receipts,
                counts.with_customer,
                counts.without_customer,
                counts.stamps,
                counts.vouchers,
                counts.taken_back,
                counts.new_cards,
                counts.rewards,
            )
        )
    name = f"7stamp-{overview.connection.id}-{numbers.period}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


async def _read_numbers(visit: Visit, overview: Overview) -> Numbers:
    connection = overview.connection
    asked = visit.request.query_params.get("period")
    period = Period(asked) if asked in set(Period) else Period.week
    # the venue's day: loading the overview has set the zone
    today = date.fromisoformat(visit.localizer.today())
    key = NumbersKey(connection.id, period, today.isoformat())
    return await visit.console.numbers.numbers(key, lambda: _count(visit, connection, period, today))


async def _count(visit: Visit, connection: Connection, period: Period, today: date) -> Numbers:
    return await visit.host.store.read(lambda tx: queries.numbers.read(tx, connection, period, today))
