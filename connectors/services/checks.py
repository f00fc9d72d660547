"""Checks of what a connection is made of: the till's settings, its products, what it sent, and the 7stamp key.

Owns the words in which each is refused; nothing here writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from connector_sdk.connector import CHOSEN, TAUGHT, Connector, MenuItem, TillAccount, Token, marked
from connector_sdk.errors import ConnectorError, MissingRight, NotAuthorised
from connector_sdk.rule import StampRule
from connector_sdk.teaching import Sketch, as_texts
from connectors.domain.connection import Connection
from connectors.domain.secret import DISTINCT, easily_guessed
from connectors.isolation import CallFailed
from connectors.services.context import ServiceContext, nearest
from connectors.services.refusal import KeyRefused, Refusal, Unfit, WrongFields
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Me
from connectors.store import inbox

_NEAREST = 8
_SAMPLES, _SAMPLE_BYTES = 50, 4 * 1024 * 1024


class ConnectionChecks:
    """TODO."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    def with_generated_defaults(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with those that the connector makes up itself, so that it makes them up once."""
        model = self._context.connector_class(name).settings_model
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
        found = self._context.connector_class(name)
        _refuse_guessable_secrets(found, values, before or {})
        title = found.info.title
        where = " ".join(one.where_to_find for one in found.authorisation if isinstance(one, Token))
        try:
            till = self._context.tills.build(name, values)
        except ValidationError as error:
            raise WrongFields(title, error, where) from None
        try:
            return await till.check()
        except MissingRight as error:
            text = "{title} accepts the token, but it lacks a right: {right}. {where}"
            raise Refusal(text, field=secret_field(found), title=title, right=error.right, where=where) from None
        except NotAuthorised:
            raise Refusal(
                "{title} refuses the token. {where}", field=secret_field(found), title=title, where=where
            ) from None
        except ConnectorError as error:
            text = "{title} cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, title=title, error=str(error)) from None
        finally:
            await till.aclose()

    async def check_samples(
        self, name: str, values: Mapping[str, Any], samples: Sequence[bytes], *, tenant: str
    ) -> None:
        """See that settings make a sale of at least one of some requests of the till.

        Raises `Unfit`, by the first; `Refusal` where they cost too much to read.
        """
        found = self._context.connector_class(name)
        teaching = self._context.runner.teaching(found, tenant=tenant)
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

    async def check_still_reads(self, kept: Connection, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Changed settings are tried on the last sale that arrived, and on what could not be read. Raises `Unfit`."""
        model = self._context.connector_class(kept.connector).settings_model
        if all(
            before.get(name) == after.get(name) for name, info in model.model_fields.items() if marked(info, TAUGHT)
        ):
            return
        samples = await self._context.store.read(
            lambda tx: [
                *(one.body for one in inbox.captured.of_owner(tx, kept.id)),
                *inbox.unreadable.newest_hooks(tx, kept.id, _SAMPLES, _SAMPLE_BYTES),
            ]
        )
        await self.check_samples(kept.connector, after, samples, tenant=kept.business_id)

    async def read_menu(self, name: str, values: Mapping[str, Any], account: TillAccount) -> list[MenuItem]:
        """The products of an account; none where the till has no menu to read. Raises `Refusal`."""
        if not self._context.connector_class(name).can("menu"):
            return []
        till = self._context.tills.build(name, values, account)
        try:
            return await till.menu()
        except ConnectorError as error:
            text = "the menu cannot be read: {error}. Nothing was stored; try again."
            raise Refusal(text, error=str(error)) from None
        finally:
            await till.aclose()

    async def resolve_menu_names(
        self, name: str, values: Mapping[str, Any], account: TillAccount, rule: StampRule
    ) -> StampRule:
        """A rule per item with names made ids, where the till has a menu. Raises `Refusal` for what is not on it."""
        if rule.kind != "per_item" or not self._context.connector_class(name).can("menu"):
            return rule
        menu = await self.read_menu(name, values, account)
        products = {one.product_id: one.name for one in menu}
        categories = {one.category_id: one.category_name or one.category_id for one in menu if one.category_id}
        return rule.model_copy(
            update={
                "products": _ids_on_menu("product", rule.products, products),
                "categories": _ids_on_menu("category", rule.categories, categories),
            }
        )

    async def check_key(self, key: str) -> Me:
        """Whose key it is. Raises `Refusal`."""
        try:
            if not re.fullmatch(r"[!-~]{1,200}", key):
                raise InvalidKey("no key looks like this")
            return await self._context.sevenstamp.with_key(key).me()
        except InvalidKey:
            raise KeyRefused(
                "7stamp refuses this key. A key begins with 7loc_sc_ and is shown in full once, in 7stamp under "
                "Staff → API key; regenerate it there if it is lost.",
                field="key",
            ) from None
        except SevenStampError as error:
            text = "7stamp cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, field="key", error=str(error)) from None


def require_known_fields(found: type[Connector[Any]], values: Mapping[str, str]) -> None:
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


def _refuse_guessable_secrets(
    found: type[Connector[Any]], values: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """Refuse a secret that somebody made up carelessly; one that a connection has already goes on. Raises `Refusal`."""
    for field, info in found.settings_model.model_fields.items():
        value = values.get(field)
        if marked(info, CHOSEN) and value and value != before.get(field) and easily_guessed(str(value)):
            text = (
                "this secret is easily guessed: take one with at least {count} different signs that repeats nothing, "
                "best a long one made by chance"
            )
            raise Refusal(text, field=field, count=DISTINCT)


def scope_from(account: TillAccount, wanted: Sequence[str]) -> tuple[str, ...]:
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


def _ids_on_menu(what: str, wanted: Iterable[str], known: Mapping[str, str]) -> frozenset[str]:
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


def secret_field(found: type[Connector[Any]]) -> str | None:
    """The form field that holds what the till lets us in with."""
    return next((one.field for one in found.authorisation if isinstance(one, Token)), None)


def title_from(text: str) -> str:
    """A name on one line, of a length that fits."""
    return " ".join(text.split())[:120]
