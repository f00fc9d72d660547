"""The catalogue, and connecting a till: one thing at a time, each checked before the next, kept in a draft.

Owns these pages; checks, previews and the connection itself are the desk's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from pydantic import ValidationError
from starlette.responses import Response

from connector_sdk.connector import Connector, MenuItem, ReadyMade, TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import moment
from connectors.domain.connection import Connection, Health
from connectors.plugins import checked
from connectors.services import Refusal, WrongFields
from connectors.store import access, connections, ledger, queries
from connectors.store.connections.drafts import Draft
from connectors.store.errors import Taken
from connectors.sync.previews import Forecast, RecentReceipts, forecast
from connectors.web.console import forms, samples
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import Form, NotHere, Pages, Visit, Who
from connectors.web.console.words import zone_of

pages = Pages()

MENDING = "mending:"
"""What stands before an owner whose draft is a connection that is taught once more."""
STEPS = ("authorise", "key", "where", "rule")


# --- the catalogue --------------------------------------------------------------------------------------------------


@pages.get("/")
async def catalogue(visit: Visit) -> Response:
    if visit.me.operator:
        return visit.go("/operator")
    business = visit.me.visitor.business_id
    found = await visit.host.store.read(lambda tx: queries.overviews.overviews(tx, business))
    since = (moment(visit.words.now) - timedelta(days=1)).date().isoformat()
    ids = [one.connection.id for one in found]
    days = await visit.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, ids, since))
    begun = await visit.host.store.read(lambda tx: connections.drafts.of_owner(tx, visit.owner))
    classes, offered = visit.host.plugins.classes, visit.services.offered_connectors()
    used = {one.connection.connector for one in found}
    newest = {name: (draft, at) for draft, name, at in reversed(begun) if name in classes}
    needy = [
        one for one in found if one.stopped or one.connection.health in (Health.needs_authorisation, Health.failing)
    ]
    dead = sum(one.connection.reason is not None and one.connection.reason.id == "why.key_refused" for one in found)
    return visit.page(
        "catalogue.html",
        set_aside={name for name in classes if visit.host.runner.suspended_for(name)},
        connected=[(one, _today(visit, one.connection, days[one.connection.id])) for one in found],
        tiles=[one.info for one in sorted(offered, key=lambda one: one.info.name in used)],
        used=used,
        checks={one.info.name: checked(one) for one in offered},
        drafts=[(draft, classes[name].info, at) for name, (draft, at) in newest.items()],
        needy=needy[0] if needy else None,
        titles={name: one.info.title for name, one in classes.items()},
        dead=dead if visit.me.visitor.key else 0,
    )


def _today(
    visit: Visit, one: Connection, days: Mapping[str, ledger.daily_totals.DayTotals]
) -> ledger.daily_totals.DayTotals:
    zone = one.account.zone
    today = moment(visit.words.now).astimezone(zone_of(zone)).date().isoformat()
    return days.get(today, ledger.daily_totals.DayTotals())


@pages.get("/my-till", Who.signed_in)
async def my_till(visit: Visit) -> Response:
    return visit.page("my_till.html")


# --- drafts ---------------------------------------------------------------------------------------------------------


async def draft_of(visit: Visit) -> tuple[Draft, type[Connector[Any]]]:
    wanted, owner = visit.path["draft"], visit.owner
    one = await visit.host.store.read(
        lambda tx: connections.drafts.get(tx, wanted, owner) or connections.drafts.get(tx, wanted, f"{MENDING}{owner}")
    )
    if one is None or one.connector not in visit.host.plugins.classes:
        raise NotHere
    return one, visit.host.plugins.classes[one.connector]


async def keep_draft(visit: Visit, one: Draft, **more: Any) -> None:
    content = {**one.content, **more}
    await visit.host.store.write(lambda tx: connections.drafts.save(tx, one, content))


def _account(one: Draft) -> TillAccount | None:
    return TillAccount.model_validate(one.content["account"]) if "account" in one.content else None


def _next_step(one: Draft) -> str:
    done = {"authorise": "account", "key": "me", "where": "scope"}
    return next((step for step, name in done.items() if name not in one.content), "rule")


def step_page(
    visit: Visit,
    one: Draft,
    found: type[Connector[Any]],
    step: str,
    status: int = 200,
    *,
    template: str = "",
    **more: Any,
) -> Response:
    reached = STEPS.index(_next_step(one))
    kept = {"errors": {}, "form": visit.form} | more
    return visit.page(
        template or f"connect_{step}.html",
        status,
        draft=one,
        info=found.info,
        step=step,
        steps=STEPS,
        reached=reached,
        at=STEPS.index(step),
        **kept,
    )


def _said(visit: Visit, error: Refusal | TooMany | Taken) -> dict[str, str]:
    """What is wrong, by field; under no name where it is about no field."""
    if isinstance(error, WrongFields):
        return {name: visit.words.sentence(message) for name, message in error.fields.items()}
    if isinstance(error, Refusal):
        return {error.field or "": visit.why(error)}
    if isinstance(error, TooMany):
        return {"key": visit.why(error)}
    return {"": visit.words.text("Somebody has connected a place of this till already. Choose other places.")}


@pages.post("/connect/{connector}", page="/")
async def begin(visit: Visit) -> Response:
    name, owner = visit.path["connector"], visit.owner
    if name not in {one.info.name for one in visit.services.offered_connectors()}:
        raise NotHere
    listens = visit.services.connector_class(name).teaching is not None
    draft = await visit.host.store.write(lambda tx: connections.drafts.begin(tx, owner, name, listens=listens))
    return visit.go(f"/connect/{draft}/authorise")


@pages.get("/connect/{draft}")
async def resume(visit: Visit) -> Response:
    one, _ = await draft_of(visit)
    return visit.go(f"/connect/{one.id}/{_next_step(one)}")


@pages.post("/connect/{draft}/discard", page="/")
async def discard(visit: Visit) -> Response:
    one, _ = await draft_of(visit)
    await visit.host.store.write(lambda tx: connections.drafts.delete(tx, one.id, one.owner))
    return visit.go("/")


# --- authorise ------------------------------------------------------------------------------------------------------


@pages.get("/connect/{draft}/authorise")
async def authorise_page(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    if visit.request.query_params.get("part") == "arrived":
        return visit.page("_arrived.html", draft=one, **await samples.shown(visit, one, found))
    visit.form = Form(visit.console.parked.take(visit.request.query_params.get("kept", ""), visit.request.url.path))
    return await _authorise(visit, one, found)


async def _authorise(
    visit: Visit, one: Draft, found: type[Connector[Any]], errors: Mapping[str, str] | None = None
) -> Response:
    typed = forms.settings_from(visit.form, found, one.content.get("values", {}))
    ready = _ready(found, visit.request.query_params.get("ready", ""))
    values = {
        **await usual(visit, found),
        **(ready.settings if ready else {}),
        **one.content.get("values", {}),
        **typed,
    }
    kept = visit.park() if errors or visit.form.values else ""
    return step_page(
        visit,
        one,
        found,
        "authorise",
        422 if errors else 200,
        fields=forms.fields_of(found, values),
        oauth=visit.services.onboarding.authorise_url(one.connector, _return_address(visit)) is not None,
        errors=errors or {},
        kept=kept,
        ready_made=found.ready_made,
        ready=ready,
        reads=found.can("poll") or found.can("fetch"),
        **await samples.shown(visit, one, found, values),
    )


def _ready(found: type[Connector[Any]], wanted: str) -> ReadyMade | None:
    return next((made for made in found.ready_made if made.name == wanted), None)


async def usual(visit: Visit, found: type[Connector[Any]]) -> dict[str, str]:
    """What a till's settings mostly are where they ask for what 7stamp says of the business already."""
    asked = {"currency", "zone", "country"} & found.settings_model.model_fields.keys()
    if not asked or not visit.me.visitor.key:
        return {}
    try:
        business = (await visit.console.gate.me(visit.me.visitor.key)).business
    except (Refusal, TooMany):
        return {}
    known = {"currency": business.currency, "zone": business.timezone, "country": business.country}
    return {name: known[name] for name in asked if known[name]}


@pages.post("/connect/{draft}/authorise")
async def authorise(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    parked = Form(visit.console.parked.take(visit.form.get("kept"), visit.request.url.path))
    before = {**one.content.get("values", {}), **forms.settings_from(parked, found, {})}
    values = {**before, **forms.settings_from(visit.form, found, before)}
    if visit.form.get("then") == "teach" and found.teaching is not None:
        await keep_draft(visit, one, values=values)
        return visit.go(f"/connect/{one.id}/teach")
    return await _joined(visit, one, found, values, None)


async def _joined(
    visit: Visit, one: Draft, found: type[Connector[Any]], values: Mapping[str, Any], expires_at: int | None
) -> Response:
    """The till lets us in with these settings: on to the next step, or to the connection there is already."""
    values = visit.services.checks.with_generated_defaults(one.connector, values)
    try:
        account = await visit.services.checks.check_till(one.connector, values)
        await samples.tried(visit, one, found, values)
    except Refusal as error:
        return await _authorise(visit, one, found, _said(visit, error))
    there = await visit.host.store.read(lambda tx: connections.registry.of_account(tx, one.connector, account.id))
    if _all_taken(account, there):
        mine = [other for other in there if visit.me.visitor.business_id in (None, other.business_id)]
        if mine:
            await visit.host.store.write(lambda tx: connections.drafts.delete(tx, one.id, visit.owner))
            return visit.go(f"/connections/{mine[0].id}", Message("This till is connected already: here it is."))
        said = visit.words.text("This till is connected for another business already.")
        return await _authorise(visit, one, found, {"": said})
    before = _account(one)
    if before is not None and before.id != account.id:  # its places are others
        one = replace(one, content={name: kept for name, kept in one.content.items() if name != "scope"})
    await keep_draft(visit, one, values=dict(values), account=account.model_dump(mode="json"), expires_at=expires_at)
    return visit.go(f"/connect/{one.id}" if "me" in one.content else f"/connect/{one.id}/key")


def _all_taken(account: TillAccount, there: list[Connection]) -> bool:
    taken = {location for other in there for location in other.scope}
    return any(not other.scope for other in there) or (
        bool(account.locations) and taken >= {location.id for location in account.locations}
    )


def _return_address(visit: Visit) -> str:
    return f"{visit.host.public_url}/connect/return"


async def leave_for_consent(visit: Visit, connector: str, **whose: str) -> Response:
    """To the till's own consent page, with a state that only this session can bring back, once."""
    session, content = visit.me, {**whose, "connector": connector}
    state = await visit.host.store.write(lambda tx: access.sessions.ask_consent(tx, session, content))
    address = visit.services.onboarding.authorise_url(connector, f"{_return_address(visit)}?state={state}")
    if address is None:
        raise NotHere
    return visit.go(address)


@pages.post("/connect/{draft}/consent", page="/connect/{draft}/authorise")
async def consent(visit: Visit) -> Response:
    one, _ = await draft_of(visit)
    return await leave_for_consent(visit, one.connector, draft=one.id)


@pages.get("/connect/return")
async def returned(visit: Visit) -> Response:
    """The browser comes back from the till. Nothing is stored but by a good state, a good code and a good check."""
    query = dict(parse_qsl(visit.request.url.query.replace("?", "&")))  # some tills append a second question mark
    state, session = query.get("state", ""), visit.me
    became, content = await visit.host.store.write(lambda tx: access.sessions.use_consent(tx, session, state))
    back = _way_back(content)
    if became != "good":
        return visit.page("consent.html", 400, became=became, back=back, why="", till=_title(visit, content))
    if "error" in query or "code" not in query:
        return visit.page("consent.html", 400, became="refused", back=back, why="", till=_title(visit, content))
    address = f"{_return_address(visit)}?state={state}"
    try:
        values, ends = await visit.services.onboarding.exchange_consent(content["connector"], query, address)
        if "connection" in content:
            return await _authorised_again(visit, content["connection"], values, ends)
    except Refusal as error:
        why = visit.words.sentence(error.message)
        return visit.page("consent.html", 400, became="failed", back=back, why=why, till=_title(visit, content))
    owner = visit.owner
    one = await visit.host.store.read(lambda tx: connections.drafts.get(tx, content["draft"], owner))
    if one is None:
        raise NotHere
    merged = {**one.content.get("values", {}), **values}
    return await _joined(visit, one, visit.host.plugins.classes[one.connector], merged, ends)


async def _authorised_again(visit: Visit, connection_id: str, values: Mapping[str, str], ends: int | None) -> Response:
    found = await visit.host.store.read(lambda tx: queries.overviews.overview(tx, connection_id))
    if found is None or visit.me.visitor.business_id not in (None, found.connection.business_id):
        raise NotHere
    await visit.services.connections.edit(connection_id, values, expires_at=ends)
    return visit.go(f"/connections/{connection_id}", Message("The till lets us in again."))


def _way_back(content: Mapping[str, str]) -> str:
    if "connection" in content:
        return f"/connections/{content['connection']}"
    return f"/connect/{content['draft']}/authorise" if "draft" in content else "/"


def _title(visit: Visit, content: Mapping[str, str]) -> str:
    found = visit.host.plugins.classes.get(content.get("connector", ""))
    return found.info.title if found else ""


# --- key ------------------------------------------------------------------------------------------------------------


@pages.get("/connect/{draft}/key")
async def key_page(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    if "account" not in one.content:
        return visit.go(f"/connect/{one.id}")
    visit.form = Form(visit.console.parked.take(visit.request.query_params.get("kept", ""), visit.request.url.path))
    return await _key(visit, one, found)


async def _key(
    visit: Visit, one: Draft, found: type[Connector[Any]], errors: Mapping[str, str] | None = None
) -> Response:
    offered = None
    if visit.me.visitor.key:
        try:
            offered = await visit.console.gate.me(visit.me.visitor.key)
        except (Refusal, TooMany) as error:
            errors = errors or _said(visit, error)
    ending = (visit.me.visitor.key or "")[-4:]
    return step_page(
        visit, one, found, "key", 422 if errors else 200, offered=offered, ending=ending, errors=errors or {}
    )


@pages.post("/connect/{draft}/key")
async def key(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    if "account" not in one.content:
        return visit.go(f"/connect/{one.id}")
    own = visit.form.get("use") == "own" and visit.me.visitor.key
    given = str(own or visit.form.get("key").strip())
    try:
        gate = visit.console.gate
        me = await (gate.me(given) if own else gate.check_key(visit.request, given, session=visit.me))
        if visit.me.visitor.business_id not in (None, me.business.id):
            raise Refusal("this key is of another business: sign in with it to connect a till there", field="key")
    except (Refusal, TooMany) as error:
        return await _key(visit, one, found, _said(visit, error))
    await keep_draft(visit, one, key=given, me=me.model_dump(mode="json"))
    return visit.go(f"/connect/{one.id}/where")


# --- where ----------------------------------------------------------------------------------------------------------


@pages.get("/connect/{draft}/where")
async def where_page(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    account = _account(one)
    if account is None or "me" not in one.content:
        return visit.go(f"/connect/{one.id}")
    visit.form = Form(visit.console.parked.take(visit.request.query_params.get("kept", ""), visit.request.url.path))
    taken = await _taken(visit, one, account)
    free = [location for location in account.locations if location.id not in taken]
    if len(account.locations) < 2 and not taken:
        await keep_draft(visit, one, scope=[])
        return visit.go(f"/connect/{one.id}/rule")
    return _where(visit, one, found, account, taken, one.content.get("scope") or [location.id for location in free])


def _where(
    visit: Visit,
    one: Draft,
    found: type[Connector[Any]],
    account: TillAccount,
    taken: Mapping[str, str],
    chosen: list[str],
    errors: Mapping[str, str] | None = None,
) -> Response:
    return step_page(
        visit,
        one,
        found,
        "where",
        422 if errors else 200,
        account=account,
        taken=taken,
        chosen=set(chosen),
        me=one.content["me"],
        errors=errors or {},
    )


async def _taken(visit: Visit, one: Draft, account: TillAccount) -> dict[str, str]:
    """Location → the connection of this business that has it, or nothing said where it is another's."""
    mine = one.content["me"]["business"]["id"]
    there = await visit.host.store.read(lambda tx: connections.registry.of_account(tx, one.connector, account.id))
    return {
        location.id: other.id if other.business_id == mine else ""
        for other in there
        for location in account.locations
        if other.covers(location.id)
    }


@pages.post("/connect/{draft}/where")
async def where(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    account = _account(one)
    if account is None or "me" not in one.content:
        return visit.go(f"/connect/{one.id}")
    taken = await _taken(visit, one, account)
    known = {location.id for location in account.locations}
    chosen = [location for location in visit.form.all("location") if location in known]
    if not chosen or any(location in taken for location in chosen):
        said = (
            visit.words.text("Choose at least one place.")
            if not chosen
            else visit.words.text("Somebody has connected a place of this till already. Choose other places.")
        )
        return _where(visit, one, found, account, taken, chosen, {"location": said})
    await keep_draft(visit, one, scope=[] if set(chosen) == known else chosen)
    return visit.go(f"/connect/{one.id}/rule")


# --- rule -----------------------------------------------------------------------------------------------------------


@pages.get("/connect/{draft}/rule")
async def rule_page(visit: Visit) -> Response:
    one, found = await draft_of(visit)
    if _next_step(one) != "rule":
        return visit.go(f"/connect/{one.id}")
    kept = visit.console.parked.take(visit.request.query_params.get("kept", ""), visit.request.url.path)
    first = forms.rule_values(StampRule(unknown_customer=UnknownCustomer.issue))
    visit.form = Form(kept or one.content.get("rule") or first)
    return await _rule(visit, one, found)


def _chosen(form: Form) -> dict[str, list[str]]:
    """What was chosen of a rule, for coming back to it."""
    return {name: given for name, given in form.values.items() if name not in ("proof", "kept")}


@pages.post("/connect/{draft}/back", page="/connect/{draft}/rule")
async def back(visit: Visit) -> Response:
    """To the step before, with what was chosen kept."""
    one, _ = await draft_of(visit)
    await keep_draft(visit, one, rule=_chosen(visit.form))
    return visit.go(f"/connect/{one.id}/where")


async def _rule(
    visit: Visit, one: Draft, found: type[Connector[Any]], errors: Mapping[str, str] | None = None
) -> Response:
    account = _account(one)
    if account is None:
        raise NotHere
    recent, menu = await _recent(visit, one, found, account)
    chosen, wrong = forms.rule_from(visit.form, account.currency, StampRule())
    said = {name: visit.words.sentence(message) for name, message in wrong.items()} if errors is None else errors
    scope = tuple(one.content["scope"])
    me = one.content["me"]
    return step_page(
        visit,
        one,
        found,
        "rule",
        422 if errors else 200,
        menu=menu_by_category(menu),
        account=account,
        errors=said if errors else {},
        action=f"/connect/{one.id}/preview",
        **preview_values(visit, forecast(recent, chosen, account.zone, scope), account, found, me["operations"], wrong),
    )


async def _recent(
    visit: Visit, one: Draft, found: type[Connector[Any]], account: TillAccount
) -> tuple[RecentReceipts, list[MenuItem]]:
    """The till's newest receipts and its menu; of one that only sends, the receipts that it sent meanwhile."""
    values = one.content["values"]
    recent, menu = await visit.console.till_reads.of(
        visit.services, f"{one.id} {account.id}", one.connector, values, account
    )
    return (recent if recent.source != "nothing" else await samples.recent(visit, one, found)), menu


def preview_values(
    visit: Visit,
    made: Forecast,
    account: TillAccount,
    found: type[Connector[Any]],
    plan: Mapping[str, Any] | None,
    wrong: Mapping[str, Message],
) -> dict[str, Any]:
    """What the preview beside a rule shows."""
    return {
        "made": made,
        "unfinished": bool(wrong),
        "attach": found.info.attach_customer,
        "allowed": plan.get("allowed") if plan else None,
        "plan_known": plan is not None,
        "zone": zone_of(account.zone),
    }


def menu_by_category(menu: list[MenuItem]) -> list[tuple[str, str, list[MenuItem]]]:
    """(category id, its name, its products), by name."""
    groups: dict[str, tuple[str, list[MenuItem]]] = {}
    for item in sorted(menu, key=lambda item: item.name.casefold()):
        name = item.category_name or item.category_id or ""
        groups.setdefault(item.category_id or "", (name, []))[1].append(item)
    return sorted(((one, name, items) for one, (name, items) in groups.items()), key=lambda group: group[1].casefold())


@pages.post("/connect/{draft}/preview", page="/connect/{draft}/rule")
async def preview(visit: Visit) -> Response:
    """The preview alone, for the rule as it is being chosen."""
    one, found = await draft_of(visit)
    account = _account(one)
    if account is None or _next_step(one) != "rule":
        raise NotHere
    await keep_draft(visit, one, rule=_chosen(visit.form))
    recent, _ = await _recent(visit, one, found, account)
    chosen, wrong = forms.rule_from(visit.form, account.currency, StampRule())
    made = forecast(recent, chosen, account.zone, tuple(one.content["scope"]))
    plan = one.content["me"]["operations"]
    return visit.page("_preview.html", **preview_values(visit, made, account, found, plan, wrong))


@pages.post("/connect/{draft}/rule")
async def connect(visit: Visit) -> Response:
    """The last step: everything is checked once more and the connection made."""
    one, found = await draft_of(visit)
    account = _account(one)
    if account is None or _next_step(one) != "rule":
        return visit.go(f"/connect/{one.id}")
    chosen, wrong = forms.rule_from(visit.form, account.currency, StampRule())
    if wrong:
        return await _rule(visit, one, found, {name: visit.words.sentence(said) for name, said in wrong.items()})
    try:
        made = await visit.services.onboarding.connect(
            one.connector,
            one.content["values"],
            one.content["key"],
            lambda _account: chosen,
            locations=one.content["scope"],
            expires_at=one.content.get("expires_at"),
            hook_token=one.content.get("hook_token"),
            sample=samples.request_of(one),
        )
    except (Refusal, Taken) as error:
        return await _rule(visit, one, found, _said(visit, error))
    except ValidationError as error:
        return await _rule(visit, one, found, _said(visit, WrongFields(found.info.title, error, "")))
    await visit.host.store.write(lambda tx: connections.drafts.delete(tx, one.id, visit.owner))
    return visit.go(f"/connections/{made.id}/welcome")


async def read_for(visit: Visit, one: Connection) -> tuple[RecentReceipts, list[MenuItem]]:
    """The same for a connection whose rule is edited."""
    return await visit.console.till_reads.of_connection(visit.services, one)
