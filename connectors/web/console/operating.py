"""The operator's page: how everything is, by health, queue and plugin, and what to set up once for all cafes.

Owns the page and the links it hands out.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from starlette.responses import Response

from connectors.domain.connection import Health
from connectors.store import access, connections, queries
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Visitor
from connectors.web.console.frame import NotHere, Pages, Visit, Who
from connectors.web.console.gate import link_words

pages = Pages()


@pages.get("/operator", Who.operator)
async def operator(visit: Visit) -> Response:
    search = visit.request.query_params.get("q", "").strip()[:120]
    return await _page(visit, search, None)


async def _page(visit: Visit, search: str, link: str | None) -> Response:
    counts, queues, hooks = await visit.host.store.read(
        lambda tx: (
            queries.installation.health_counts(tx),
            queries.installation.queues(tx),
            queries.installation.last_hooks(tx),
        )
    )
    found = await visit.host.store.read(lambda tx: queries.overviews.overviews(tx, None, search=search, limit=100))
    host = visit.host
    return visit.page(
        "operator.html",
        search=search,
        counts=[(health, counts.get(health, 0)) for health in Health if health is not Health.removed],
        total=sum(counts.values()),
        queues=queues,
        found=found,
        plugins=host.plugins.plugins,
        tills=[_till(visit, name, hooks) for name in sorted(host.plugins.classes)],
        software=version("sevenstamp-connectors"),
        python=platform.python_version(),
        database=str(host.settings.database_file or "PostgreSQL"),
        public_set=bool(host.settings.public_url),
        mail_set=host.settings.smtp_url is not None,
        link=link,
    )


def _till(visit: Visit, name: str, hooks: dict[str, int]) -> dict[str, Any]:
    """A connector's tile for whoever sets it up: the hook address, what to tick, and whether hooks arrive."""
    info = visit.host.plugins.classes[name].info
    return {
        "info": info,
        "shared": info.hook_address == "operator",
        "address": visit.services.connections.shared_hook_url(name),
        "last": hooks.get(name),
        "consent": visit.services.onboarding.authorise_url(name, "") is not None,
    }


@pages.post("/operator/link/{connection}", Who.operator)
async def link(visit: Visit) -> Response:
    """A link by which the business of a connection signs in."""
    wanted, me = visit.path["connection"], visit.me

    def work(tx: Any) -> str:
        one = connections.registry.get(tx, wanted)
        business = connections.businesses.get(tx, one.business_id)
        message = link_words("made", OPERATOR)
        visit.console.gate.log(
            tx, visit.request, EventKind.link_made, message, business_id=business.id, connection_id=one.id
        )
        return access.sessions.make_link(tx, Visitor(business.id, business.name, business.zone, OPERATOR), me)

    if await visit.host.store.read(lambda tx: queries.overviews.overview(tx, wanted)) is None:
        raise NotHere
    token = await visit.host.store.write(work)
    return await _page(visit, "", f"{visit.host.public_url}/link/{token}")
