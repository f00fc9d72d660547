"""The page of a connection's settings: its name, its till, its 7stamp key, its places, and whom to write to.

Owns the page and which part of it an error is about; each part is checked by `connectors.services.connections` before
it replaces the old.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import UNWELL, Connection
from connectors.services import ConnectorClass, Refusal, SettingValues, WrongFields
from connectors.store import connections
from connectors.store.errors import AlreadyConnected
from connectors.sync.tills import token_fields
from connectors.web.console.onboarding import location_taken, offers_consent
from connectors.web.console.restored_form import restored_form
from connectors.web.console.routing import Router
from connectors.web.console.settings_form import (
    Field,
    build_fields,
    find_wrong_settings,
    same_setting,
    settings_from,
    without_secrets,
)
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_SAVED = Message("Saved.")
_NOTHING_CHANGED = Message("Nothing was changed.")
_WORKING_AGAIN = Message("Working again.")


class _Rejected(Exception):
    """A part of the settings was not typed as it must be: what is wrong with which field."""

    def __init__(self, field: str, text: str) -> None:
        self.errors = {field: text}
        super().__init__(text)


@router.get("/connections/{connection}/settings")
async def settings_page(visit: Visit) -> Response:
    """Show all parts of a connection's settings."""
    return await _settings_page(visit, {})


async def _settings_page(visit: Visit, errors: Mapping[str, str], part: str | None = None) -> Response:
    overview = await visit.load_overview()
    connection = overview.connection
    # a form that was posted and refused is shown as it was typed; one saved before signing in takes its place
    restored = await restored_form(visit)
    if restored.values:
        visit.form = restored
    connector_class = visit.services.connector_class(connection.connector)
    till_values = _till_values(visit, connection, connector_class)
    return visit.render(
        "settings.html",
        422 if errors else 200,
        connection=connection,
        title=visit.localizer.text(connector_class.info.title),
        errors=errors,
        form=visit.form,
        open_parts=_open_parts(connection, part if errors else None, restored.values, lacks=bool(till_values.lacks)),
        fields=till_values.fields,
        lacks=till_values.lacks,
        can_consent=offers_consent(visit, connection.connector),
        teaches=connector_class.teaching is not None,
        **await _location_values(visit, connection),
        **_key_endings(visit, connection),
        watch=await visit.host.store.read(lambda tx: connections.alerts.watch_of(tx, connection.id)),
        mail_set=visit.host.settings.smtp_url is not None,
        hook=_own_address(visit, connection, connector_class),
        has_links=overview.rule.mode.has_links,
        venues=await visit.services.claims.venues(connection),
    )


def _open_parts(connection: Connection, part: str | None, typed: Collection[str], *, lacks: bool) -> set[str]:
    """Return which parts are shown open.

    That is the `part` that was posted and refused, that of the fields that are restored as they were `typed`, and what
    keeps the connection from working.
    """
    shown = {section for name in typed if (section := _section_of_field(name)) is not None}
    if part is not None:
        shown.add(_section(part))
    if connection.health in UNWELL:
        key_refused = connection.reason is not None and connection.reason.id == "why.key_refused"
        shown.add("key" if key_refused else "till")
    return shown | {"till"} if lacks else shown


def _section_of_field(name: str) -> str | None:
    """Return the section that a field of the page is in; `None` for what every form has."""
    return "till" if name.startswith("set.") else _SECTIONS.get(name)


_SECTIONS = {
    "title": "name",
    "key": "key",
    "use": "key",
    "location": "places",
    "consent": "claims",
    "email": "email-card",
}
"""Field to section, apart from those of the till's own settings."""


def _section(part: str) -> str:
    """Return the id of a part's section on the page."""
    return {"title": "name", "email": "email-card"}.get(part, part)


def _key_endings(visit: Visit, connection: Connection) -> dict[str, object]:
    """Return how the connection's key ends, and the key of this session: enough to tell them apart."""
    key = visit.host.store.vault.decrypt(connection.sevenstamp_key)
    return {"ending": key[-4:], "own_key": (visit.principal.key or "")[-4:]}


def _own_address(visit: Visit, connection: Connection, connector_class: ConnectorClass) -> str | None:
    """Return the address that the till is given; `None` where the operator gives one for all cafes, or none is used."""
    if connector_class.info.hook_address != "connection":
        return None
    return visit.services.connections.hook_url(connection)


class _TillValues(NamedTuple):
    """What the template shows of the till's own settings; `lacks` are sentences about stored ones, by their name."""

    fields: Sequence[Field]
    lacks: Mapping[str, str]


def _till_values(visit: Visit, connection: Connection, connector_class: ConnectorClass) -> _TillValues:
    stored = visit.services.connections.settings_of(connection)
    # a secret that was refused is not the one that is kept: its ending must not be shown
    typed = without_secrets(connector_class, settings_from(visit.form, connector_class, {}))
    wrong = find_wrong_settings(connector_class.settings_model, stored)
    # who consented need not see where a token would be pasted
    tokens = token_fields(connector_class)
    fields = build_fields(connector_class, {**stored, **typed}, str(visit.localizer.locale))
    return _TillValues(
        [field for field in fields if connection.grant is None or field.name not in tokens],
        {name: visit.localizer.sentence(message) for name, message in wrong.items()},
    )


async def _location_values(visit: Visit, connection: Connection) -> dict[str, object]:
    """Return which locations other connections of the account have, and which are chosen here."""
    connector, account = connection.connector, connection.account
    joined = await visit.host.store.read(lambda tx: connections.registry.of_account(tx, connector, account.id))
    # a connection does not take its own places away from itself
    others = [other for other in joined if other.id != connection.id]
    all_ids = {location.id for location in account.locations}
    taken = {location_id for location_id in all_ids if any(other.covers(location_id) for other in others)}
    chosen = set(visit.form.all("location")) or set(connection.scope) or all_ids - taken
    return {"taken": taken, "chosen": chosen}


@router.post("/connections/{connection}/settings/{part}", page="/connections/{connection}/settings")
async def save_settings(visit: Visit) -> Response:
    """Check one part of the settings and let it replace the old."""
    connection = (await visit.load_overview()).connection
    part = visit.path_params["part"]
    if part not in _SAVERS:
        raise PageNotFound
    try:
        notice = await _SAVERS[part](visit, connection)
    except (_Rejected, Refusal, TooManyAttempts, AlreadyConnected) as error:
        return await _settings_page(visit, _part_errors(visit, part, error), part)
    return visit.redirect(f"/connections/{connection.id}/settings", notice)


def _part_errors(
    visit: Visit, part: str, error: _Rejected | Refusal | TooManyAttempts | AlreadyConnected
) -> dict[str, str]:
    """Word an error for each field it is about; for the whole part where it is about none."""
    if isinstance(error, _Rejected):
        return error.errors
    if isinstance(error, WrongFields):
        return {name: visit.localizer.sentence(message) for name, message in error.fields.items()}
    if isinstance(error, Refusal):
        return {error.field or part: visit.localizer.sentence(error.message)}
    if isinstance(error, TooManyAttempts):
        return {part: visit.explain(error)}
    return {"location": location_taken(visit)}


async def _save_title(visit: Visit, connection: Connection) -> Message:
    title = visit.form.get("title").strip()
    if not title:
        raise _Rejected("title", visit.localizer.text("Give it a name."))
    await visit.services.connections.edit(connection.id, {}, title=title)
    return _SAVED


async def _save_till(visit: Visit, connection: Connection) -> Message:
    connector_class = visit.services.connector_class(connection.connector)
    stored = visit.services.connections.settings_of(connection)
    # secrets are not handed over as previous values: one that was left empty stays out of the edit
    typed = settings_from(visit.form, connector_class, without_secrets(connector_class, stored))
    if _all_same(stored, typed):
        if connection.health not in UNWELL:
            return _NOTHING_CHANGED
        # the same token once more: a till that refused it by mistake may accept it now
        visit.limit_recheck()
        await visit.services.connections.recheck(connection.id)
        return _WORKING_AGAIN
    await visit.services.connections.edit(connection.id, typed)
    return _SAVED


def _all_same(stored: SettingValues, typed: SettingValues) -> bool:
    return all(name in stored and same_setting(stored[name], value) for name, value in typed.items())


async def _save_key(visit: Visit, connection: Connection) -> Message:
    own_key = visit.principal.key if visit.form.get("use") == "own" else None
    key = own_key or visit.form.get("key").strip()
    if own_key is None:  # the key of this very session is not counted as a try at somebody's
        await visit.console.credentials.check_key(visit.request, key, session=visit.signed_in_session)
    await visit.services.connections.edit(connection.id, {}, key=key)
    return _SAVED


async def _save_places(visit: Visit, connection: Connection) -> Message:
    chosen = visit.form.all("location")
    if not chosen:
        raise _Rejected("location", visit.localizer.text("Choose at least one place."))
    # all of them are stored as none, which covers places that the till gets later
    covers_all = {location.id for location in connection.account.locations} == set(chosen)
    await visit.services.connections.edit(connection.id, {}, locations=[] if covers_all else chosen)
    return _SAVED


async def _save_claims(visit: Visit, connection: Connection) -> Message:
    await visit.services.claims.set_consent(connection, visit.form.get("consent"))
    return _SAVED


_SAVERS: Mapping[str, Callable[[Visit, Connection], Awaitable[Message]]] = {
    "title": _save_title,
    "till": _save_till,
    "key": _save_key,
    "places": _save_places,
    "claims": _save_claims,
}
"""Each part of the settings with what saves it and returns the notice to show."""


@router.post("/connections/{connection}/email", page="/connections/{connection}/settings")
async def save_email(visit: Visit) -> Response:
    """Set whom to tell when something needs a person; an empty address tells nobody."""
    connection = (await visit.load_overview()).connection
    page = "welcome" if visit.form.get("back") == "welcome" else "settings"
    email = visit.form.get("email")
    try:
        weekly = visit.form.get("weekly") == "1" if visit.form.get("has.weekly") else None
        services, language = visit.services, visit.localizer.language
        await services.connections.set_alert_email(connection.id, email, language, weekly=weekly)
    except Refusal as error:
        return await _settings_page(visit, {"email": visit.localizer.sentence(error.message)}, "email")
    notice = Message("No email goes out.")
    if email.strip() and visit.host.settings.smtp_url is None:
        notice = Message("Saved. But no email can be sent yet: ask whoever gave you the address of this console.")
    elif email.strip():
        notice = Message("We will write there.")
    return visit.redirect(f"/connections/{connection.id}/{page}", notice)
