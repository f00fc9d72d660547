"""The first page of a business: its connections, the drafts that it has begun, and the tills that can be connected.

Owns what is shown on that page and in which order; connecting itself is `onboarding`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from starlette.responses import Response

from connector_sdk.connector import ConnectorInfo
from connectors.domain.clock import moment
from connectors.domain.connection import UNWELL, Connection
from connectors.plugins import ConformanceResult, checked
from connectors.store import ledger, queries
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.queries.overviews import Overview
from connectors.web.console.localization import zone_of
from connectors.web.console.onboarding import offers_consent
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()


@dataclass(frozen=True, slots=True)
class ConnectedTile:
    """A connection with what it has counted today."""

    overview: Overview
    today: DayTotals


@dataclass(frozen=True, slots=True)
class ConnectorTile:
    """A till that can be connected, `connected` where it is already."""

    info: ConnectorInfo
    needs: str
    """What a cafe must have at hand, in English."""
    connected: bool
    check: ConformanceResult | None
    """The result of our test; `None` where it was not run on this connector."""
    set_aside: bool
    """`True` while it is left alone because reading what tills sent took too long."""


@dataclass(frozen=True, slots=True)
class DraftTile:
    """A draft that can be gone on with; `updated_at` in UTC microseconds."""

    id: str
    info: ConnectorInfo
    updated_at: int


@router.get("/", Role.counter)
async def catalogue(visit: Visit) -> Response:
    """Show what is connected and what can be; the operator has a page of its own instead."""
    if visit.signed_in_session.operator:
        return visit.redirect("/operator")
    if not visit.may("manager"):
        return visit.redirect("/till")
    business_id = visit.principal.business_id
    # one query however many connections there are: this is the page that is loaded most
    overviews = await visit.host.store.read(lambda tx: queries.overviews.overviews(tx, business_id))
    return visit.render(
        "catalogue.html",
        connected=await _connected_tiles(visit, overviews),
        drafts=await _draft_tiles(visit),
        tiles=_connector_tiles(visit, {overview.connection.connector for overview in overviews}),
        needy=next((overview for overview in overviews if _needs_person(overview)), None),
        # only the key that somebody signed in with can take the place of refused ones: a link brings none
        dead=sum(map(_key_refused, overviews)) if visit.principal.key else 0,
    )


def _connector_tiles(visit: Visit, connected_names: Collection[str]) -> list[ConnectorTile]:
    """List the tills that can be connected: first those tried at real cafes, last the one for any till."""
    tiles = [
        ConnectorTile(
            offered.info,
            needs=(not offers_consent(visit, offered.info.name) and offered.info.needs_without_sign_in)
            or offered.info.needs,
            connected=offered.info.name in connected_names,
            check=checked(offered),
            set_aside=visit.host.runner.suspended_for(offered.info.name) > 0,
        )
        for offered in visit.services.offered_connectors()
    ]
    return sorted(tiles, key=lambda tile: (tile.info.named_by_account, bool(tile.info.caution), tile.connected))


def _needs_person(overview: Overview) -> bool:
    return bool(overview.stopped) or overview.connection.health in UNWELL


def _key_refused(overview: Overview) -> bool:
    reason = overview.connection.reason
    return reason is not None and reason.id == "why.key_refused"


async def _connected_tiles(visit: Visit, overviews: Sequence[Overview]) -> list[ConnectedTile]:
    # a venue's day may have begun yesterday by UTC: totals are read from there, and each zone picks its own today
    since = (moment(visit.localizer.now) - timedelta(days=1)).date().isoformat()
    connection_ids = [overview.connection.id for overview in overviews]
    totals = await visit.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, connection_ids, since))
    return [
        ConnectedTile(overview, totals[overview.connection.id].get(_today(visit, overview.connection), DayTotals()))
        for overview in overviews
    ]


def _today(visit: Visit, connection: Connection) -> str:
    """Return the day it is at a connection's venue, as 2026-11-23."""
    return moment(visit.localizer.now).astimezone(zone_of(connection.account.zone)).date().isoformat()


async def _draft_tiles(visit: Visit) -> list[DraftTile]:
    """List the newest draft of each connector that is still installed, oldest first."""
    classes = visit.host.plugins.classes
    # they come newest first; reversed, the newest of each connector is the one that stays
    drafts = await visit.services.drafts.list_begun(visit.owner_id)
    newest = {draft.connector: draft for draft in reversed(drafts) if draft.connector in classes}
    return [DraftTile(draft.id, classes[name].info, draft.updated_at) for name, draft in newest.items()]


@router.get("/my-till", Role.manager)
async def my_till(visit: Visit) -> Response:
    """Tell whoever has a till that is not in the catalogue what can be done."""
    return visit.render("my_till.html")
