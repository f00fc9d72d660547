"""The second step of connecting a till: the 7stamp key, by which the business and its plan are known.

Owns the page; the check of a key and its limits are the sign-in's.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from connectors.services import Refusal
from connectors.sevenstamp.models import Me
from connectors.store.connections.drafts import KeyHolder
from connectors.web.console.onboarding import Onboarding, Step, field_errors, load_onboarding, step_page
from connectors.web.console.restored_form import restored_form
from connectors.web.console.routing import Router
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connect/{draft}/key")
async def key_page(visit: Visit) -> Response:
    """Take the key of this session; whoever comes back to this step chooses another of the same business."""
    onboarding = await load_onboarding(visit)
    # a step that is gone to before its turn sends on to the one whose turn it is
    if onboarding.content.account is None:
        return visit.redirect(onboarding.address)
    visit.form = await restored_form(visit)
    own_key = visit.principal.key
    # with one key there is nothing to decide
    if own_key and onboarding.content.me is None and not visit.form.values:
        try:
            return await _save(visit, onboarding, own_key, await _check_key(visit, own_key, own=True))
        except (Refusal, TooManyAttempts) as error:
            return await _key_page(visit, onboarding, field_errors(visit, error))
    return await _key_page(visit, onboarding)


async def _key_page(visit: Visit, onboarding: Onboarding, errors: Mapping[str, str] | None = None) -> Response:
    own_key, offered = visit.principal.key, None
    if own_key:
        try:
            offered = await visit.console.credentials.find_key_owner(own_key)
        # the session's own key may be refused by now: the page is shown all the same, for another key
        except (Refusal, TooManyAttempts) as error:
            errors = errors or field_errors(visit, error)
    ending = (own_key or "")[-4:]
    return step_page(visit, onboarding, Step.key, errors=errors, offered=offered, ending=ending)


@router.post("/connect/{draft}/key")
async def save_key(visit: Visit) -> Response:
    """Check the key and save it with who holds it."""
    onboarding = await load_onboarding(visit)
    if onboarding.content.account is None:
        return visit.redirect(onboarding.address)
    own_key = visit.principal.key if visit.form.get("use") == "own" else None
    key = own_key or visit.form.get("key").strip()
    try:
        me = await _check_key(visit, key, own=bool(own_key))
    except (Refusal, TooManyAttempts) as error:
        return await _key_page(visit, onboarding, field_errors(visit, error))
    return await _save(visit, onboarding, key, me)


async def _save(visit: Visit, onboarding: Onboarding, key: str, me: Me) -> Response:
    # the whole answer is stored: a version after this one may read more of it
    holder = KeyHolder.model_validate(me.model_dump(mode="json"))
    content = onboarding.content.with_key(key, holder)
    await visit.services.drafts.save(onboarding.draft, content)
    return visit.redirect(f"{onboarding.address}/where")


async def _check_key(visit: Visit, key: str, *, own: bool) -> Me:
    """Return whose key it is. Raises `Refusal`, `TooManyAttempts`.

    The key of this very session is not counted as a try at somebody's key.
    """
    credentials = visit.console.credentials
    me = await (
        credentials.find_key_owner(key)
        if own
        else credentials.check_key(visit.request, key, session=visit.signed_in_session)
    )
    if visit.principal.business_id not in (None, me.business.id):
        raise Refusal("this key is of another business: sign in with it to connect a till there", field="key")
    return me
