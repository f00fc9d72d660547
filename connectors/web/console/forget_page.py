"""The page on which a cafe forgets a customer of its own: who, what goes, and a key once more before it goes.

Owns the page and that one customer of a business is looked for at a time; what belongs to a person and how it is
erased is `connectors.services.people`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TypeAlias

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Business, Connection
from connectors.domain.person import Reference
from connectors.services import PersonCount, Refusal
from connectors.services.people import reference_from
from connectors.web.console.confirmation import confirmation_error
from connectors.web.console.routing import Router
from connectors.web.console.sealed_token import open_token, seal_token
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

Search: TypeAlias = Coroutine[object, None, PersonCount]
"""Looking through what a business has of a customer, begun or not."""

_PATIENCE = 20.0
"""Seconds after which counting is given up, and erasing goes on without anybody waiting for its page."""
_PURPOSE = "forget"


@router.get("/connections/{connection}/forget")
async def forget_page(visit: Visit) -> Response:
    """Ask whom to forget."""
    return _page(visit, (await visit.load_overview()).connection)


def _page(
    visit: Visit,
    connection: Connection,
    *,
    token: str = "",
    person: PersonCount | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response:
    """Render the page; with a token it asks for confirmation, with how much there is where that was counted."""
    return visit.render(
        "forget.html",
        422 if errors else 200,
        connection=connection,
        token=token,
        counts=person.counts if person is not None else None,
        errors=errors or {},
        form=visit.form,
    )


@router.post("/connections/{connection}/forget")
async def forget(visit: Visit) -> Response:
    """Count what there is of somebody; with the token of that count and a key, erase it."""
    overview = await visit.load_overview()
    token = visit.form.get("person")
    try:
        if token:
            return await _erase(visit, overview.connection, overview.business, token)
        return await _count(visit, overview.connection, overview.business)
    except (Refusal, TooManyAttempts) as error:
        return _page(visit, overview.connection, errors={"who": visit.explain(error)})


async def _count(visit: Visit, connection: Connection, business: Business) -> Response:
    # who may ask this of everybody could learn who is a customer: the look-ups of a session are bounded
    visit.limit_card_search()
    reference = reference_from(visit.form.get("who"), connection.account.country)
    task = _start(visit, business, visit.services.people.count_person(reference, business, _ignore_progress))
    done, _ = await asyncio.wait([task], timeout=_PATIENCE)
    if not done:
        task.cancel()  # what takes long to count is counted while it is erased
    person = task.result() if done else None
    # of whom there is nothing, nothing can be erased: no token, and the form asks again
    nobody = person is not None and not person.counts
    token = "" if nobody else seal_token(visit, _PURPOSE, connection, list(reference))
    return _page(visit, connection, token=token, person=person)


async def _erase(visit: Visit, connection: Connection, business: Business, token: str) -> Response:
    reference = _open_reference(visit, connection, token)
    if error := await confirmation_error(visit, connection):
        return _page(visit, connection, token=token, errors={"secret": error})
    task = _start(visit, business, visit.services.people.forget_person(reference, business, _ignore_progress))
    done, _ = await asyncio.wait([task], timeout=_PATIENCE)
    if not done:
        notice = Message("There is much to look through: it goes on by itself, and the journal says when it is done.")
        return visit.redirect(f"/connections/{connection.id}", notice)
    count = task.result().counts.receipts
    return visit.redirect(f"/connections/{connection.id}", Message("forget.done", {"count": count}))


def _open_reference(visit: Visit, connection: Connection, token: str) -> Reference:
    """Return whom the page before was about.

    Raises `Refusal` where that was long ago, `PageNotFound` where the token is not ours.
    """
    opened = open_token(visit, _PURPOSE, connection, token)
    if opened.expired:
        raise Refusal("that was a while ago: say once more who", field="who")
    match opened.content:
        case [str(kind), str(value)]:
            return Reference(kind, value)
    raise PageNotFound


def _start(visit: Visit, business: Business, search: Search) -> asyncio.Task[PersonCount]:
    """Begin to look through what a business has, for one customer at a time. Raises `Refusal`."""
    # looking through everything is costly: one business may not have several going at once
    under_way = visit.console.erasure_tasks
    if business.id in under_way:
        search.close()  # a coroutine that is never awaited would be complained of
        raise Refusal("another customer is being looked for just now: try again in a moment", field="who")
    under_way[business.id] = task = asyncio.create_task(search)

    def end(task: asyncio.Task[PersonCount]) -> None:
        under_way.pop(business.id, None)
        if not task.cancelled():
            task.exception()  # looked at even where nobody waits any more: asyncio would complain of it

    task.add_done_callback(end)
    return task


async def _ignore_progress(_share: float) -> None:
    """Take note of no progress: the page shows none."""
