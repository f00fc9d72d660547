"""The last step of connecting a till: how stamps are earned, with a preview; then the connection is made.

Owns the page and the end of the draft; the checks of a new connection are `connectors.services.onboarding`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import ValidationError
from starlette.responses import Response

from connector_sdk.connector import TillAccount
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.connection import Connection
from connectors.services import ConnectOptions, Refusal, WrongFields
from connectors.store import connections
from connectors.store.connections.drafts import KeyHolder
from connectors.store.engine import Transaction
from connectors.store.errors import AlreadyConnected
from connectors.sync.previews import forecast
from connectors.web.console.draft_samples import recent_sales
from connectors.web.console.onboarding import Onboarding, Step, field_errors, load_onboarding, step_page
from connectors.web.console.posted_form import PostedForm
from connectors.web.console.restored_form import restored_form
from connectors.web.console.routing import Router
from connectors.web.console.rule_form import RuleChoice, chosen_values, like_rule, rule_from, rule_values
from connectors.web.console.rule_preview import PlanLimit, RulePreview, menu_by_category, preview_page, week_of
from connectors.web.console.till_cache import TillReading
from connectors.web.console.visit import PageNotFound, Visit
from connectors.web.console.window_form import window_rows

router = Router()


@dataclass(frozen=True, slots=True)
class _FinishedDraft:
    """A draft in which every step but this one is done."""

    onboarding: Onboarding
    account: TillAccount
    key_holder: KeyHolder
    scope: tuple[str, ...]


async def _load_finished(visit: Visit) -> _FinishedDraft | None:
    """Return the draft of the address, `None` where a step before this one is not done. Raises `PageNotFound`."""
    onboarding = await load_onboarding(visit)
    # checked here once, so that the pages below need not ask again
    content = onboarding.content
    if content.account is None or content.me is None or content.scope is None:
        return None
    return _FinishedDraft(onboarding, content.account, content.me, content.scope)


@router.get("/connect/{draft}/rule")
async def rule_page(visit: Visit) -> Response:
    """Show the rule as it was chosen last; at first one that gives a card to whoever has none."""
    draft = await _load_finished(visit)
    if draft is None:
        return visit.redirect(f"/connect/{visit.path_params['draft']}")
    restored = await restored_form(visit)
    if restored.values or draft.onboarding.content.rule:
        visit.form = restored if restored.values else PostedForm(draft.onboarding.content.rule or {})
        return await _rule_page(visit, draft)
    like = await _find_other_rule(visit, draft)
    visit.form = PostedForm(rule_values(like.rule if like else StampRule(unknown_customer=UnknownCustomer.issue)))
    return await _rule_page(visit, draft, like=like.title if like else "")


@dataclass(frozen=True, slots=True)
class _OtherRule:
    """The rule of another till of the business, as it can be here, and that till's name."""

    rule: StampRule
    title: str


async def _find_other_rule(visit: Visit, draft: _FinishedDraft) -> _OtherRule | None:
    """Return the rule of the newest till that the business has connected; `None` where none fits."""

    def read(tx: Transaction) -> list[_OtherRule]:
        joined = connections.registry.list_all(tx, draft.key_holder.business.id)
        versions = connections.rules.of_connections(tx, [one.id for one in joined])
        found = ((one.title, like_rule(versions[one.id][-1].rule, draft.account)) for one in joined if versions[one.id])
        return [_OtherRule(rule, title) for title, rule in found if rule is not None]

    rules = await visit.host.store.read(read)
    return rules[-1] if rules else None


async def _rule_page(
    visit: Visit, draft: _FinishedDraft, errors: Mapping[str, str] | None = None, like: str = ""
) -> Response:
    reading, choice = await _read_till(visit, draft), _choose_rule(visit, draft)
    return step_page(
        visit,
        draft.onboarding,
        Step.rule,
        errors=errors,
        like=like,
        menu=menu_by_category(reading.menu),
        account=draft.account,
        action=f"{draft.onboarding.address}/preview",
        window_rows=window_rows(visit.form),
        preview=_preview(visit, draft, reading, choice),
    )


def _choose_rule(visit: Visit, draft: _FinishedDraft) -> RuleChoice:
    return rule_from(visit.form, draft.account, StampRule())


def _preview(visit: Visit, draft: _FinishedDraft, reading: TillReading, choice: RuleChoice) -> RulePreview:
    return RulePreview(
        forecast(reading.recent, choice.rule, draft.account, draft.scope),
        unfinished=bool(choice.errors),
        attach=draft.onboarding.info.attach_customer,
        week=week_of(visit, choice.rule.multipliers, draft.account, draft.scope),
        plan=PlanLimit(draft.key_holder.operations.allowed),
        read_at=reading.recent.read_at,
    )


async def _read_till(visit: Visit, draft: _FinishedDraft) -> TillReading:
    """Read the till's newest receipts and menu; of one that only sends, take the receipts that it sent meanwhile."""
    reading = await visit.console.till_cache.of_draft(visit.services, draft.onboarding.draft, draft.account)
    if reading.recent.source != "nothing":
        return reading
    return replace(reading, recent=await recent_sales(visit, draft.onboarding))


@router.post("/connect/{draft}/back", page="/connect/{draft}/rule")
async def back(visit: Visit) -> Response:
    """Save what was chosen and go to the step before."""
    onboarding = await load_onboarding(visit)
    await _save_choice(visit, onboarding)
    return visit.redirect(f"{onboarding.address}/where")


@router.post("/connect/{draft}/preview", page="/connect/{draft}/rule")
async def preview(visit: Visit) -> Response:
    """Save the rule as it is being chosen and show the preview alone."""
    draft = await _load_finished(visit)
    if draft is None:
        raise PageNotFound
    # saved while it is being chosen: whoever comes back tomorrow finds the rule as it was
    await _save_choice(visit, draft.onboarding)
    reading = await _read_till(visit, draft)
    return preview_page(visit, _preview(visit, draft, reading, _choose_rule(visit, draft)))


async def _save_choice(visit: Visit, onboarding: Onboarding) -> None:
    content = onboarding.content.with_rule(chosen_values(visit.form))
    await visit.services.drafts.save(onboarding.draft, content)


@router.post("/connect/{draft}/rule")
async def connect(visit: Visit) -> Response:
    """Check everything once more and make the connection."""
    draft = await _load_finished(visit)
    if draft is None:
        return visit.redirect(f"/connect/{visit.path_params['draft']}")
    choice = _choose_rule(visit, draft)
    if choice.errors:
        return await _rule_page(visit, draft, choice.worded(visit))
    try:
        # hours may have passed since the first step: the till and the key are asked once more
        connection = await _connect(visit, draft, choice.rule)
    except (Refusal, AlreadyConnected) as error:
        return await _rule_page(visit, draft, field_errors(visit, error))
    except ValidationError as error:
        # the till's settings no longer fit its model: the connector was updated while the draft lay here
        wrong = WrongFields(draft.onboarding.info.title, error, "")
        return await _rule_page(visit, draft, field_errors(visit, wrong))
    # only now: a connection that could not be made leaves the draft to go on with
    await visit.services.drafts.discard(draft.onboarding.draft)
    return visit.redirect(f"/connections/{connection.id}/welcome")


async def _connect(visit: Visit, draft: _FinishedDraft, rule: StampRule) -> Connection:
    content = draft.onboarding.content
    return await visit.services.onboarding.connect(
        draft.onboarding.draft.connector,
        content.values,
        content.key or "",
        lambda _account: rule,
        ConnectOptions(
            locations=draft.scope,
            grant=content.given_grant,
            hook_token=content.hook_token,
            sample=content.sample.as_request() if content.sample is not None else None,
        ),
    )
