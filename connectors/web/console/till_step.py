"""The first step of connecting a till: its settings are typed, taught or consented to, until they open an account.

Owns the page of settings and how settings become an account in the draft; consent is `consent`'s, teaching
`teaching_page`'s, and the check of the till `connectors.services.checks`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from starlette.responses import Response

from connector_sdk.authorisation import Credentials
from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.teaching import ReadyMade
from connectors.domain.connection import Connection
from connectors.services import ConnectorClass, Refusal, SettingValues
from connectors.store import connections
from connectors.sync.tills import token_fields
from connectors.web.console.draft_samples import check_draft_samples, teaching_view
from connectors.web.console.onboarding import (
    Onboarding,
    Step,
    field_errors,
    load_onboarding,
    offers_consent,
    step_page,
)
from connectors.web.console.posted_form import PostedForm
from connectors.web.console.restored_form import restored_form
from connectors.web.console.routing import Router
from connectors.web.console.settings_form import build_fields, settings_from, settings_typed
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connect/{draft}/authorise")
async def authorise_page(visit: Visit) -> Response:
    """Show the settings of the till, or only what it has sent meanwhile."""
    onboarding = await load_onboarding(visit)
    # the page fetches this part again every few seconds while it waits for the till
    if visit.request.query_params.get("part") == "arrived":
        teaching = await teaching_view(visit, onboarding, onboarding.content.values)
        return visit.render("_arrived.html", draft=onboarding.draft, teaching=teaching)
    visit.form = await restored_form(visit)
    return await _settings_page(visit, onboarding)


async def _settings_page(visit: Visit, onboarding: Onboarding, errors: Mapping[str, str] | None = None) -> Response:
    connector_class = onboarding.connector_class
    ready = _chosen_ready_made(visit, connector_class)
    values = await _shown_values(visit, onboarding, ready)
    return step_page(
        visit,
        onboarding,
        Step.authorise,
        errors=errors,
        fields=build_fields(connector_class, values, str(visit.localizer.locale)),
        oauth=offers_consent(visit, onboarding.draft.connector),
        tokens=token_fields(connector_class),
        # secrets never come back to the browser: what was typed stays here, under a name that the form sends again
        kept=await visit.save_form(visit.request.url.path, visit.form.values) if errors or visit.form.values else "",
        ready_made=connector_class.ready_made,
        ready=ready,
        reads=connector_class.can("poll") or connector_class.can("fetch"),
        teaching=await teaching_view(visit, onboarding, values),
    )


def _chosen_ready_made(visit: Visit, connector_class: ConnectorClass) -> ReadyMade | None:
    name = visit.request.query_params.get("ready", "")
    return next((ready_made for ready_made in connector_class.ready_made if ready_made.name == name), None)


async def _shown_values(visit: Visit, onboarding: Onboarding, ready: ReadyMade | None) -> SettingValues:
    """Merge what the settings may be: each source counts more than those before it."""
    # saved settings count more than a ready-made mapping: whoever has changed a field and looks at another mapping
    # then keeps the change
    saved = onboarding.content.values
    return {
        **await business_defaults(visit, onboarding.connector_class),
        **(ready.settings if ready is not None else {}),
        **saved,
        **settings_from(visit.form, onboarding.connector_class, saved),
    }


async def business_defaults(visit: Visit, connector_class: ConnectorClass) -> dict[str, str]:
    """Return the currency, zone and country that 7stamp knows of the business, where the till's settings ask for them.

    Nothing where nobody signed in with a key, or 7stamp does not answer now: the reader types them instead.
    """
    # most tills say these of themselves: 7stamp is asked only where one does not
    asked = {"currency", "zone", "country"} & connector_class.settings_model.model_fields.keys()
    if not asked or not visit.principal.key:
        return {}
    try:
        business = (await visit.console.credentials.find_key_owner(visit.principal.key)).business
    except (Refusal, TooManyAttempts):
        return {}
    known = {"currency": business.currency, "zone": business.timezone, "country": business.country}
    return {name: known[name] for name in asked if known[name]}


@router.post("/connect/{draft}/authorise")
async def authorise(visit: Visit) -> Response:
    """Try the settings as typed, or save them as they are and go on to teaching."""
    onboarding = await load_onboarding(visit)
    values = await _typed_values(visit, onboarding)
    if visit.form.get("then") == "teach" and onboarding.connector_class.teaching is not None:
        await visit.services.drafts.save(onboarding.draft, onboarding.content.with_values(values))
        return visit.redirect(f"{onboarding.address}/teach")
    tokens = token_fields(onboarding.connector_class)
    if onboarding.content.grant is not None and any(settings_typed(visit.form, name) for name in tokens):
        # a token that is pasted after a consent counts instead of it
        onboarding = _without_grant(onboarding)
    return await join_account(visit, onboarding, values)


def _without_grant(onboarding: Onboarding) -> Onboarding:
    return replace(onboarding, draft=replace(onboarding.draft, content=onboarding.content.with_grant(None)))


async def _typed_values(visit: Visit, onboarding: Onboarding) -> SettingValues:
    """Return the settings as typed now, over those typed before an error, over those of the draft."""
    # the page after an error shows no secrets, so the browser does not send them again: they lie in the form saved then
    parked = PostedForm(await visit.console.saved_forms.take(visit.form.get("kept"), visit.request.url.path))
    before = {**onboarding.content.values, **settings_from(parked, onboarding.connector_class, {})}
    return {**before, **settings_from(visit.form, onboarding.connector_class, before)}


async def join_account(visit: Visit, onboarding: Onboarding, values: SettingValues) -> Response:
    """Try settings, with what the till's consent granted, and go on to the next step.

    That is the connection where there is one already.
    """
    connector, grant = onboarding.draft.connector, onboarding.content.given_grant
    # what a connector makes up (a secret for its hooks) is made up once and saved: it is told to the till
    values = visit.services.checks.with_generated_defaults(connector, values)
    try:
        credentials = Credentials(grant) if grant is not None else None
        account = await visit.services.checks.check_till(connector, values, credentials=credentials)
        await check_draft_samples(visit, onboarding, values)
    except Refusal as error:
        return await _settings_page(visit, onboarding, field_errors(visit, error))
    # a place gives its stamps once: two connections that read it would give them twice
    joined = await visit.host.store.read(lambda tx: connections.registry.of_account(tx, connector, account.id))
    if _leaves_no_location(account, joined):
        return await _already_connected(visit, onboarding, joined)
    content = onboarding.content.with_account(values, account)
    await visit.services.drafts.save(onboarding.draft, content)
    # a draft that has been here before knows its key already: it goes on where it was
    return visit.redirect(onboarding.address if content.me is not None else f"{onboarding.address}/key")


def _leaves_no_location(account: TillAccount, joined: Sequence[Connection]) -> bool:
    """Return whether connections of an account have all its locations; one without a scope has them all."""
    if any(not connection.scope for connection in joined):
        return True
    taken = {location for connection in joined for location in connection.scope}
    return bool(account.locations) and taken >= {location.id for location in account.locations}


async def _already_connected(visit: Visit, onboarding: Onboarding, joined: Sequence[Connection]) -> Response:
    """Go to the connection that the business has of the account; another business's is not shown."""
    own = next((other for other in joined if visit.principal.business_id in (None, other.business_id)), None)
    if own is None:
        text = visit.localizer.text(
            "This till is connected for another business already. Sign in with that business's key and disconnect it "
            "there, or ask whoever runs this installation."
        )
        # what its consent granted is of no use here: the page offers to sign in at another account, or another token
        without_grant = _without_grant(onboarding)
        await visit.services.drafts.save(onboarding.draft, without_grant.content)
        return await _settings_page(visit, without_grant, {"": text})
    await visit.services.drafts.discard(onboarding.draft)
    return visit.redirect(f"/connections/{own.id}", Message("This till is connected already: here it is."))
