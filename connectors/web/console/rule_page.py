"""The page on which a connection's rule is changed, with a preview beside it.

Owns the page; a changed rule counts for receipts closed from then on, which is `connectors.services.connections`' to
see to.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.numbers import Period, span_of
from connectors.services import Refusal
from connectors.services.sync import MOST_OF_DAYS
from connectors.store.queries.overviews import Overview
from connectors.sync.previews import forecast, forecast_week
from connectors.web.console.posted_form import PostedForm
from connectors.web.console.restored_form import restored_form
from connectors.web.console.routing import Role, Router
from connectors.web.console.rule_form import RuleChoice, rule_from, rule_values
from connectors.web.console.rule_preview import PlanLimit, RulePreview, menu_by_category, preview_page, week_of
from connectors.web.console.rule_words import headline_words, rule_words
from connectors.web.console.till_cache import TillReading
from connectors.web.console.visit import Visit
from connectors.web.console.window_form import window_rows

router = Router()


@router.get("/connections/{connection}/rule", Role.manager)
async def rule_page(visit: Visit) -> Response:
    """Show the rule in force, or the one that was being chosen before signing in again."""
    overview = await visit.load_overview()
    restored = await restored_form(visit)
    visit.form = restored if restored.values else PostedForm(rule_values(overview.rule))
    return await _rule_page(visit, overview, {})


async def _rule_page(visit: Visit, overview: Overview, errors: Mapping[str, str]) -> Response:
    connection = overview.connection
    reading = await visit.console.till_cache.of_connection(visit.services, connection, fresh=True)
    # 7stamp is asked for the plan when the page is opened, and not at every key that is pressed
    plan = await _plan_limit(visit, connection)
    return visit.render(
        "rule.html",
        422 if errors else 200,
        connection=connection,
        form=visit.form,
        menu=menu_by_category(reading.menu),
        account=connection.account,
        errors=errors,
        action=f"/connections/{connection.id}/preview",
        headline="; ".join(headline_words(visit.localizer, overview.rule, connection.account, reading.menu)),
        in_force=rule_words(visit.localizer, overview.rule, connection.account, reading.menu),
        window_rows=window_rows(visit.form),
        preview=await _preview(visit, overview, reading, _choose_rule(visit, overview), plan),
    )


def _choose_rule(visit: Visit, overview: Overview) -> RuleChoice:
    return rule_from(visit.form, overview.connection.account, overview.rule)


async def _plan_limit(visit: Visit, connection: Connection) -> PlanLimit | None:
    plan = await visit.services.plans.of_business(connection.business_id)
    return PlanLimit(plan.allowed) if plan is not None else None


async def _preview(
    visit: Visit, overview: Overview, reading: TillReading, choice: RuleChoice, plan: PlanLimit | None
) -> RulePreview:
    connection = overview.connection
    changes = choice.rule != overview.rule
    account, scope = connection.account, connection.scope
    # the week that the page of numbers has, so that both say the same
    days = span_of(Period.week, date.fromisoformat(visit.localizer.today()))
    week = await visit.services.sync.receipts_of_days(connection, days) if changes else ()
    rules = overview.rule, choice.rule
    return RulePreview(
        forecast(reading.recent, choice.rule, account, scope),
        before=forecast(reading.recent, overview.rule, account, scope) if changes else None,
        week=week_of(visit, choice.rule.multipliers, account, scope),
        last_week=forecast_week(week, rules, account, scope, days.days, is_part=len(week) == MOST_OF_DAYS)
        if week
        else None,
        unfinished=bool(choice.errors),
        attach=visit.services.connector_class(connection.connector).info.attach_customer,
        plan=plan,
        read_at=reading.recent.read_at,
    )


@router.post("/connections/{connection}/preview", Role.manager, page="/connections/{connection}/rule")
async def preview(visit: Visit) -> Response:
    """Show the preview alone, for the rule as it is being chosen; the plan is not asked for at every key pressed."""
    overview = await visit.load_overview()
    connection = overview.connection
    reading = await visit.console.till_cache.of_connection(visit.services, connection)
    return preview_page(visit, await _preview(visit, overview, reading, _choose_rule(visit, overview), None))


@router.post("/connections/{connection}/rule", Role.manager)
async def save_rule(visit: Visit) -> Response:
    """Put the chosen rule in force for receipts closed from now on."""
    overview = await visit.load_overview()
    connection = overview.connection
    choice = _choose_rule(visit, overview)
    if choice.errors:
        return await _rule_page(visit, overview, choice.worded(visit))
    try:
        # products are checked against the menu once more: one may have been taken off it meanwhile
        await visit.services.connections.edit(connection.id, {}, rule=lambda _account, _current: choice.rule)
    except Refusal as error:
        return await _rule_page(visit, overview, {error.field or "": visit.localizer.sentence(error.message)})
    notice = Message("The rule counts for receipts closed from now on.")
    return visit.redirect(f"/connections/{connection.id}/rule", notice)
