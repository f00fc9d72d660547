"""The page on which a cafe forgets a customer of its own: who, what goes, and a key once more before it goes.

Owns the page; what belongs to a person and how it is erased is the desk's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.clock import MINUTE
from connectors.domain.connection import Business, Connection
from connectors.domain.person import Reference
from connectors.services import PersonCount, Refusal
from connectors.services.people import reference_from
from connectors.store.errors import StoreError
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import NotHere, Pages, Visit
from connectors.web.console.keeping import confirmed

pages = Pages()

_PATIENCE = 20.0


@pages.get("/connections/{connection}/forget")
async def forget_page(visit: Visit) -> Response:
    return _page(visit, (await visit.overview()).connection)


def _page(
    visit: Visit,
    one: Connection,
    *,
    person: str = "",
    found: PersonCount | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    return visit.page(
        "forget.html",
        422 if errors else 200,
        one=one,
        person=person,
        counts=found.counts if found is not None else None,
        errors=errors or {},
        form=visit.form,
    )


@pages.post("/connections/{connection}/forget")
async def forget(visit: Visit) -> Response:
    """Count what there is of somebody; with what was counted sent back and a key, erase it."""
    overview = await visit.overview()
    sealed = visit.form.get("person")
    try:
        if sealed:
            return await _erase(visit, overview.connection, overview.business, sealed)
        return await _count(visit, overview.connection, overview.business)
    except (Refusal, TooMany) as error:
        return _page(visit, overview.connection, errors={"who": visit.why(error)})


async def _count(visit: Visit, one: Connection, business: Business) -> Response:
    visit.console.gate.search(visit.me)
    given = reference_from(visit.form.get("who"), one.account.country)
    work = _start(visit, business, visit.services.people.count_person(given, business, _nothing))
    done, _ = await asyncio.wait([work], timeout=_PATIENCE)
    if not done:
        work.cancel()
    found = work.result() if done else None
    until = visit.words.now + 15 * MINUTE
    sealed = visit.host.store.vault.encrypt(json.dumps(["forget", one.id, until, *given]))
    return _page(visit, one, person=sealed if found is None or found.counts else "", found=found)


async def _erase(visit: Visit, one: Connection, business: Business, sealed: str) -> Response:
    given = _opened(visit, one, sealed)
    if wrong := await confirmed(visit, one):
        return _page(visit, one, person=sealed, errors={"secret": wrong})
    work = _start(visit, business, visit.services.people.forget_person(given, business, _nothing))
    done, _ = await asyncio.wait([work], timeout=_PATIENCE)
    if not done:
        said = Message("There is much to look through: it goes on by itself, and the journal says when it is done.")
        return visit.go(f"/connections/{one.id}", said)
    count = work.result().counts.receipts
    return visit.go(f"/connections/{one.id}", Message("forget.done", {"count": count}))


def _opened(visit: Visit, one: Connection, sealed: str) -> Reference:
    """Whom the page before was about. Raises `Refusal` where that was long ago, `NotHere` where it was not ours."""
    try:
        what, whose, until, kind, value = json.loads(visit.host.store.vault.decrypt(sealed))
    except (StoreError, ValueError, TypeError):
        raise NotHere from None
    if (what, whose) != ("forget", one.id):
        raise NotHere
    if until < visit.words.now:
        raise Refusal("that was a while ago: say once more who", field="who")
    return Reference(kind, value)


def _start(visit: Visit, business: Business, work: Coroutine[Any, Any, PersonCount]) -> asyncio.Task[PersonCount]:
    """Begin to look through what a business has, which is done for one customer at a time. Raises `Refusal`."""
    under_way = visit.console.forgetting
    if business.id in under_way:
        work.close()
        raise Refusal("another customer is being looked for just now: try again in a moment", field="who")
    under_way[business.id] = task = asyncio.create_task(work)

    def ended(task: asyncio.Task[PersonCount]) -> None:
        under_way.pop(business.id, None)
        if not task.cancelled():
            task.exception()

    task.add_done_callback(ended)
    return task


async def _nothing(_share: float) -> None:
    return
