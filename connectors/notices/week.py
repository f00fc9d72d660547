"""A week in a few numbers, as emails and phones tell it.

Owns which numbers they are; counting is `connectors.store.queries.numbers`'.
"""

from __future__ import annotations

from datetime import date, timedelta

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.numbers import Period, compared, span_of
from connectors.store import queries
from connectors.store.engine import Store


async def read_week(store: Store, connection: Connection, day: date) -> dict[str, object]:
    """Return the parameters of a message about the seven days before `day`. Raises `StoreError`."""
    numbers = await store.read(lambda tx: queries.numbers.read(tx, connection, span_of(Period.week, day)))
    total, before = numbers.total, numbers.before
    share = total.share_with_customer
    without = Message("email.week.without", {"count": total.without_customer})
    return {
        "title": connection.title,
        "first": day - timedelta(days=7),
        "last": day - timedelta(days=1),
        "receipts": total.receipts,
        "change": compared(total.receipts, before.receipts, str(before.receipts)),
        "share": "–" if share is None else f"{share} %",
        "stamps": total.stamps,
        "vouchers": total.vouchers,
        "advice": without if total.has_few_customers else "",
    }
