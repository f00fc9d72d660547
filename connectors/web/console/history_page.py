"""The page that takes older receipts in: from which day, what they would come to, and how far it has come.

Owns the page; the work is the command `backfill`, which a host does for whoever asks: it goes on when the page is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from datetime import date, timedelta
from urllib.parse import quote

from starlette.responses import Response

from connectors.domain.connection import Connection
from connectors.services import CommandKind, Refusal
from connectors.services.results import ignore
from connectors.services.sync import MOST_DAYS_BACK, HistoryCounts
from connectors.store import host_commands
from connectors.web.console.routing import Role, Router
from connectors.web.console.sealed_token import open_token, seal_token
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_PAGE = "/connections/{connection}/history"
_PURPOSE = "history counted"
_COUNT_SECONDS = 20.0
_USUAL_DAYS = 30


@router.get(_PAGE, Role.manager)
async def history_page(visit: Visit) -> Response:
    """Ask for the first day, or show how far the last backfill has come."""
    connection = await _read_connection(visit)
    if visit.request.query_params.get("part") == "progress":
        command = await _last(visit, connection)
        return visit.render("_history_progress.html", connection=connection, command=command)
    sealed = visit.request.query_params.get("counted")
    return await _page(visit, connection, counted=_open_counts(visit, connection, sealed) if sealed else None)


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted from a day on, `None` where that was a while ago; `is_part` where time ran out."""

    since: str
    counts: HistoryCounts | None
    is_part: bool


def _show_counts(visit: Visit, connection: Connection, since: str, counts: HistoryCounts, *, is_part: bool) -> Response:
    """Go back to the page with what was counted in its address: read anew it counts nothing anew."""
    sealed = quote(seal_token(visit, _PURPOSE, connection, [since, is_part, *astuple(counts)]), safe="")
    return visit.redirect(f"/connections/{connection.id}/history?counted={sealed}")


def _open_counts(visit: Visit, connection: Connection, sealed: str) -> _Counted | None:
    """Return what the address holds, without its numbers where that was a while ago: more was sold since."""
    opened = open_token(visit, _PURPOSE, connection, sealed)
    match opened.content:
        case [str(since), bool(is_part), *numbers]:
            counts = None if opened.expired else HistoryCounts(*(int(str(number)) for number in numbers))
            return _Counted(since, counts, is_part and counts is not None)
    return None


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
    counted: _Counted | None = None,
) -> Response:
    usual = date.fromisoformat(visit.localizer.today()) - timedelta(days=_USUAL_DAYS)
    return visit.render(
        "history.html",
        422 if errors else 200,
        connection=connection,
        command=await _last(visit, connection),
        since=visit.form.get("since") or (counted.since if counted is not None else usual.isoformat()),
        today=visit.localizer.today(),
        counts=counted.counts if counted is not None else None,
        is_part=counted is not None and counted.is_part,
        errors=errors or {},
    )


@router.post(f"{_PAGE}/count", Role.manager, page=_PAGE)
async def count(visit: Visit) -> Response:
    """Count what the receipts since a day would come to; nothing is stored or sent."""
    connection, counts, is_part = await _read_connection(visit), HistoryCounts(), False
    try:
        since = _first_day(visit)
        visit.console.history_reads.take(visit.owner_id)  # the till is read for it
        async with asyncio.timeout(_COUNT_SECONDS):
            async for receipt in visit.services.sync.preview_history(connection.id, since, ignore):
                counts.add(receipt)
    except TimeoutError:
        is_part = True
    except (Refusal, TooManyAttempts) as error:
        return await _page(visit, connection, {"since": visit.explain(error)})
    return _show_counts(visit, connection, since, counts, is_part=is_part)


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
