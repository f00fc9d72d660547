"""A connection's own pages: is it working, what happened, what needs somebody, and everything that can be changed.

Owns these pages; what each button does is the desk's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.diagnostics import CONTENTS
from connectors.domain.clock import DAY
from connectors.domain.connection import Connection, Health
from connectors.domain.holds import choices_for
from connectors.domain.pauses import FORMER_ADDRESS_LIVES
from connectors.services import Refusal, WrongFields
from connectors.store import connections, ledger, queries
from connectors.store.errors import Taken
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.ledger.operations import Operation
from connectors.store.queries.overviews import Overview
from connectors.sync.previews import forecast
from connectors.web.console import charts, connecting, forms, searching
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import Form, NotHere, Pages, Visit

pages = Pages()

_DAYS = 14
_LINES = 20
_SYNC_PATIENCE = 20.0
_EXPIRES_SOON = 30 * DAY
_QUIET = frozenset({"sale.identifying"})  # what only says that work goes on


# --- the page -------------------------------------------------------------------------------------------------------


@pages.get("/connections/{connection}")
async def connection(visit: Visit) -> Response:
    query = visit.request.query_params.get("q", "").strip()[:120]
    # before everything else: whatever is committed while the page is put together is news to it
    lines = await _lines(visit) if not query else []
    found = await visit.overview()
    one = found.connection
    if visit.request.query_params.get("show") == "without-card":
        waiting = await visit.host.store.read(lambda tx: queries.operations.without_card(tx, one.id))
        return visit.page("without_card.html", one=one, waiting=waiting, number=found.without_card)
    values = await _now(visit, found, lines)
    if visit.request.query_params.get("part") == "now":
        return visit.page("_now.html", **values)
    receipts = None
    if query:
        wanted = searching.terms(
            query,
            zone=visit.words.zone,
            now=visit.words.now,
            currency=one.account.currency,
            country=one.account.country,
            locale=visit.words.locale,
        )
        receipts = await visit.host.store.read(lambda tx: queries.receipts.search(tx, one, wanted))
    return visit.page(
        "connection.html", **{**values, "query": query, "receipts": receipts, "most": queries.operations.MOST}
    )


async def _lines(visit: Visit) -> list[ledger.journal.JournalLine]:
    """The newest lines of the journal, or those before the one that the address names."""
    wanted, upto = visit.path["connection"], _before(visit)
    return await visit.host.store.read(
        lambda tx: ledger.journal.of_connection(tx, wanted, before=upto, limit=_LINES * 2)
    )


def _before(visit: Visit) -> int | None:
    before = visit.request.query_params.get("before", "")
    return int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None


async def _now(visit: Visit, found: Overview, newest: list[ledger.journal.JournalLine]) -> dict[str, Any]:
    """What changes while somebody looks, with these lines of the journal."""
    one = found.connection
    today = date.fromisoformat(visit.words.today())
    days = [(today - timedelta(days=ago)).isoformat() for ago in range(_DAYS - 1, -1, -1)]
    counted = (await visit.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, [one.id], days[0])))[one.id]
    waiting = (
        await visit.host.store.read(lambda tx: queries.operations.needing_person(tx, one.id)) if found.stopped else []
    )
    upto = _before(visit)
    shown = [line for line in reversed(newest) if line.message.id not in _QUIET][:_LINES]
    sums = [counted.get(day, DayTotals()) for day in days]
    return {
        "found": found,
        "one": one,
        "title": _till(visit, one),
        "can_consent": visit.services.onboarding.authorise_url(one.connector, "") is not None,
        "today": sums[-1],
        "days": list(zip(days, sums, strict=True)),
        "least": min(day.stamps for day in sums),
        "most": max(day.stamps for day in sums),
        "query": "",
        "chart": charts.fortnight(
            [day.receipts for day in sums], [day.stamps for day in sums], [day.redemptions for day in sums]
        ),
        "waiting": [(operation, choices(operation)) for operation in waiting],
        "lines": shown,
        "older": shown[-1].seq if len(shown) == _LINES else None,
        "before": upto,
        "newest": newest[-1].seq if newest and upto is None else 0,
        "state": _state(visit, found),
        "lacks": _lacks(visit, one),
        "here_it_is": one.connector in visit.host.plugins.classes,
        "expires": one.expires_at if one.expires_at and one.expires_at - visit.words.now < _EXPIRES_SOON else None,
    }


def _lacks(visit: Visit, one: Connection) -> list[str]:
    """The titles of settings that the connector's model, as it is now, finds missing or wrong."""
    found = visit.host.plugins.classes.get(one.connector)
    if found is None:
        return []
    wrong = forms.missing_fields(found.settings_model, visit.services.connections.settings_of(one))
    fields = found.settings_model.model_fields
    return [(fields[name].title if name in fields else None) or name for name in wrong]


def _state(visit: Visit, found: Overview) -> str:
    """Which sentence is true of a connection now, as the template words them."""
    one, now = found.connection, visit.words.now
    connector = visit.host.plugins.classes.get(one.connector)
    polled = connector is None or connector.can("poll")
    if one.health is not Health.active:
        return one.health.value
    if found.paused_until > now:
        return "plan"
    if one.failures:
        return "unanswered"
    if not polled:
        return "pushed"
    if one.last_poll_at is None or one.last_poll_at < one.health_since or found.hints:
        return "reading"
    if found.on_its_way:
        return "sending"
    return "well"


def _till(visit: Visit, one: Connection) -> str:
    found = visit.host.plugins.classes.get(one.connector)
    return found.info.title if found else one.connector


def choices(one: Operation) -> list[tuple[str, Message, bool]]:
    """The buttons that resolve an operation: (what it does, its words, whether it is the one to press first)."""
    return [(choice.action, choice.label, at == 0) for at, choice in enumerate(choices_for(one.state, one.hold))]


_ACTS: Mapping[str, Message] = {
    "retry": Message("It goes out again now."),
    "dismiss": Message("It is left as it is."),
    "acknowledge": Message("Seen, and left as it is."),
}


@pages.post("/connections/{connection}/operations/{operation}/{act}", page="/connections/{connection}")
async def resolve(visit: Visit) -> Response:
    """One of the buttons that resolve an operation."""
    one = (await visit.overview()).connection
    act, operation = visit.path["act"], visit.path["operation"]
    if act not in _ACTS:
        raise NotHere
    back = f"/connections/{one.id}"
    if visit.form.get("receipt"):
        back = f"{back}/receipts/{visit.form.get('receipt')}" if visit.form.get("receipt").isalnum() else back
    try:
        match act:
            case "retry":
                await visit.services.review.retry(one.id, operation)
            case "dismiss":
                await visit.services.review.dismiss(one.id, operation)
            case _:
                await visit.services.review.acknowledge(one.id, operation)
    except Refusal as error:
        return visit.go(back, error.message, "bad")
    return visit.go(back, _ACTS[act])


# --- now ------------------------------------------------------------------------------------------------------------


@pages.post("/connections/{connection}/sync", page="/connections/{connection}")
async def sync(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    back = f"/connections/{one.id}"
    syncs = visit.console.syncs
    if one.id not in syncs:  # however often it is pressed, a till is read once at a time
        syncs[one.id] = work = asyncio.create_task(visit.services.sync.run(one.id))
        work.add_done_callback(lambda task: (syncs.pop(one.id, None), task.cancelled() or task.exception()))
    try:
        result = await asyncio.wait_for(asyncio.shield(syncs[one.id]), _SYNC_PATIENCE)
    except TimeoutError:
        return visit.go(back, Message("Still reading: what it brings shows here as it comes."))
    except Refusal as error:
        return visit.go(back, error.message, "bad")
    if result.get("status"):
        return visit.go(back, Message("The till or 7stamp could not be reached: see below."), "bad")
    return visit.go(back, Message("sync.done", {"count": result["sales_seen"], "changed": result["sales_changed"]}))


@pages.post("/connections/{connection}/pause", page="/connections/{connection}")
async def pause(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    await visit.services.connections.pause(one.id)
    return visit.go(f"/connections/{one.id}", Message("Paused. Nothing is read and nothing is sent."))


@pages.get("/connections/{connection}/resume")
async def resume_page(visit: Visit) -> Response:
    found = await visit.overview()
    if found.connection.health is not Health.paused:
        return visit.go(f"/connections/{found.connection.id}")
    missed = await visit.services.sync.count_since_pause(found.connection)
    return visit.page("resume.html", one=found.connection, missed=missed, plan=await _plan(visit, found.connection))


async def _plan(visit: Visit, one: Connection) -> tuple[int, int | None] | None:
    """Card operations used and allowed this month; `None` where 7stamp does not say so now."""
    try:
        key = visit.host.store.vault.decrypt(one.sevenstamp_key)
        usage = (await visit.console.gate.me(key)).operations
    except (Refusal, TooMany):
        return None
    return usage.used, usage.allowed


@pages.post("/connections/{connection}/resume")
async def resume(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    try:
        await visit.services.connections.resume(one.id, leave_out=visit.form.get("pause") == "leave")
    except Refusal as error:
        return visit.go(f"/connections/{one.id}", error.message, "bad")
    return visit.go(f"/connections/{one.id}", Message("Working again."))


@pages.post("/connections/{connection}/consent", page="/connections/{connection}")
async def authorise_again(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    return await connecting.leave_for_consent(visit, one.connector, connection=one.id)


# --- done, and the first receipt ------------------------------------------------------------------------------------


@pages.get("/connections/{connection}/welcome")
async def welcome(visit: Visit) -> Response:
    found = await visit.overview()
    lamp = await _lamp(visit, found)
    if visit.request.query_params.get("part") == "now":
        return visit.page("_lamp.html", **lamp)
    email = await visit.host.store.read(lambda tx: connections.alerts.email_of(tx, found.connection.id))
    hook = visit.services.connections.hook_url(found.connection)
    info = visit.services.connector_class(found.connection.connector).info
    own = info.hook_address == "connection"
    return visit.page(
        "welcome.html",
        title=info.title,
        attach=info.attach_customer,
        hook=hook if own else None,
        steps=info.hook_steps if own else (),
        email=email,
        mail_set=visit.host.settings.smtp_url is not None,
        errors={},
        **lamp,
    )


async def _lamp(visit: Visit, found: Overview) -> dict[str, Any]:
    """The first receipt since the connection was made, as far as it has come."""
    one = found.connection
    await visit.host.store.write(lambda tx: connections.schedule.poll_soon(tx, one.id))
    first = await visit.host.store.read(lambda tx: queries.receipts.first_closed_since(tx, one.id, one.began_at))
    return {"first": first, "one": one, "unread": found.unread}


@pages.post("/connections/{connection}/email", page="/connections/{connection}/settings")
async def email(visit: Visit) -> Response:
    """Whom to tell when something needs a person."""
    one = (await visit.overview()).connection
    back = f"/connections/{one.id}/{'welcome' if visit.form.get('back') == 'welcome' else 'settings'}"
    try:
        await visit.services.connections.set_alert_email(one.id, visit.form.get("email"), visit.words.language)
    except Refusal as error:
        return await _settings(visit, {"email": visit.words.sentence(error.message)})
    said = Message("We will write there.") if visit.form.get("email").strip() else Message("Nobody is written to.")
    return visit.go(back, said)


# --- rule -----------------------------------------------------------------------------------------------------------


@pages.get("/connections/{connection}/rule")
async def rule_page(visit: Visit) -> Response:
    found = await visit.overview()
    kept = visit.console.parked.take(visit.request.query_params.get("kept", ""), visit.request.url.path)
    visit.form = Form(kept or forms.rule_values(found.rule))
    return await _rule(visit, found, {})


async def _rule(visit: Visit, found: Overview, errors: Mapping[str, str]) -> Response:
    one = found.connection
    recent, menu = await connecting.read_for(visit, one)
    chosen, wrong = forms.rule_from(visit.form, one.account.currency, found.rule)
    made = forecast(recent, chosen, one.account.zone, one.scope)
    return visit.page(
        "rule.html",
        422 if errors else 200,
        one=one,
        form=visit.form,
        menu=connecting.menu_by_category(menu),
        account=one.account,
        errors=errors,
        action=f"/connections/{one.id}/preview",
        info=visit.services.connector_class(one.connector).info,
        **connecting.preview_values(
            visit, made, one.account, visit.services.connector_class(one.connector), await _allowed(visit, one), wrong
        ),
    )


async def _allowed(visit: Visit, one: Connection) -> Mapping[str, Any] | None:
    plan = await _plan(visit, one)
    return {"allowed": plan[1]} if plan else None


@pages.post("/connections/{connection}/preview", page="/connections/{connection}/rule")
async def preview(visit: Visit) -> Response:
    found = await visit.overview()
    one = found.connection
    recent, _ = await connecting.read_for(visit, one)
    chosen, wrong = forms.rule_from(visit.form, one.account.currency, found.rule)
    made = forecast(recent, chosen, one.account.zone, one.scope)
    connector = visit.services.connector_class(one.connector)
    values = connecting.preview_values(visit, made, one.account, connector, None, wrong)
    return visit.page("_preview.html", **values)


@pages.post("/connections/{connection}/rule")
async def rule(visit: Visit) -> Response:
    found = await visit.overview()
    one = found.connection
    chosen, wrong = forms.rule_from(visit.form, one.account.currency, found.rule)
    if wrong:
        return await _rule(visit, found, {name: visit.words.sentence(said) for name, said in wrong.items()})
    try:
        await visit.services.connections.edit(one.id, {}, rule=lambda _account, _current: chosen)
    except Refusal as error:
        return await _rule(visit, found, {error.field or "": visit.words.sentence(error.message)})
    return visit.go(f"/connections/{one.id}", Message("The rule counts for receipts closed from now on."))


# --- settings -------------------------------------------------------------------------------------------------------


@pages.get("/connections/{connection}/settings")
async def settings_page(visit: Visit) -> Response:
    return await _settings(visit, {})


async def _settings(visit: Visit, errors: Mapping[str, str]) -> Response:
    found = await visit.overview()
    one = found.connection
    connector = visit.services.connector_class(one.connector)
    kept = visit.services.connections.settings_of(one)
    if values := visit.console.parked.take(visit.request.query_params.get("kept", ""), visit.request.url.path):
        visit.form = Form(values)
    typed = {
        name: value
        for name, value in forms.settings_from(visit.form, connector, {}).items()
        if not forms.is_secret(connector, name)  # what was refused is not what is kept
    }
    lacks = forms.missing_fields(connector.settings_model, kept)
    there = await visit.host.store.read(lambda tx: connections.registry.of_account(tx, one.connector, one.account.id))
    taken = {
        location.id
        for other in there
        for location in one.account.locations
        if other.id != one.id and other.covers(location.id)
    }
    return visit.page(
        "settings.html",
        422 if errors else 200,
        one=one,
        title=connector.info.title,
        fields=forms.fields_of(connector, {**kept, **typed}),
        lacks={name: visit.words.sentence(said) for name, said in lacks.items()},
        errors=errors,
        form=visit.form,
        taken=taken,
        chosen=set(visit.form.all("location")) or set(one.scope) or {one.id for one in one.account.locations} - taken,
        ending=visit.host.store.vault.decrypt(one.sevenstamp_key)[-4:],
        can_consent=visit.services.onboarding.authorise_url(one.connector, "") is not None,
        own_key=(visit.me.visitor.key or "")[-4:],
        email=await visit.host.store.read(lambda tx: connections.alerts.email_of(tx, one.id)),
        mail_set=visit.host.settings.smtp_url is not None,
        hook=visit.services.connections.hook_url(one) if connector.info.hook_address == "connection" else None,
        teaches=connector.teaching is not None,
    )


@pages.post("/connections/{connection}/settings/{part}", page="/connections/{connection}/settings")
async def settings(visit: Visit) -> Response:
    """One part of the settings, checked before it replaces the old."""
    one = (await visit.overview()).connection
    part = visit.path["part"]
    try:
        match part:
            case "title":
                title = visit.form.get("title").strip()
                if not title:
                    return await _settings(visit, {"title": visit.words.text("Give it a name.")})
                await visit.services.connections.edit(one.id, {}, title=title)
            case "till":
                kept = visit.services.connections.settings_of(one)
                connector = visit.services.connector_class(one.connector)
                shown = {name: value for name, value in kept.items() if not forms.is_secret(connector, name)}
                typed = forms.settings_from(visit.form, connector, shown)
                if all(name in kept and forms.same(kept[name], value) for name, value in typed.items()):
                    return visit.go(f"/connections/{one.id}/settings", Message("Nothing was changed."))
                await visit.services.connections.edit(one.id, typed)
            case "key":
                await _change_key(visit, one)
            case "places":
                chosen = visit.form.all("location")
                if not chosen:
                    return await _settings(visit, {"location": visit.words.text("Choose at least one place.")})
                all_ = {location.id for location in one.account.locations} == set(chosen)
                await visit.services.connections.edit(one.id, {}, locations=[] if all_ else chosen)
            case _:
                raise NotHere
    except WrongFields as error:
        return await _settings(visit, {name: visit.words.sentence(said) for name, said in error.fields.items()})
    except Refusal as error:
        return await _settings(visit, {error.field or part: visit.words.sentence(error.message)})
    except TooMany as error:
        return await _settings(visit, {"key": visit.why(error)})
    except Taken:
        said = visit.words.text("Somebody has connected a place of this till already. Choose other places.")
        return await _settings(visit, {"location": said})
    return visit.go(f"/connections/{one.id}/settings", Message("Saved."))


async def _change_key(visit: Visit, one: Connection) -> None:
    own = visit.me.visitor.key if visit.form.get("use") == "own" else None
    given = own or visit.form.get("key").strip()
    if own is None:
        await visit.console.gate.check_key(visit.request, given, session=visit.me)
    await visit.services.connections.edit(one.id, {}, key=given)


@pages.get("/connections/{connection}/address")
async def address_page(visit: Visit) -> Response:
    """Before an address is renewed: what that does, and until when the old one lives."""
    one = (await visit.overview()).connection
    if visit.services.connector_class(one.connector).info.hook_address != "connection":
        raise NotHere
    lives = timedelta(microseconds=FORMER_ADDRESS_LIVES) // timedelta(hours=1)
    return visit.page("address.html", one=one, hook=visit.services.connections.hook_url(one), hours=lives)


@pages.post("/connections/{connection}/address")
async def renew_address(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    try:
        await visit.services.connections.renew_hook_address(one.id)
    except Refusal as error:
        return visit.go(f"/connections/{one.id}/settings", error.message, "bad")
    return visit.go(f"/connections/{one.id}/address", Message("Here is the new address. Give it to your till."))


# --- what could not be read -----------------------------------------------------------------------------------------


@pages.get("/connections/{connection}/unread")
async def unread_page(visit: Visit) -> Response:
    found = await visit.overview()
    rows = await visit.services.review.list_unread(found.connection.id, queries.operations.MOST)
    titles = {row.where: _title_of(visit, found.connection, row.where) for row in rows}
    connector = visit.host.plugins.classes.get(found.connection.connector)
    teaches = connector is not None and connector.teaching is not None
    return visit.page(
        "unread.html",
        one=found.connection,
        rows=rows,
        titles=titles,
        number=found.unread,
        teaches=teaches,
        days=visit.host.settings.keep_bodies_days,
    )


def _title_of(visit: Visit, one: Connection, where: str) -> str:
    """What the form calls the setting that a reason is about; empty where it has none."""
    found = visit.host.plugins.classes.get(one.connector)
    if found is None or found.teaching is None:
        return ""
    info = found.settings_model.model_fields.get(found.teaching.named(where))
    return (info.title or "") if info is not None else ""


@pages.post("/connections/{connection}/unread")
async def try_again(visit: Visit) -> Response:
    """One of them once more, or all, with the settings as they are now."""
    one = (await visit.overview()).connection
    wanted = visit.form.get("kept")
    if "leave" in visit.form and wanted:
        await visit.services.review.discard_unread(one.id, [wanted])
        return visit.go(f"/connections/{one.id}/unread", Message("It is not kept any more."))
    try:
        again = await visit.services.review.retry_unread(one.id, [wanted] if wanted else None)
    except Refusal as error:
        return visit.go(f"/connections/{one.id}/unread", error.message, "bad")
    if again["still_unread"]:
        said, kind = Message("unread.still", {"count": again["still_unread"], "read": again["read"]}), "bad"
    elif again["asked"]:
        said, kind = Message("The till is asked once more: what it says shows with its receipts."), "good"
    else:
        said, kind = Message("unread.read", {"count": again["read"]}), "good"
    return visit.go(f"/connections/{one.id}/unread", said, kind)


# --- leaving --------------------------------------------------------------------------------------------------------


async def confirmed(visit: Visit, one: Connection) -> str | None:
    """Whoever asks for this shows a key (the operator the password) once more; what is wrong otherwise."""
    try:
        if visit.me.operator:
            await visit.console.gate.check_password(visit.request, visit.form.get("secret"), session=visit.me)
            return None
        me = await visit.console.gate.check_key(visit.request, visit.form.get("secret").strip(), session=visit.me)
    except (Refusal, TooMany) as error:
        return visit.why(error)
    if me.business.id != one.business_id:
        await visit.console.gate.failed(visit.request, "foreign", one.business_id)
        return visit.words.text("This key is of another business.")
    return None


@pages.get("/connections/{connection}/disconnect")
async def disconnect_page(visit: Visit) -> Response:
    found = await visit.overview()
    return visit.page("disconnect.html", one=found.connection, title=_till(visit, found.connection), errors={})


@pages.post("/connections/{connection}/disconnect")
async def disconnect(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    if wrong := await confirmed(visit, one):
        return visit.page("disconnect.html", 422, one=one, title=_till(visit, one), errors={"secret": wrong})
    await visit.services.connections.remove(one.id)
    return visit.go("/", Message("Disconnected. What was given stays on the cards."))


@pages.get("/connections/{connection}/diagnostics")
async def diagnostics_page(visit: Visit) -> Response:
    found = await visit.overview()
    return visit.page("diagnostics.html", one=found.connection, contents=CONTENTS, errors={})


@pages.post("/connections/{connection}/diagnostics")
async def diagnostics(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    if wrong := await confirmed(visit, one):
        return visit.page("diagnostics.html", 422, one=one, contents=CONTENTS, errors={"secret": wrong})
    body = await visit.services.connections.diagnostics(one.id)
    headers = {"Content-Disposition": f'attachment; filename="7stamp-{one.id}.zip"'}
    return Response(body, media_type="application/zip", headers=headers)
