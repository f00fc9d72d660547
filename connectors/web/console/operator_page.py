"""The operator's page: how everything is, by health, queue and plugin, and what to set up once for all cafes.

Owns the page and the sign-in links it hands out.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from starlette.responses import Response

from connector_sdk.connector import ConnectorInfo
from connector_sdk.messages import Message
from connectors.domain.connection import Health
from connectors.store import access, connections, queries
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Principal
from connectors.store.engine import Transaction
from connectors.store.queries.installation import HookTimes, Queue
from connectors.sync.hooks import REFUSED_HOOKS
from connectors.web.console.onboarding import offers_consent
from connectors.web.console.routing import Role, Router
from connectors.web.console.security_events import link_message
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_MOST_FOUND = 100


@dataclass(frozen=True, slots=True)
class TillSetup:
    """A connector for whoever sets it up: its hook address, and when a hook last came to it (UTC microseconds)."""

    info: ConnectorInfo
    shared: bool
    """`True` where one address, which the operator sets at the till, serves all cafes."""
    address: str
    last: int | None
    refused: int | None
    """When a hook at the shared address was refused last, where none has been taken since (UTC microseconds)."""
    consent: bool
    """`True` where cafes can sign in at the till."""


@dataclass(frozen=True, slots=True)
class InstallationCounts:
    """How many connections are in each health, what waits in each queue, and when each connector had a hook last."""

    health: Mapping[str, int]
    queues: list[Queue]
    hooks: Mapping[str, HookTimes]

    @classmethod
    def read(cls, tx: Transaction) -> InstallationCounts:
        """Read all of them as they are at one moment."""
        installation = queries.installation
        return cls(installation.health_counts(tx), installation.queues(tx), installation.hook_times(tx, REFUSED_HOOKS))

    @property
    def by_health(self) -> list[tuple[Health, int]]:
        """How many connections are in each health, removed ones left out, in the order of the page."""
        return [(health, self.health.get(health, 0)) for health in Health if health is not Health.removed]


@dataclass(frozen=True, slots=True)
class Installation:
    """The versions and the database of the installation, and which settings it has."""

    software: str
    python: str
    database: str
    public_set: bool
    mail_set: bool

    @classmethod
    def of(cls, visit: Visit) -> Installation:
        """Read the versions and the settings of the visit's host."""
        settings = visit.host.settings
        return cls(
            software=version("sevenstamp-connectors"),
            python=platform.python_version(),
            # a file where there is one: else the database is a server's, whose address holds a password
            database=str(settings.database_file or "PostgreSQL"),
            public_set=bool(settings.public_url),
            mail_set=settings.smtp_url is not None,
        )


@router.get("/operator", Role.operator)
async def operator(visit: Visit) -> Response:
    """Show the installation, and the connections that fit what was searched for."""
    search = visit.request.query_params.get("q", "").strip()[:120]
    return await _page(visit, search=search)


async def _page(visit: Visit, *, search: str = "") -> Response:
    counts = await visit.host.store.read(InstallationCounts.read)
    # the page of a large installation stays short: whoever looks for more searches
    overviews = await visit.host.store.read(
        lambda tx: queries.overviews.overviews(tx, None, search=search, limit=_MOST_FOUND)
    )
    return visit.render(
        "operator.html",
        search=search,
        overviews=overviews,
        counts=counts.by_health,
        total=sum(counts.health.values()),
        queues=counts.queues,
        plugins=visit.host.plugins.plugins,
        tills=[_till_setup(visit, name, counts) for name in sorted(visit.host.plugins.classes)],
        installation=Installation.of(visit),
    )


def _till_setup(visit: Visit, name: str, counts: InstallationCounts) -> TillSetup:
    info = visit.host.plugins.classes[name].info
    times = counts.hooks.get(name, HookTimes())
    return TillSetup(
        info,
        shared=info.hook_address == "operator",
        address=visit.services.connections.shared_hook_url(name),
        last=times.taken,
        refused=times.refused if times.refused is not None and times.refused > (times.taken or 0) else None,
        consent=offers_consent(visit, name),
    )


@router.post("/operator/link/{connection}", Role.operator)
async def make_link(visit: Visit) -> Response:
    """Make a link by which the business of a connection signs in, and show it once."""
    connection_id = visit.path_params["connection"]
    # a removed connection is still stored, but has nobody to let in
    if await visit.host.store.read(lambda tx: queries.overviews.overview(tx, connection_id)) is None:
        raise PageNotFound
    # the link and the event that tells of it are committed together: none is made unseen
    token = await visit.host.store.write(lambda tx: _make_link(tx, visit, connection_id))
    notice = Message("Send this address to the cafe. It signs one device in, once, within ten minutes.")
    return visit.redirect("/operator", notice, secret=f"{visit.host.public_url}/link/{token}")


def _make_link(tx: Transaction, visit: Visit, connection_id: str) -> str:
    connection = connections.registry.get(tx, connection_id)
    business = connections.businesses.get(tx, connection.business_id)
    visit.console.security_events.record(
        tx,
        visit.request,
        EventKind.link_made,
        link_message("made", OPERATOR),
        business_id=business.id,
        connection_id=connection.id,
    )
    return access.sessions.make_link(
        tx, Principal(business.id, business.name, business.zone, OPERATOR), visit.signed_in_session
    )
