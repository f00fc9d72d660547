"""A customer's card: how full it is, its vouchers, and what happened with it, here and at 7stamp.

Owns the page, its search, and how receipts and the card's history become one list; how a card is carried on to the next
page is `card_search`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.clock import micros
from connectors.domain.connection import Connection
from connectors.services import Refusal
from connectors.sevenstamp.models import Card, HistoryEvent
from connectors.store import queries
from connectors.store.queries.receipts import Receipt
from connectors.web.console.card_search import FoundCards, customer_path, customer_tokens
from connectors.web.console.routing import Role, Router
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.subscriptions_page import EVENT_WORDS
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_PAGE = "/connections/{connection}/customers"
_RECEIPTS, _ENTRIES, _NEWEST = 50, 50, 10
_ADDED, _TAKEN_BACK = "stamp_added", "stamp_reversed"
_HISTORY_WORDS = {**EVENT_WORDS, _TAKEN_BACK: Message("Stamps were taken back")}
"""What 7stamp's kinds of event are called; one that we do not know is shown as 7stamp spells it."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a card's story: a receipt, or what 7stamp has in the card's history; `at` in UTC microseconds."""

    at: int
    receipt: Receipt | None = None
    event: HistoryEvent | None = None


@dataclass(frozen=True, slots=True)
class _Story:
    """What happened with a card, the newest first; not `whole` where 7stamp did not answer in time."""

    entries: Sequence[_Entry] = ()
    whole: bool = True


def _entries(
    connection: Connection, receipts: Sequence[Receipt], history: Sequence[HistoryEvent], now: int
) -> Iterator[_Entry]:
    """Yield a card's receipts, and what its history tells beside them.

    That stamps came for a receipt is not told again where they are what the receipt says itself, nor of
    receipts that are too old for the list.
    """
    code = connection.receipt_prefix
    added = Counter[str]()
    for event in history:
        added[event.receipt or ""] += event.stamps if event.type == _ADDED else 0
    taken_back = {event.receipt for event in history if event.type == _TAKEN_BACK}
    told = {code + one.receipt_id for one in receipts if added[code + one.receipt_id] == one.earned} - taken_back
    listed = {code + one.receipt_id for one in receipts}
    for receipt in receipts:
        yield _Entry(receipt.closed_at or now, receipt)
    for event in history:
        older = len(receipts) == _RECEIPTS and (event.receipt or "").startswith(code) and event.receipt not in listed
        if event.type != _ADDED or not (event.receipt in told or older):
            yield _Entry(micros(event.at), event=event)


@router.get(_PAGE, Role.manager)
async def customers(visit: Visit) -> Response:
    """Show the search, or the card that the address names."""
    connection = (await visit.load_overview()).connection
    sealed = visit.request.query_params.get("card")
    if not sealed:
        return await _page(visit, connection, FoundCards())
    visit.limit_card_search()  # 7stamp is asked for the card and its history, at each look
    try:
        return await _page(visit, connection, await customer_tokens(visit, connection).look_up(sealed))
    except PageNotFound:
        return await _page(visit, connection, FoundCards())
    except Refusal as error:
        return await _page(visit, connection, FoundCards(), {"who": visit.explain(error)})


async def _page(
    visit: Visit, connection: Connection, shown: FoundCards, errors: Mapping[str, str] | None = None
) -> Response:
    story, newest = _Story(), list[Receipt]()
    if shown.chosen is not None:
        story = await _read_story(visit, connection, shown.chosen.card)
    elif not shown.matches:
        newest = await visit.host.store.read(lambda tx: queries.receipts.newest_with_cards(tx, connection.id, _NEWEST))
    return visit.render(
        "customers.html",
        422 if errors else 200,
        connection=connection,
        shown=shown,
        story=story,
        newest=newest,
        receipt_ids={
            connection.receipt_prefix + one.receipt.receipt_id: one.receipt.id for one in story.entries if one.receipt
        },
        events={kind: visit.localizer.text(words.id) for kind, words in _HISTORY_WORDS.items()},
        errors=errors or {},
        form=visit.form,
        micros=micros,
    )


async def _read_story(visit: Visit, connection: Connection, card: Card) -> _Story:
    receipts = await visit.host.store.read(
        lambda tx: queries.receipts.of_card(tx, connection.id, card.id, card.hint, _RECEIPTS)
    )
    history = await visit.services.review.card_history(connection, card.id)
    entries = _entries(connection, receipts, history or (), visit.localizer.now)
    newest = sorted(entries, key=lambda entry: entry.at, reverse=True)[:_ENTRIES]
    return _Story(newest, history is not None)


@router.post(_PAGE, Role.manager)
async def find(visit: Visit) -> Response:
    """Look a customer's card up by what was typed."""
    connection = (await visit.load_overview()).connection
    tokens = customer_tokens(visit, connection)
    try:
        shown, reference = await tokens.find(visit.form.get("who"))
    except (Refusal, TooManyAttempts) as error:
        return await _page(visit, connection, FoundCards(), {"who": visit.explain(error)})
    if shown.chosen is not None:
        # by a redirect, so that Back leads to the search, and a reload asks nothing twice
        return visit.redirect(customer_path(connection, shown.chosen.token))
    if shown.matches:
        return await _page(visit, connection, shown)
    return await _page(visit, connection, shown, {"who": tokens.why_none(shown, reference)})
