"""The list of a till's receipts: all, or those of a kind or a day, or those that fit what was typed; the newest first.

Owns the page and what its address says.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import groupby
from zoneinfo import ZoneInfo

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.store import queries
from connectors.store.engine import Transaction
from connectors.store.queries.receipts import ListedReceipts, Receipt, ReceiptKind
from connectors.web.console.localization import zone_of
from connectors.web.console.routing import Role, Router
from connectors.web.console.search_terms import SearchContext, parse_terms, span_of_day
from connectors.web.console.visit import Visit

router = Router()

_PER_PAGE = 50
_LONGEST_SEARCH = 120
_MAX_DIGITS = 16
_KIND_WORDS = {
    ReceiptKind.all: Message("All receipts"),
    ReceiptKind.paid: Message("Paid receipts"),
    ReceiptKind.nobody: Message("Without a customer"),
    ReceiptKind.waiting: Message("Waiting for a card"),
    ReceiptKind.refunded: Message("Refunded or removed"),
    ReceiptKind.by_hand: Message("Given by hand"),
}
"""What each kind is called, in the order in which they are offered."""


@router.get("/connections/{connection}/receipts", Role.manager)
async def receipts(visit: Visit) -> Response:
    """List receipts as the address says.

    `kind`, `day` (2026-11-23), to the end of the day `until`, and `behind` the last one of the page before; or those
    of them that fit what was typed, `q`.
    """
    connection = (await visit.load_overview()).connection
    query = visit.request.query_params
    kind = ReceiptKind(query["kind"]) if query.get("kind") in list(ReceiptKind) else ReceiptKind.all
    zone = zone_of(connection.account.zone)
    day = _day(query.get("day", ""), zone)
    until = _day(query.get("until", ""), zone) if day is not None else None
    between = (day[1][0], (until or day)[1][1]) if day is not None else None
    asked = ListedReceipts(kind, between, _behind(query.get("behind", "")))
    typed = query.get("q", "").strip()[:_LONGEST_SEARCH]
    terms = parse_terms(typed, _search_context(visit, connection))

    def read(tx: Transaction) -> list[Receipt]:
        # one more than is shown tells whether there are older ones
        if typed:
            return queries.receipts.search(tx, connection, terms, _PER_PAGE + 1, asked)
        return queries.receipts.listed(tx, connection.id, asked, _PER_PAGE + 1)

    found = await visit.host.store.read(read)
    shown = found[:_PER_PAGE]
    return visit.render(
        "receipts.html",
        connection=connection,
        by_day=_by_day(visit, shown),
        count=len(shown),
        query=typed,
        reads_history=visit.has_history(connection),
        kind=kind,
        kinds={one.value: visit.localizer.text(words.id) for one, words in _KIND_WORDS.items()},
        day=day[0].isoformat() if day is not None else "",
        until=until[0].isoformat() if until is not None and until != day else "",
        is_first=asked.behind is None,
        older=_last(shown) if len(found) > _PER_PAGE else "",
    )


def _search_context(visit: Visit, connection: Connection) -> SearchContext:
    words, account = visit.localizer, connection.account
    return SearchContext(words.zone, words.now, account.currency, account.country, words.locale)


def _day(text: str, zone: ZoneInfo) -> tuple[date, tuple[int, int]] | None:
    """Parse a day from an address, with its beginning and end at the venue (UTC microseconds); `None` for no day."""
    try:
        day = date.fromisoformat(text)
        return day, span_of_day(day, zone)
    except (ValueError, OverflowError):
        return None


def _by_day(visit: Visit, shown: Sequence[Receipt]) -> list[tuple[str, list[Receipt]]]:
    """Group receipts by the venue's day on which they were closed; an empty text for those that are open."""
    localizer = visit.localizer
    days = groupby(shown, key=lambda receipt: localizer.iso_day(receipt.closed_at) if receipt.closed_at else "")
    return [(day, list(receipts)) for day, receipts in days]


def _last(shown: list[Receipt]) -> str:
    return f"{shown[-1].closed_at}.{shown[-1].id}"


def _behind(text: str) -> tuple[int, str] | None:
    closed_at, _, sale_id = text.partition(".")
    if not (closed_at.isascii() and closed_at.isdigit()) or len(closed_at) > _MAX_DIGITS:
        return None
    return int(closed_at), sale_id[:64]
