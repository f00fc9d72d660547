"""Connecting a till step by step: one thing at a time, each checked before the next, saved in a draft.

Owns the order of the steps, and beginning, resuming and discarding a draft; each step's page has a module of its own,
and the draft is stored by `connectors.services.drafts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from starlette.responses import Response

from connector_sdk.authorisation import Consent
from connector_sdk.connector import ConnectorInfo
from connectors.services import ConnectorClass, Refusal, WrongFields
from connectors.store.connections.drafts import Draft, DraftContent
from connectors.store.errors import AlreadyConnected
from connectors.web.console.routing import Router
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()


class Step(StrEnum):
    """A step of connecting a till, in its order; the value is a part of its address."""

    authorise = "authorise"
    """The till's settings are typed, or consent is given; done once they open an account."""
    key = "key"
    """A 7stamp key is given; done once 7stamp takes it."""
    where = "where"
    """The locations that give stamps are chosen; skipped for an account with one."""
    rule = "rule"
    """How stamps are earned is chosen; it ends with the connection being made."""


STEPS = tuple(Step)


@dataclass(frozen=True, slots=True)
class Onboarding:
    """A draft with the connector that it connects."""

    draft: Draft
    connector_class: ConnectorClass

    @property
    def id(self) -> str:
        """The draft's id."""
        return self.draft.id

    @property
    def content(self) -> DraftContent:
        """Everything chosen so far."""
        return self.draft.content

    @property
    def info(self) -> ConnectorInfo:
        """The connector's own title, needs and steps."""
        return self.connector_class.info

    @property
    def address(self) -> str:
        """The page on which the next step of the draft begins."""
        return f"/connect/{self.draft.id}"


async def load_onboarding(visit: Visit) -> Onboarding:
    """Return the draft of the page's address, if the signed-in business has it. Raises `PageNotFound`."""
    draft = await visit.services.drafts.find(visit.owner_id, visit.path_params["draft"])
    if draft is None or draft.connector not in visit.host.plugins.classes:
        raise PageNotFound
    return Onboarding(draft, visit.host.plugins.classes[draft.connector])


def next_step(content: DraftContent) -> Step:
    """Return the first step that is not done."""
    # in the order of the steps: an account that changed may have undone a later one
    if content.account is None:
        return Step.authorise
    if content.me is None:
        return Step.key
    return Step.where if content.scope is None else Step.rule


def step_page(
    visit: Visit,
    onboarding: Onboarding,
    step: Step,
    *,
    errors: Mapping[str, str] | None = None,
    template: str = "",
    **values: object,
) -> Response:
    """Render a step's template with the row of steps above it; with errors the answer is 422."""
    return visit.render(
        template or f"connect_{step}.html",
        422 if errors else 200,
        draft=onboarding.draft,
        info=onboarding.info,
        step=step,
        steps=STEPS,
        reached=STEPS.index(next_step(onboarding.content)),
        errors=errors or {},
        form=visit.form,
        **values,
    )


def field_errors(visit: Visit, error: Refusal | TooManyAttempts | AlreadyConnected) -> dict[str, str]:
    """Word an error for each form field it is about; under the empty name where it is about none."""
    # the most special first: it is a `Refusal` too
    if isinstance(error, WrongFields):
        return {name: visit.localizer.sentence(message) for name, message in error.fields.items()}
    if isinstance(error, Refusal):
        return {error.field or "": visit.explain(error)}
    if isinstance(error, TooManyAttempts):
        return {"key": visit.explain(error)}
    return {"": location_taken(visit)}


def location_taken(visit: Visit) -> str:
    """Word that another connection has a location that was chosen here."""
    return visit.localizer.text("Somebody has connected a place of this till already. Choose other places.")


def offers_consent(visit: Visit, connector: str) -> bool:
    """Return whether the till has a consent page, and the operator an application there."""
    return visit.services.onboarding.authorise_url(connector, Consent("", "", "")) is not None


@router.post("/connect/{connector}", page="/")
async def begin(visit: Visit) -> Response:
    """Begin a draft for one of the connectors that the catalogue offers."""
    connector = visit.path_params["connector"]
    # the catalogue offers only what the operator has set up: a connector may be installed and not work
    if connector not in {offered.info.name for offered in visit.services.offered_connectors()}:
        raise PageNotFound
    draft_id = await visit.services.drafts.begin(visit.owner_id, connector)
    return visit.redirect(f"/connect/{draft_id}/authorise")


@router.get("/connect/{draft}")
async def resume(visit: Visit) -> Response:
    """Go to the first step of a draft that is not done."""
    onboarding = await load_onboarding(visit)
    return visit.redirect(f"{onboarding.address}/{next_step(onboarding.content)}")


@router.post("/connect/{draft}/discard", page="/")
async def discard(visit: Visit) -> Response:
    """Delete a draft."""
    onboarding = await load_onboarding(visit)
    await visit.services.drafts.discard(onboarding.draft)
    return visit.redirect("/")
