"""Checks of what a connection is made of: the till's settings, its products, what it sent, and the 7stamp key.

Owns the words in which each is refused; nothing here writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pydantic import ValidationError

from connector_sdk.authorisation import Credentials, Token
from connector_sdk.connector import MenuItem, TillAccount
from connector_sdk.errors import ConnectorError, MissingRight, NotAuthorised
from connector_sdk.forms import CHOSEN, TAUGHT, marked
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connector_sdk.teaching import Sketch, as_texts
from connectors.domain.connection import Connection
from connectors.domain.secret_strength import DISTINCT, easily_guessed
from connectors.isolation import CallFailed
from connectors.plugins import ConnectorClass
from connectors.services.context import ServiceContext, SettingValues, nearest
from connectors.services.refusal import KeyRefused, MissingToken, Refusal, UnusableSettings, WrongFields
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Me
from connectors.store import inbox
from connectors.store.engine import Transaction

_NEAREST_FIELDS, _NEAREST_PRODUCTS = 8, 5
_SAMPLES, _SAMPLE_BYTES = 50, 4 * 1024 * 1024
_LONGEST_TITLE = 120


class ConnectionChecks:
    """Asks the till and 7stamp whether what a connection is to be made of is good."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    # --- settings ---------------------------------------------------------------------------------------------

    def with_generated_defaults(self, name: str, values: SettingValues) -> SettingValues:
        """Return settings with those that the connector makes up itself, so that it makes them up once."""
        model = self._context.connector_class(name).settings_model
        # A connector's `default_factory` makes, say, the secret that its till is given. Made anew at each validation,
        # it would be another one in the connection than in the draft whose page showed it.
        try:
            settings = model.model_validate(dict(values))
        except ValidationError:
            return dict(values)  # whoever checks them says what is wrong
        generated = (field for field, info in model.model_fields.items() if info.default_factory is not None)
        return {**{field: getattr(settings, field) for field in generated}, **values}

    async def check_till(
        self,
        name: str,
        values: SettingValues,
        before: SettingValues | None = None,
        *,
        credentials: Credentials | None = None,
    ) -> TillAccount:
        """Ask the till which account settings open; `before` are those that the connection has now.

        `credentials` are what its consent page granted. Raises `WrongFields` for settings that do not fit the
        connector, `Refusal` for what the till refuses.
        """
        connector_class = self._context.connector_class(name)
        # what is wrong by itself first: the till is asked only with settings that could be right
        _refuse_guessable_secrets(connector_class, values, before or {})
        title, where = connector_class.info.title, _where_to_find(connector_class)
        try:
            till = self._context.tills.build(name, values, credentials=credentials)
        except ValidationError as error:
            # a sentence for each field, and never the values: one of them is the token
            raise WrongFields(title, error, where) from None
        try:
            require_access(connector_class, values, credentials)
            return await till.check()
        except ConnectorError as error:
            raise _refused_by_till(error, connector_class, where) from None
        finally:
            await till.aclose()

    # --- what the till sent -----------------------------------------------------------------------------------

    async def check_samples(self, name: str, values: SettingValues, samples: Sequence[bytes], *, tenant: str) -> None:
        """See that settings make a sale of at least one of some requests of the till.

        Raises `UnusableSettings`, by the first; `Refusal` where they cost too much to read.
        """
        connector_class = self._context.connector_class(name)
        teaching = self._context.runner.teaching(connector_class, tenant=tenant)
        if teaching is None or not samples:
            return
        title, texts = connector_class.info.title, as_texts(values)
        # One that becomes a sale is enough: tills also send what is no sale, and other versions of one.
        first: Sketch | None = None
        for sample in samples:
            try:
                sketch = await teaching.sketch(texts, sample)
            except CallFailed:
                raise Refusal(
                    "{title}: reading what the till sent took too long with these settings", title=title
                ) from None
            if sketch.sales:
                return
            first = first or sketch
        if first is not None:
            raise UnusableSettings(title, first.wrong)

    async def check_still_reads(self, connection: Connection, before: SettingValues, after: SettingValues) -> None:
        """Try changed settings on the last sale that arrived, and on what is unread. Raises `UnusableSettings`."""
        model = self._context.connector_class(connection.connector).settings_model
        taught = [name for name, info in model.model_fields.items() if marked(info, TAUGHT)]
        if all(before.get(name) == after.get(name) for name in taught):
            return  # how requests are read stays as it is: a new title or token needs no trial
        samples = await self._context.store.read(lambda tx: _samples_of(tx, connection.id))
        await self.check_samples(connection.connector, after, samples, tenant=connection.business_id)

    # --- the menu ---------------------------------------------------------------------------------------------

    async def read_menu(
        self, name: str, values: SettingValues, account: TillAccount, credentials: Credentials | None = None
    ) -> list[MenuItem]:
        """Read the products of an account; none where the till has no menu to read. Raises `Refusal`."""
        if not self._context.connector_class(name).can("menu"):
            return []
        till = self._context.tills.build(name, values, account, credentials)
        try:
            return await till.menu()
        except ConnectorError as error:
            text = "the menu cannot be read: {error}. Nothing was stored; try again."
            raise Refusal(text, error=str(error)) from None
        finally:
            await till.aclose()

    async def resolve_menu_names(
        self,
        name: str,
        values: SettingValues,
        account: TillAccount,
        rule: StampRule,
        credentials: Credentials | None = None,
    ) -> StampRule:
        """Return a rule with the names of items made ids, where the till has a menu.

        Raises `Refusal` for what is not on the menu.
        """
        names_items = rule.kind == "per_item" or rule.gift_products
        if not names_items or not self._context.connector_class(name).can("menu"):
            return rule
        # People write names; receipts carry ids. Resolved once, the rule goes on when a product is renamed.
        menu = await self.read_menu(name, values, account, credentials)
        products = {item.product_id: item.name for item in menu}
        categories = {item.category_id: item.category_name or item.category_id for item in menu if item.category_id}
        return rule.model_copy(
            update={
                "products": _ids_on_menu("product", rule.products, products),
                "categories": _ids_on_menu("category", rule.categories, categories),
                "gift_products": _ids_on_menu("product", rule.gift_products, products, field="gift_products"),
            }
        )

    # --- the 7stamp key ---------------------------------------------------------------------------------------

    async def check_key(self, key: str) -> Me:
        """Ask 7stamp whose a key is. Raises `KeyRefused`, and `Refusal` where 7stamp cannot be asked."""
        try:
            # a header holds nothing else, and 7stamp need not be asked about what cannot be a key
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
            text = "7stamp cannot be reached right now. Nothing was changed; try again. ({error})"
            raise Refusal(text, field="key", error=str(error)) from None


def require_known_fields(connector_class: ConnectorClass, values: Mapping[str, object]) -> None:
    """Refuse a setting that the connector does not have. Raises `Refusal` that names the nearest."""
    fields = connector_class.settings_model.model_fields
    for field in values:
        if field not in fields:
            raise Refusal(
                "{title} has no setting '{field_name}'; nearest: {known}",
                title=connector_class.info.title,
                field_name=field,
                known=", ".join(nearest(field, fields)[:_NEAREST_FIELDS]),
            )


def require_access(connector_class: ConnectorClass, values: SettingValues, credentials: Credentials | None) -> None:
    """Refuse settings in which nothing lets us in: neither a consent, nor a token of any kind. Raises `Refusal`."""
    tokens, title = _tokens_of(connector_class), connector_class.info.title
    has_ways = bool(connector_class.authorisation)
    if credentials is not None or not has_ways or any(values.get(token.field) for token in tokens):
        return
    if not tokens:
        raise Refusal("{title} is connected in the console: press the button there, and let us in", title=title)
    raise MissingToken(title, tokens[0].field, _where_to_find(connector_class))


def _refused_by_till(error: ConnectorError, connector_class: ConnectorClass, where: str) -> Refusal:
    """Return the refusal that says what a till's answer to settings means for whoever typed them."""
    title, field = connector_class.info.title, secret_field(connector_class)
    match error:
        case MissingRight():  # before NotAuthorised, of which it is a kind
            text = "{title} accepts the token, but it lacks a right: {right}. {where}"
            return Refusal(text, field=field, title=title, right=error.right, where=where)
        case NotAuthorised():
            return Refusal("{title} refuses the token. {where}", field=field, title=title, where=where)
    text = "{title} cannot be reached right now. Nothing was changed; try again. ({error})"
    return Refusal(text, title=title, error=str(error))


def _refuse_guessable_secrets(connector_class: ConnectorClass, values: SettingValues, before: SettingValues) -> None:
    """Refuse a secret that somebody made up carelessly; one that a connection has already goes on. Raises `Refusal`."""
    # only fields that a person makes up (`CHOSEN`): what a till gave is as good as the till makes it
    for field, info in connector_class.settings_model.model_fields.items():
        value = values.get(field)
        if marked(info, CHOSEN) and value and value != before.get(field) and easily_guessed(str(value)):
            text = (
                "this secret is easily guessed: take one with at least {count} different signs that repeats nothing, "
                "best a long one made by chance"
            )
            raise Refusal(text, field=field, count=DISTINCT)


def _samples_of(tx: Transaction, connection_id: str) -> list[bytes]:
    """Return the bodies on which changed settings are tried: the last that was read, then those that were not."""
    captured = [request.body for request in inbox.captured.of_owner(tx, connection_id)]
    return [*captured, *inbox.unreadable.newest_hooks(tx, connection_id, _SAMPLES, _SAMPLE_BYTES)]


class _Choices:
    """Things of a till that somebody may choose by id, or by name in any case; `names` are pairs of id and name."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        pairs = list(names)
        self._ids = {item_id for item_id, _ in pairs}
        self._id_of_name = {name: item_id for item_id, name in pairs}
        self._id_of_folded = {name.casefold(): item_id for item_id, name in pairs}

    def find(self, choice: str) -> str | None:
        """Return the id that is meant; `None` where it is none of them. An id goes before a name."""
        return choice if choice in self._ids else self._id_of_folded.get(choice.casefold())

    def nearest(self, choice: str, most: int | None = None) -> str:
        """Return the names most like `choice` with their ids, as a list in a sentence."""
        names = nearest(choice, self._id_of_name)[:most]
        return ", ".join(f"{name} ({self._id_of_name[name]})" for name in names) or "–"


def scope_from(account: TillAccount, chosen: Sequence[str]) -> tuple[str, ...]:
    """Return location ids for ids or names. Raises `Refusal` that names the known ones."""
    locations = _Choices((location.id, location.name) for location in account.locations)
    scope: list[str] = []
    for choice in chosen:
        location_id = locations.find(choice)
        if location_id is None:
            text = "{account} has no location '{location}'; known: {known}"
            known = locations.nearest(choice)
            raise Refusal(text, field="locations", account=account.name, location=choice, known=known)
        scope.append(location_id)
    # the same location named twice, once by id and once by name, is one
    return tuple(dict.fromkeys(scope))


def _ids_on_menu(
    what: str, chosen: Iterable[str], names_by_id: Mapping[str, str], *, field: str = "products"
) -> frozenset[str]:
    """Return ids for ids or names of what a menu has. Raises `Refusal` that names the nearest."""
    items = _Choices(names_by_id.items())
    ids: set[str] = set()
    for choice in chosen:
        item_id = items.find(choice)
        if item_id is None:
            text = "there is no {what} '{name}' on the menu; nearest: {near}"
            near = items.nearest(choice, _NEAREST_PRODUCTS)
            raise Refusal(text, field=field, what=Message(what), name=choice, near=near)
        ids.add(item_id)
    return frozenset(ids)


def _tokens_of(connector_class: ConnectorClass) -> list[Token]:
    return [way for way in connector_class.authorisation if isinstance(way, Token)]


def _where_to_find(connector_class: ConnectorClass) -> str:
    """Return where in the till a person finds what lets us in."""
    return " ".join(token.where_to_find for token in _tokens_of(connector_class))


def secret_field(connector_class: ConnectorClass) -> str | None:
    """Return the form field that holds what the till lets us in with; `None` where it has none."""
    return next((token.field for token in _tokens_of(connector_class)), None)


def title_from(text: str) -> str:
    """Return a title on one line, of a length that fits."""
    return " ".join(text.split())[:_LONGEST_TITLE]
