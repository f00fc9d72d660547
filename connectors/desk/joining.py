"""Joining a till account to a 7stamp key, and changing that: everything is checked before anything is stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from connector_sdk.connector import CHOSEN, TAUGHT, Connector, MenuItem, OAuth, TillAccount, Token, marked
from connector_sdk.errors import ConnectorError, MissingRight, NotAuthorised, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.rule import StampRule
from connector_sdk.teaching import Sketch, as_texts
from connectors.desk.ground import Ground, nearest
from connectors.desk.refusal import KeyRefused, Refusal, Unfit, WrongFields
from connectors.domain.clock import SECOND
from connectors.domain.connection import Business, Connection
from connectors.domain.secret import DISTINCT, easily_guessed
from connectors.isolation import CallFailed
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Me
from connectors.store import captured, connections, journal, looking
from connectors.store.connections import Edit, NewConnection
from connectors.store.engine import Transaction
from connectors.store.errors import QuotaMet
from connectors.sync.tills import app_settings

_NEAREST = 8
_SAMPLES, _SAMPLE_BYTES = 50, 4 * 1024 * 1024


class Joining(Ground):
    """New connections, their settings, consents and keys."""

    async def add(
        self,
        name: str,
        values: Mapping[str, str],
        key: str,
        rule: Callable[[TillAccount], StampRule],
        *,
        locations: Sequence[str] = (),
        title: str | None = None,
        poll_seconds: int | None = None,
        expires_at: int | None = None,
        hook_token: str | None = None,
        sample: HookRequest | None = None,
    ) -> Connection:
        """Check everything with the till and with 7stamp, then store the connection. Raises `Refusal`.

        `hook_token` is that of an address which the till was given before, `sample` the request that it was taught by.
        """
        found = self.connector(name)
        known_fields(found, values)
        values = self.completed(name, values)
        account = await self.check_till(name, values)
        me = await self.check_key(key)
        business = me.business
        chosen = await self._on_the_menu(name, values, account, rule(account))
        new = NewConnection(
            connector=name,
            account=account,
            business=Business(
                business.id, business.name, business.country, business.currency, business.timezone, business.language
            ),
            title=_title(title or f"{found.info.title} · {account.name}"),
            scope=_scope(account, locations),
            rule=chosen,
            settings={**values, **(found.info.for_categories if chosen.categories else {})},
            sevenstamp_key=key,
            poll_seconds=poll_seconds,
            key_login=me.staff_login,
            expires_at=expires_at,
            hook_token=hook_token,
        )

        def work(tx: Transaction) -> Connection:
            made = connections.add(tx, new)
            if sample is not None:
                captured.keep(tx, made.id, sample, most=1)
            return made

        try:
            return await self._write(work)
        except QuotaMet as error:
            raise Refusal(
                "a business has at most {number} tills here: disconnect one first, or ask the operator for more",
                number=error.most,
            ) from None

    def completed(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with those that the connector makes up itself, so that it makes them up once."""
        model = self.connector(name).settings_model
        try:
            settings = model.model_validate(dict(values))
        except ValidationError:
            return dict(values)  # whoever checks them says what is wrong
        made = (one for one, info in model.model_fields.items() if info.default_factory is not None)
        return {**{one: getattr(settings, one) for one in made}, **values}

    async def check_till(
        self, name: str, values: Mapping[str, Any], before: Mapping[str, Any] | None = None
    ) -> TillAccount:
        """The account that settings open; `before` are those that it has now. Raises `Refusal`, `WrongFields`."""
        found = self.connector(name)
        _hard_to_guess(found, values, before or {})
        title = found.info.title
        where = " ".join(one.where_to_find for one in found.authorisation if isinstance(one, Token))
        try:
            till = self._tills.build(name, values)
        except ValidationError as error:
            raise WrongFields(title, error, where) from None
        try:
            return await till.check()
        except MissingRight as error:
            text = "{title} accepts the token, but it lacks a right: {right}. {where}"
            raise Refusal(text, field=_secret(found), title=title, right=error.right, where=where) from None
        except NotAuthorised:
            raise Refusal(
                "{title} refuses the token. {where}", field=_secret(found), title=title, where=where
            ) from None
        except ConnectorError as error:
            text = "{title} cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, title=title, error=str(error)) from None
        finally:
            await till.aclose()

    async def try_on(self, name: str, values: Mapping[str, Any], samples: Sequence[bytes], *, tenant: str) -> None:
        """See that settings make a sale of at least one of some requests of the till.

        Raises `Unfit`, by the first; `Refusal` where they cost too much to read.
        """
        found = self.connector(name)
        teaching = self._runner.teaching(found, tenant=tenant)
        if teaching is None or not samples:
            return
        first: Sketch | None = None
        for one in samples:
            try:
                made = await teaching.sketch(as_texts(values), one)
            except CallFailed:
                raise Refusal(
                    "{title}: reading what the till sent took too long with these settings", title=found.info.title
                ) from None
            if made.sales:
                return
            first = first or made
        if first is not None:
            raise Unfit(found.info.title, first.wrong)

    async def _still_reads(self, kept: Connection, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Changed settings are tried on the last sale that arrived, and on what could not be read. Raises `Unfit`."""
        model = self.connector(kept.connector).settings_model
        if all(
            before.get(name) == after.get(name) for name, info in model.model_fields.items() if marked(info, TAUGHT)
        ):
            return
        samples = await self._store.read(
            lambda tx: [
                *(one.body for one in captured.of(tx, kept.id)),
                *journal.newest_hooks(tx, kept.id, _SAMPLES, _SAMPLE_BYTES),
            ]
        )
        await self.try_on(kept.connector, after, samples, tenant=kept.business_id)

    async def menu(self, name: str, values: Mapping[str, Any], account: TillAccount) -> list[MenuItem]:
        """The products of an account; none where the till has no menu to read. Raises `Refusal`."""
        if not self.connector(name).can("menu"):
            return []
        till = self._tills.build(name, values, account)
        try:
            return await till.menu()
        except ConnectorError as error:
            text = "the menu cannot be read: {error}. Nothing was stored; try again."
            raise Refusal(text, error=str(error)) from None
        finally:
            await till.aclose()

    async def _on_the_menu(
        self, name: str, values: Mapping[str, Any], account: TillAccount, rule: StampRule
    ) -> StampRule:
        """A rule per item with names made ids, where the till has a menu. Raises `Refusal` for what is not on it."""
        if rule.kind != "per_item" or not self.connector(name).can("menu"):
            return rule
        menu = await self.menu(name, values, account)
        products = {one.product_id: one.name for one in menu}
        categories = {one.category_id: one.category_name or one.category_id for one in menu if one.category_id}
        return rule.model_copy(
            update={
                "products": _found("product", rule.products, products),
                "categories": _found("category", rule.categories, categories),
            }
        )

    async def check_key(self, key: str) -> Me:
        """Whose key it is. Raises `Refusal`."""
        try:
            if not re.fullmatch(r"[!-~]{1,200}", key):
                raise InvalidKey("no key looks like this")
            return await self.sevenstamp.with_key(key).me()
        except InvalidKey:
            raise KeyRefused(
                "7stamp refuses this key. A key begins with 7loc_sc_ and is shown in full once, in 7stamp under "
                "Staff → API key; regenerate it there if it is lost.",
                field="key",
            ) from None
        except SevenStampError as error:
            text = "7stamp cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, field="key", error=str(error)) from None

    async def edit(
        self,
        connection_id: str,
        values: Mapping[str, str],
        *,
        key: str | None = None,
        rule: Callable[[TillAccount, StampRule], StampRule] | None = None,
        locations: Sequence[str] | None = None,
        title: str | None = None,
        poll_seconds: int | None = None,
        expires_at: int | None = None,
    ) -> Connection:
        """Change a connection, each part checked before it replaces the old. Raises `Refusal`."""
        kept = await self.get(connection_id)
        settings: dict[str, Any] | None = None
        account: TillAccount | None = None
        if values:
            known_fields(self.connector(kept.connector), values)
            before = self.settings_of(kept)
            settings = {**before, **values}
            account = await self.check_till(kept.connector, settings, before)
            await self._still_reads(kept, before, settings)
            if account.id != kept.account.id:
                raise Refusal(
                    "these settings open the account {theirs}, but this connection is joined to {ours}: "
                    "add a connection for the other account instead",
                    field=_secret(self.connector(kept.connector)),
                    theirs=f"{account.name} ({account.id})",
                    ours=f"{kept.account.name} ({kept.account.id})",
                )
            secret = _secret(self.connector(kept.connector))
            if secret is None or before.get(secret) == settings.get(secret):
                expires_at = kept.expires_at
        login: str | None = None
        if key is not None:
            me = await self.check_key(key)
            login = me.staff_login
            if me.business.id != kept.business_id:
                text = "this key is of another business, {theirs}: add a connection for that one instead"
                raise Refusal(text, field="key", theirs=me.business.name)
        current = await self.rule(kept)
        changed = rule(kept.account, current) if rule else None
        if changed is not None:
            opens = settings or self.settings_of(kept)
            changed = await self._on_the_menu(kept.connector, opens, kept.account, changed)
            needed = self.connector(kept.connector).info.for_categories
            if changed.categories and not needed.items() <= opens.items():
                settings = {**opens, **needed}
                expires_at = expires_at or kept.expires_at
        change = Edit(
            title=_title(title) if title is not None else None,
            scope=_scope(account or kept.account, locations) if locations is not None else None,
            rule=changed,
            settings=settings,
            account=account,
            sevenstamp_key=key,
            poll_seconds=poll_seconds,
            key_login=login,
            expires_at=expires_at,
        )
        return await self._write(lambda tx: connections.edit(tx, kept.id, change))

    def authorise_url(self, name: str, redirect_uri: str) -> str | None:
        """Where a browser goes to let us in; `None` where the till has no such page, or the operator no application."""
        oauth = self._oauth(name)
        if oauth is None:
            return None
        try:
            return oauth.authorise_url(app_settings(self.connector(name)), redirect_uri)
        except NotConfigured:
            return None

    def _oauth(self, name: str) -> OAuth | None:
        return next((one for one in self.connector(name).authorisation if isinstance(one, OAuth)), None)

    async def authorised(
        self, name: str, returned: Mapping[str, str], redirect_uri: str
    ) -> tuple[dict[str, str], int | None]:
        """What a consent was traded for: settings, and when they end (UTC microseconds). Raises `Refusal`."""
        found, oauth = self.connector(name), self._oauth(name)
        if oauth is None:
            raise Refusal("{title} has no sign-in of its own", title=found.info.title)
        try:
            settings = await oauth.exchange(app_settings(found), returned, redirect_uri)
        except NotAuthorised as error:
            raise Refusal("{title} did not let us in: {why}", title=found.info.title, why=str(error)) from None
        except ConnectorError as error:
            text = "{title} cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, title=found.info.title, error=str(error)) from None
        ends = self._store.clock.now() + int(oauth.lives.total_seconds()) * SECOND if oauth.lives else None
        return {field: secret.get_secret_value() for field, secret in settings.items()}, ends

    async def dead_keys(self, business_id: str, key: str) -> list[Connection]:
        """The connections of a business whose key 7stamp refuses, and which this one could mend."""
        used = self._store.vault.hash("7stamp key", key)
        return await self._store.read(lambda tx: looking.dead_keys(tx, business_id, used))

    async def replace_dead_keys(self, business_id: str, key: str) -> int:
        """Give those connections this key; how many."""
        dead = await self.dead_keys(business_id, key)
        for one in dead:
            await self.edit(one.id, {}, key=key)
        return len(dead)


def known_fields(found: type[Connector[Any]], values: Mapping[str, str]) -> None:
    """Refuse a setting that the connector does not have. Raises `Refusal` that names the nearest."""
    fields = found.settings_model.model_fields
    for field in values:
        if field not in fields:
            raise Refusal(
                "{title} has no setting '{field_name}'; nearest: {known}",
                title=found.info.title,
                field_name=field,
                known=", ".join(nearest(field, fields)[:_NEAREST]),
            )


def _hard_to_guess(found: type[Connector[Any]], values: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Refuse a secret that somebody made up carelessly; one that a connection has already goes on. Raises `Refusal`."""
    for field, info in found.settings_model.model_fields.items():
        value = values.get(field)
        if marked(info, CHOSEN) and value and value != before.get(field) and easily_guessed(str(value)):
            text = (
                "this secret is easily guessed: take one with at least {count} different signs that repeats nothing, "
                "best a long one made by chance"
            )
            raise Refusal(text, field=field, count=DISTINCT)


def _scope(account: TillAccount, wanted: Sequence[str]) -> tuple[str, ...]:
    """Location ids from ids or names. Raises `Refusal` that names the known ones."""
    by_name = {location.name.casefold(): location.id for location in account.locations}
    ids = {location.id for location in account.locations}
    scope: list[str] = []
    for one in wanted:
        found = one if one in ids else by_name.get(one.casefold())
        if found is None:
            names = {location.name: location.id for location in account.locations}
            known = ", ".join(f"{name} ({names[name]})" for name in nearest(one, names))
            text = "{account} has no location '{location}'; known: {known}"
            raise Refusal(text, field="locations", account=account.name, location=one, known=known or "–")
        scope.append(found)
    return tuple(dict.fromkeys(scope))


def _found(what: str, wanted: Iterable[str], known: Mapping[str, str]) -> frozenset[str]:
    """Ids from ids or names of what a menu has. Raises `Refusal` that names the nearest."""
    by_name = {name.casefold(): one for one, name in known.items()}
    ids: set[str] = set()
    for one in wanted:
        found = one if one in known else by_name.get(one.casefold())
        if found is None:
            names = {name: one for one, name in known.items()}
            near = ", ".join(f"{name} ({names[name]})" for name in nearest(one, names)[:5])
            text = "there is no {what} '{name}' on the menu; nearest: {near}"
            raise Refusal(text, field="products", what=what, name=one, near=near or "–")
        ids.add(found)
    return frozenset(ids)


def _secret(found: type[Connector[Any]]) -> str | None:
    """The form field that holds what the till lets us in with."""
    return next((one.field for one in found.authorisation if isinstance(one, Token)), None)


def _title(text: str) -> str:
    """A name on one line, of a length that fits."""
    return " ".join(text.split())[:120]
