"""The page that takes older receipts in: from which day, what they would come to, and how far it has come.

Owns the page; the work is the command `backfill`, which a host does for whoever asks: it goes on when the page is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date, timedelta

from starlette.responses import Response

from connectors.domain.connection import Connection
from connectors.services import CommandKind, Refusal
from connectors.services.results import ignore
from connectors.services.sync import MOST_DAYS_BACK, HistoryCounts
from connectors.store import host_commands
from connectors.web.console.routing import Role, Router
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_PAGE = "/connections/{connection}/history"
_COUNT_SECONDS = 20.0
_USUAL_DAYS = 30


@router.get(_PAGE, Role.manager)
async def history_page(visit: Visit) -> Response:
    """Ask for the first day, or show how far the last backfill has come."""
    connection = await _read_connection(visit)
    if visit.request.query_params.get("part") == "progress":
        command = await _last(visit, connection)
        return visit.render("_history_progress.html", connection=connection, command=command)
    return await _page(visit, connection)


async def _read_connection(visit: Visit) -> Connection:
    """Return the connection. Raises `PageNotFound` where its till cannot be read, but only sends."""
    connection = (await visit.load_overview()).connection
    if not visit.has_history(connection):
        raise PageNotFound
    return connection


async def _last(visit: Visit, connection: Connection) -> host_commands.HostCommand | None:
    return await visit.host.store.read(lambda tx: host_commands.newest(tx, connection.id, CommandKind.backfill))


async def _page(
    visit: Visit,
    connection: Connection,
    errors: Mapping[str, str] | None = None,
    counts: HistoryCounts | None = None,
    *,
    is_part: bool = False,
) -> Response:
    usual = date.fromisoformat(visit.localizer.today()) - timedelta(days=_USUAL_DAYS)
    return visit.render(
        "history.html",
        422 if errors else 200,
        connection=connection,
        command=await _last(visit, connection),
        since=visit.form.get("since") or usual.isoformat(),
        today=visit.localizer.today(),
        counts=counts,
        is_part=is_part,
        errors=errors or {},
    )


@router.post(f"{_PAGE}/count", Role.manager, page=_PAGE)
async def count(visit: Visit) -> Response:
    """Count what the receipts since a day would come to; nothing is stored or sent."""
    connection, counts = await _read_connection(visit), HistoryCounts()
    try:
        since = _first_day(visit)
        visit.console.history_reads.take(visit.owner_id)  # the till is read for it
        async with asyncio.timeout(_COUNT_SECONDS):
            async for receipt in visit.services.sync.preview_history(connection.id, since, ignore):
                counts.add(receipt)
    except TimeoutError:
        return await _page(visit, connection, counts=counts, is_part=True)
    except (Refusal, TooManyAttempts) as error:
        return await _page(visit, connection, {"since": visit.explain(error)})
    return await _page(visit, connection, counts=counts)


@router.post(f"{_PAGE}/run", Role.manager, page=_PAGE)
async def run(visit: Visit) -> Response:
    """Have the receipts since a day taken in, once at a time."""
    connection = await _read_connection(visit)
    # nobody gives the stamps of other days than those that were counted before their eyes
    if visit.form.get("since") != visit.form.get("counted"):
        return await count(visit)
    try:
        since = _first_day(visit)
        visit.console.history_reads.take(visit.owner_id)
        # one that is under way already is shown as it is
        await visit.services.commands.ask_for_history(connection.id, since)
    except (Refusal, TooManyAttempts) as error:
        return await _page(visit, connection, {"since": visit.explain(error)})
    return visit.redirect(f"/connections/{connection.id}/history")


def _first_day(visit: Visit) -> str:
    """Return the day that was chosen, as 2026-11-23. Raises `Refusal`."""
    try:
        day = date.fromisoformat(visit.form.get("since"))
    except ValueError:
        raise Refusal("Choose a day.") from None
    back = date.fromisoformat(visit.localizer.today()) - day
    if not timedelta(0) <= back <= timedelta(days=MOST_DAYS_BACK):
        raise Refusal("Choose a day that has been, of the last ten years.")
    return day.isoformat()
