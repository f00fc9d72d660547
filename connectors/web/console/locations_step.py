"""The third step of connecting a till: which of the account's locations give stamps.

Owns the page and the choice; an account with one location skips it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from starlette.responses import Response

from connector_sdk.connector import TillAccount
from connectors.store import connections
from connectors.store.connections.drafts import KeyHolder
from connectors.web.console.onboarding import Onboarding, Step, load_onboarding, location_taken, step_page
from connectors.web.console.restored_form import restored_form
from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()


@dataclass(frozen=True, slots=True)
class _Choice:
    """The locations to choose from in a draft; `taken` maps a location to the connection that has it.

    The connection's id is empty where it is another business's, of which nothing is told.
    """

    onboarding: Onboarding
    account: TillAccount
    key_holder: KeyHolder
    taken: Mapping[str, str]

    @property
    def free(self) -> list[str]:
        """The ids of the locations that no connection has."""
        return [location.id for location in self.account.locations if location.id not in self.taken]

    def error(self, visit: Visit, chosen: Collection[str]) -> str | None:
        """Return what is wrong with a choice of locations, `None` where nothing is."""
        if not chosen:
            return visit.localizer.text("Choose at least one place.")
        return location_taken(visit) if any(location in self.taken for location in chosen) else None


async def _load_choice(visit: Visit) -> _Choice | Response:
    """Return what can be chosen; an answer instead where the draft is not as far as this step yet."""
    onboarding = await load_onboarding(visit)
    account, key_holder = onboarding.content.account, onboarding.content.me
    if account is None or key_holder is None:
        return visit.redirect(onboarding.address)
    return _Choice(onboarding, account, key_holder, await _taken_locations(visit, onboarding, account, key_holder))


async def _taken_locations(
    visit: Visit, onboarding: Onboarding, account: TillAccount, key_holder: KeyHolder
) -> dict[str, str]:
    connector, business_id = onboarding.draft.connector, key_holder.business.id
    joined = await visit.host.store.read(lambda tx: connections.registry.of_account(tx, connector, account.id))
    return {
        location.id: connection.id if connection.business_id == business_id else ""
        for connection in joined
        for location in account.locations
        if connection.covers(location.id)
    }


@router.get("/connect/{draft}/where")
async def locations_page(visit: Visit) -> Response:
    """Show the locations; where there is nothing to choose, take them all and go on."""
    choice = await _load_choice(visit)
    if isinstance(choice, Response):
        return choice
    visit.form = await restored_form(visit)
    # an account without places, or with one that is free, leaves nothing to choose
    if len(choice.account.locations) < 2 and not choice.taken:
        return await _save_scope(visit, choice.onboarding, ())
    return _locations_page(visit, choice, choice.onboarding.content.scope or choice.free)


def _locations_page(
    visit: Visit, choice: _Choice, chosen: Collection[str], errors: Mapping[str, str] | None = None
) -> Response:
    return step_page(
        visit,
        choice.onboarding,
        Step.where,
        errors=errors,
        account=choice.account,
        taken=choice.taken,
        chosen=set(chosen),
        me=choice.key_holder,
    )


@router.post("/connect/{draft}/where")
async def save_locations(visit: Visit) -> Response:
    """Check the chosen locations and save them; all of them are saved as an empty scope, which covers later ones."""
    choice = await _load_choice(visit)
    if isinstance(choice, Response):
        return choice
    # ids that are not the account's are dropped: a form may have been loaded before the till changed
    known = {location.id for location in choice.account.locations}
    chosen = [location for location in visit.form.all("location") if location in known]
    if error := choice.error(visit, chosen):
        return _locations_page(visit, choice, chosen, {"location": error})
    return await _save_scope(visit, choice.onboarding, () if set(chosen) == known else tuple(chosen))


async def _save_scope(visit: Visit, onboarding: Onboarding, scope: tuple[str, ...]) -> Response:
    await visit.services.drafts.save(onboarding.draft, onboarding.content.with_scope(scope))
    return visit.redirect(f"{onboarding.address}/rule")
