"""Consent at the till's own page, for a draft or to authorise an existing connection again.

Owns the addresses on both ends and the pages of what can go wrong; the state that brings a browser back once is
`connectors.services.consents`', trading it for a grant `connectors.services.onboarding`'s.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl

from starlette.responses import Response

from connector_sdk.authorisation import Grant, Returned
from connector_sdk.messages import Message
from connectors.services import Refusal
from connectors.services.consents import ConsentOutcome, ConsentTarget
from connectors.store import queries
from connectors.web.console.onboarding import Onboarding, load_onboarding
from connectors.web.console.routing import Router
from connectors.web.console.settings_form import find_wrong_settings
from connectors.web.console.till_step import join_account
from connectors.web.console.visit import PageNotFound, Visit

router = Router()


async def leave_for_consent(visit: Visit, target: ConsentTarget) -> Response:
    """Go to the till's consent page, with a state that only this session can bring back, and once.

    Raises `PageNotFound` where the till has no such page.
    """
    consent = await visit.services.consents.begin(visit.signed_in_session, target)
    address = visit.services.onboarding.authorise_url(target.connector, consent)
    if address is None:
        raise PageNotFound
    return visit.redirect(address)


@router.post("/connect/{draft}/consent", page="/connect/{draft}/authorise")
async def ask_consent(visit: Visit) -> Response:
    """Go to the till's consent page for a draft."""
    onboarding = await load_onboarding(visit)
    return await leave_for_consent(visit, ConsentTarget(onboarding.draft.connector, draft=onboarding.id))


@router.get("/connect/return")
async def return_from_consent(visit: Visit) -> Response:
    """Take the browser back from the till: nothing is stored but by a good state, a good code and a good check."""
    query = dict(parse_qsl(visit.request.url.query.replace("?", "&")))  # some tills append a second question mark
    # before anything else: an address that has been opened once brings nobody in again, whatever comes of it
    returned = await visit.services.consents.finish(visit.signed_in_session, query.get("state", ""))
    target = returned.target
    if returned.outcome is not ConsentOutcome.good or target is None:
        return _failed(visit, returned.outcome, target)
    # people who press Deny come back with an error; some tills come back with nothing
    if "error" in query or "code" not in query:
        return _failed(visit, "refused", target)
    try:
        brought = Returned(query, visit.services.consents.redirect_uri, returned.code_verifier)
        grant = await visit.services.onboarding.exchange_consent(target.connector, brought)
        return await _use_grant(visit, target, grant)
    except Refusal as error:
        return _failed(visit, "failed", target, visit.localizer.sentence(error.message))


async def _use_grant(visit: Visit, target: ConsentTarget, grant: Grant) -> Response:
    """Let a connection in by a grant, or store it with a draft, which may need more settings before it opens."""
    if target.connection is not None:
        return await _authorise_connection(visit, target.connection, grant)
    # the draft may have been discarded, or have aged out, while its owner was at the till
    draft = await visit.services.drafts.find(visit.owner_id, target.draft or "")
    if draft is None:
        raise PageNotFound
    # stored before anything is tried: the till gives it once, and what else is missing is no reason to ask again
    content = draft.content.with_grant(grant)
    await visit.services.drafts.save(draft, content)
    onboarding = Onboarding(replace(draft, content=content), visit.host.plugins.classes[draft.connector])
    if find_wrong_settings(onboarding.connector_class.settings_model, content.values):
        return visit.redirect(f"{onboarding.address}/authorise", Message("The till lets us in. What is left:"))
    return await join_account(visit, onboarding, content.values)


async def _authorise_connection(visit: Visit, connection_id: str, grant: Grant) -> Response:
    overview = await visit.host.store.read(lambda tx: queries.overviews.overview(tx, connection_id))
    if overview is None or visit.principal.business_id not in (None, overview.connection.business_id):
        raise PageNotFound
    await visit.services.connections.edit(connection_id, {}, grant=grant)
    return visit.redirect(f"/connections/{connection_id}", Message("The till lets us in again."))


def _failed(visit: Visit, outcome: str, target: ConsentTarget | None, why: str = "") -> Response:
    """Tell what came of a consent that stored nothing, with a link to the page where it was asked for."""
    connector_class = visit.host.plugins.classes.get(target.connector) if target is not None else None
    title = visit.localizer.text(connector_class.info.title) if connector_class is not None else ""
    return visit.render("consent.html", 400, outcome=outcome, back=_page_before(target), why=why, till=title)


def _page_before(target: ConsentTarget | None) -> str:
    if target is not None and target.connection is not None:
        return f"/connections/{target.connection}"
    return f"/connect/{target.draft}/authorise" if target is not None and target.draft is not None else "/"
