"""What people ask of connections, in one place for the command line and the console.

Owns the checks before anything is stored, and the words in which they are refused; each action is one method.
"""

from __future__ import annotations

import asyncio
import copy
import difflib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from connector_sdk.connector import Connector, HookAddress, MenuItem, OAuth, TillAccount, Token
from connector_sdk.errors import ConnectorError, MissingRight, NotAuthorised, NotConfigured, NotSupported
from connector_sdk.messages import Catalogue, Message
from connector_sdk.redaction import redact
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, Unreadable
from connectors.diagnostics import bundle
from connectors.domain.clock import DAY, SECOND, micros, moment
from connectors.domain.connection import Business, Connection, Health
from connectors.domain.operation import MOVABLE, Hold, State
from connectors.domain.stamps import Earned, rule_in_force, stamps_for
from connectors.sevenstamp.client import InvalidKey, SevenStamp, SevenStampError
from connectors.sevenstamp.models import Card, Me
from connectors.store import connections, errands, hints, journal, ledger, looking, outbox, watches
from connectors.store.cards import KnownCard
from connectors.store.connections import Edit, NewConnection, Turn
from connectors.store.engine import Store, Transaction
from connectors.store.errands import Errand
from connectors.store.ledger import Page
from connectors.sync.delivering import Deliverer
from connectors.sync.giving import CannotGive, give
from connectors.sync.identifying import Identifier, international
from connectors.sync.ingest import entitlement
from connectors.sync.planner import plan_redemptions, plan_sale, rule_for
from connectors.sync.previewing import Recent, read_recent, recent_of
from connectors.sync.reading import Reader, Seen
from connectors.sync.tills import NoConnector, Tills, app_settings, plain_reason, wrong_fields

_ENGLISH = Catalogue(["connectors"])
_PAUSE_PATIENCE = 30.0
_PROGRESS_PATIENCE = 2.0

T = TypeVar("T")
Progress = Callable[[Mapping[str, Any]], Awaitable[None]]


class Refusal(Exception):
    """Something was asked that cannot be done; the text says why and what can.

    `message` is the same for a reader's language, `field` the form field it is about.
    """

    def __init__(self, text: str, /, *, field: str | None = None, **params: Any) -> None:
        self.message = Message(text, params)
        self.field = field
        super().__init__(_ENGLISH.word(self.message))


class WrongFields(Refusal):
    """Settings that a connector cannot take: what is wrong with each field."""

    def __init__(self, title: str, error: ValidationError, where: str) -> None:
        super().__init__("{title}: {wrong}. {where}", title=title, wrong=wrong_fields(error), where=where)
        self.fields = {
            ".".join(str(part) for part in one["loc"]): Message(plain_reason(one))
            for one in error.errors(include_input=False)
        }


@dataclass(frozen=True, slots=True)
class Previewed:
    """A receipt of a preview: what it would earn, or why it cannot be read."""

    sale: Sale | None
    earned: Earned | None
    unreadable: Unreadable | None = None


class Desk:
    """The actions."""

    def __init__(
        self,
        store: Store,
        tills: Tills,
        sevenstamp: SevenStamp | None,
        reader: Reader,
        identifier: Identifier | None,
        deliverer: Deliverer | None,
        public_url: Callable[[], str],
    ) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp
        self._reader = reader
        self._identifier = identifier
        self._deliverer = deliverer
        self._public_url = public_url
        self._by: str | None = None

    def by(self, who: str) -> Desk:
        """The same desk for somebody: what changes is journalled with that name."""
        theirs = copy.copy(self)
        theirs._by = who
        return theirs

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        return await self._store.write(work, self._by)

    # --- connecting -------------------------------------------------------------------------------------------

    def connector(self, name: str) -> type[Connector[Any]]:
        """The connector of that name. Raises `Refusal` that names the known ones, nearest first."""
        found = self._tills.classes.get(name)
        if found is None:
            known = ", ".join(nearest(name, self._tills.classes))
            raise Refusal("there is no connector '{name}'; known: {known}", name=name, known=known)
        return found

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
    ) -> Connection:
        """Check everything with the till and with 7stamp, then store the connection. Raises `Refusal`."""
        found = self.connector(name)
        self._known_fields(found, values)
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
        )
        return await self._write(lambda tx: connections.add(tx, new))

    @staticmethod
    def _known_fields(found: type[Connector[Any]], values: Mapping[str, str]) -> None:
        fields = found.settings_model.model_fields
        for field in values:
            if field not in fields:
                raise Refusal(
                    "{title} has no setting '{field_name}'; known: {known}",
                    title=found.info.title,
                    field_name=field,
                    known=", ".join(nearest(field, fields)),
                )

    async def check_till(self, name: str, values: Mapping[str, Any]) -> TillAccount:
        """The account that settings open. Raises `Refusal`, `WrongFields`."""
        found = self.connector(name)
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
            raise Refusal(
                "7stamp refuses this key. A key begins with 7loc_sc_ and is shown in full once, in 7stamp under "
                "Staff → API key; regenerate it there if it is lost.",
                field="key",
            ) from None
        except SevenStampError as error:
            text = "7stamp cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, field="key", error=str(error)) from None

    @property
    def sevenstamp(self) -> SevenStamp:
        if self._sevenstamp is None:
            raise Refusal(
                "CONNECTORS_SEVENSTAMP_URL is not set: set it to the address of the 7stamp API "
                "(to try things out: `connectors sandbox sevenstamp --port 8702` and its address)"
            )
        return self._sevenstamp

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
            self._known_fields(self.connector(kept.connector), values)
            before = self.settings_of(kept)
            settings = {**before, **values}
            account = await self.check_till(kept.connector, settings)
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

    def settings_of(self, one: Connection) -> dict[str, Any]:
        """A connection's settings in the clear: never to be shown."""
        found: dict[str, Any] = json.loads(self._store.vault.decrypt(one.settings))
        return found

    async def get(self, connection_id: str) -> Connection:
        return await self._store.read(lambda tx: connections.get(tx, connection_id))

    async def ever(self, connection_id: str) -> None:
        """Refuse a connection there never was; a removed one still has its journal and operations."""
        if not await self._store.read(lambda tx: connections.of_ids(tx, [connection_id])):
            await self.get(connection_id)

    async def everyone(self) -> list[Connection]:
        return await self._store.read(connections.everyone)

    async def rule(self, one: Connection) -> StampRule:
        """The rule in force now."""
        return (await self._store.read(lambda tx: connections.rules(tx, one.id)))[-1].rule

    async def pause(self, connection_id: str) -> None:
        await self.get(connection_id)
        await self._write(lambda tx: connections.set_health(tx, connection_id, Health.paused, None))

    async def resume(self, connection_id: str, *, leave_out: bool = False) -> None:
        """Work again after a pause; its receipts earn stamps unless they are to be left out. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            one = connections.get(tx, connection_id)
            if one.health is not Health.paused:
                return False
            if leave_out:
                connections.leave_out_pause(tx, one)
                _leave_out(tx, one, one.health_since)
            connections.set_health(tx, connection_id, Health.active, None)
            return True

        if not await self._write(work):
            raise Refusal("this connection is not paused")

    async def remove(self, connection_id: str) -> None:
        def work(tx: Transaction) -> None:
            connections.remove(tx, connection_id)
            watches.set_email(tx, connection_id, None, "")

        await self._write(work)

    async def tell_by_email(self, connection_id: str, email: str, language: str) -> None:
        """Whom to tell when a connection needs a person; nobody with an empty address. Raises `Refusal`."""
        email = email.strip()
        if email and not _EMAIL.fullmatch(email):
            raise Refusal("this is not an email address: write it as anna@example.com", field="email")

        def work(tx: Transaction) -> None:
            if watches.email(tx, connection_id) != (email or None):
                watches.set_email(tx, connection_id, email or None, language)
                journal.note(tx, connection_id, Message("connection.email"))

        await self._write(work)

    async def unsettled(self, connection_id: str) -> int:
        return await self._store.read(lambda tx: ledger.unsettled(tx, connection_id))

    def hook_url(self, one: Connection) -> str | None:
        """Where the till is to post; `None` where it has no hooks."""
        found = self._tills.classes.get(one.connector)
        if found is None or found.info.hook_address is HookAddress.nobody:
            return None
        shared = self.shared_hook_url(one.connector)
        if found.info.hook_address is HookAddress.operator:
            return shared
        return f"{shared}/{self._store.vault.decrypt(one.hook_token)}"

    def shared_hook_url(self, connector: str) -> str:
        """The one address of all accounts of a connector, for tills whose operator sets it."""
        return f"{self._public_url()}/hooks/tills/{connector}"

    async def shown(self, one: Connection) -> dict[str, Any]:
        """A connection as scripts read it."""
        rules, waiting, open_ = await self._store.read(
            lambda tx: (connections.rules(tx, one.id), hints.waiting(tx, one.id), ledger.unsettled(tx, one.id))
        )
        return {
            "id": one.id,
            "status": one.health.value,
            "since": _iso(one.health_since),
            "reason": one.reason.id if one.reason else None,
            "connector": one.connector,
            "account": one.account.id,
            "account_name": one.account.name,
            "business": one.business_id,
            "title": one.title,
            "locations": list(one.scope),
            "rule": rules[-1].rule.model_dump(mode="json", exclude_defaults=True) | {"kind": rules[-1].rule.kind},
            "checkpoint": _iso(one.checkpoint_at),
            "last_poll": _iso(one.last_poll_at),
            "last_hook": _iso(one.last_hook_at),
            "next_poll": _iso(one.next_poll_at),
            "hints_waiting": waiting,
            "operations_open": open_,
            "hook_url": self.hook_url(one),
        }

    # --- OAuth ------------------------------------------------------------------------------------------------

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

    # --- previews ---------------------------------------------------------------------------------------------

    async def recent(self, name: str, values: Mapping[str, Any], account: TillAccount) -> Recent:
        """An account's newest receipts, read back from the till. Raises `Refusal`."""
        till = self._tills.build(name, values, account)
        try:
            return await read_recent(till, moment(self._store.clock.now()))
        except ConnectorError as error:
            raise Refusal("the till cannot be read: {error}", error=str(error)) from None
        finally:
            await till.aclose()

    async def recent_of(self, one: Connection) -> Recent:
        """The same of a connection; from what has arrived here where its till cannot be read back."""
        found = await self.recent(one.connector, self.settings_of(one), one.account)
        if found.source != "nothing":
            return found
        arrived = await self._store.read(lambda tx: ledger.newest(tx, one.id))
        return recent_of(arrived, moment(self._store.clock.now()), "hooks")

    async def pause_so_far(self, one: Connection) -> tuple[int, int] | None:
        """How many receipts were closed since a pause began, and how many card operations they would be.

        `None` where the till cannot be read back.
        """
        if not (self.connector(one.connector).can("look_back") or self.connector(one.connector).can("poll")):
            return None
        versions = await self._store.read(lambda tx: connections.rules(tx, one.id))
        receipts = operations = 0
        try:
            async with asyncio.timeout(_PAUSE_PATIENCE):
                async for page in self._reader.history(one, moment(one.health_since)):
                    for sale in page.sales:
                        closed = micros(sale.closed_at) if sale.closed_at else 0
                        if closed >= one.health_since and one.covers(sale.location_id):
                            earned = stamps_for(sale, rule_in_force(versions, closed).rule, one.account.zone)
                            receipts += 1
                            operations += bool(sale.customer and earned.stamps) + len(sale.redeem_codes)
        except (ConnectorError, TimeoutError):
            return None
        return receipts, operations

    # --- giving by hand ---------------------------------------------------------------------------------------

    async def find_card(self, one: Connection, text: str) -> tuple[Card, tuple[str, str]]:
        """The card of a phone, an email or a six-digit number, and by which name it was found. Raises `Refusal`."""
        text = text.strip()
        number = re.sub(r"[\s-]", "", text)
        if re.fullmatch(r"[0-9]{6}", number):
            name = ("number", number)
        else:
            phone = international(text[:40], one.account.country)
            name = ("email", text.lower()) if _EMAIL.fullmatch(text) else ("phone", phone or "")
            if not name[1]:
                raise Refusal("write a phone with its country code, or the six digits on the card", field="who")
        key = self._store.vault.decrypt(one.sevenstamp_key)
        try:
            found = await self.sevenstamp.with_key(key).cards(**{name[0]: name[1]})
        except InvalidKey:
            raise Refusal("7stamp refuses the key of this connection", field="who") from None
        except SevenStampError as error:
            raise Refusal("7stamp cannot be asked right now: {error}.", field="who", error=str(error)) from None
        card = next((card for card in found if card.active), None)
        if card is None:
            raise Refusal("no card has this number, phone or email", field="who")
        return card, name

    async def give(self, one: Connection, sale_id: str, card: Card, name: tuple[str, str]) -> int:
        """Give a receipt's stamps to a card, once; how many. Raises `Refusal`."""
        known = KnownCard(card.id, card.hint)
        names = [name, ("number", card.number)]
        try:
            return await self._write(lambda tx: give(tx, one, sale_id, known, names))
        except CannotGive as error:
            raise Refusal(error.why, field="who") from None

    async def progress(self, one: Connection, card_id: str) -> Card | None:
        """A card as it is now; `None` where 7stamp does not say so at once."""
        key = self._store.vault.decrypt(one.sevenstamp_key)
        try:
            return await self.sevenstamp.with_key(key).card(card_id, deadline=_PROGRESS_PATIENCE)
        except (SevenStampError, Refusal):
            return None

    # --- keys -------------------------------------------------------------------------------------------------

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

    async def diagnostics(self, connection_id: str) -> bytes:
        """A file (zip) to send to support, redacted."""
        one = await self.get(connection_id)
        return await bundle(self._store, one, await self.shown(one), _ENGLISH)

    # --- working ----------------------------------------------------------------------------------------------

    def _sender(self) -> tuple[Identifier, Deliverer]:
        assert self.sevenstamp  # noqa: S101 - refuses where it is not set
        if self._identifier is None or self._deliverer is None:
            raise Refusal("CONNECTORS_SEVENSTAMP_URL is not set")
        return self._identifier, self._deliverer

    async def _working(self, connection_id: str) -> Connection:
        one = await self.get(connection_id)
        if one.health is Health.paused:
            raise Refusal("this connection is paused: resume it first")
        if one.health is Health.needs_authorisation:
            raise Refusal("this connection needs authorisation: give it a new token or key first")
        return one

    async def sync(self, connection_id: str) -> dict[str, Any]:
        """Poll, look-back, hints and delivery once, now; counts by outcome."""
        self._sender()
        await self._working(connection_id)
        began = self._store.clock.now()
        seen = Seen()
        for turn in await self._store.write(lambda tx: connections.due_polls(tx, 1, connection_id)):
            seen.add(await self._reader.poll(turn))
        for turn in await self._store.write(lambda tx: connections.due_lookbacks(tx, 1, connection_id)):
            seen.add(await self._reader.look_back(turn))
        while claimed := await self._store.write(lambda tx: hints.claim(tx, 200, connection_id)):
            seen.add(await self._reader.follow(await self.get(connection_id), claimed))
        return await self._deliver(connection_id, began, seen)

    async def _deliver(self, connection_id: str, began: int, seen: Seen) -> dict[str, Any]:
        identifier, deliverer = self._sender()
        await identifier.round(connection_id)
        await deliverer.resolve(connection_id)
        await deliverer.drain(connection_id)
        if await identifier.round(connection_id):  # a card that was gone is looked for once more
            await deliverer.drain(connection_id)
        counts = await self._store.read(lambda tx: outbox.counts(tx, connection_id, began))
        one = await self.get(connection_id)
        result: dict[str, Any] = {"sales_seen": seen.sales, "sales_changed": seen.stored, "operations": counts}
        if one.health not in (Health.active, Health.paused):
            result["status"] = one.health.value
        return result

    async def history(self, connection_id: str, since: str, progress: Progress) -> AsyncIterator[Previewed]:
        """Every receipt since a day with what it would earn; stores and sends nothing. Raises `Refusal`."""
        one = await self.get(connection_id)
        start, seen = day(since, one.account.zone), 0
        versions = await self._store.read(lambda tx: connections.rules(tx, one.id))
        try:
            async for page in self._reader.history(one, start):
                seen += len(page.sales)
                if page.checkpoint is not None:
                    done = _share(start, page.checkpoint.at, self._store.clock.now())
                    await progress({"done": done, "sales_seen": seen})
                for sale in page.sales:
                    if one.covers(sale.location_id):
                        closed = micros(sale.closed_at) if sale.closed_at else 0
                        rule = rule_in_force(versions, closed).rule
                        yield Previewed(sale, stamps_for(sale, rule, one.account.zone))
                for unreadable in page.unreadable:
                    yield Previewed(None, None, unreadable)
        except ConnectorError as error:
            raise Refusal("the till cannot be read: {error}", error=str(error)) from None

    async def backfill(self, connection_id: str, since: str, progress: Progress) -> dict[str, Any]:
        """History through the same door; receipts from before the connection are admitted."""
        self._sender()
        one = await self._working(connection_id)
        began = self._store.clock.now()
        start = day(since, one.account.zone)
        ticket = await self._store.write(lambda tx: ledger.tickets(tx, 1))

        async def tell(seen: Seen) -> None:
            done = _share(start, seen.at or start, began)
            await progress({"done": done, "sales_seen": seen.sales, "sales_changed": seen.stored})

        try:
            seen = await self._reader.backfill(Turn(one, ticket), start, tell)
        except (NotSupported, NoConnector, ConnectorError) as error:
            raise Refusal(f"the till cannot be read: {error}; run it again, what was read is kept") from None
        return await self._deliver(connection_id, began, seen)

    async def replan(
        self, connection_id: str, since: str, progress: Progress, *, dry_run: bool = False
    ) -> dict[str, Any]:
        """Plan receipts closed since a day by the rule as it is now: the only way in which a rule looks back."""
        one = await self.get(connection_id)
        began = self._store.clock.now()
        start = micros(day(since, one.account.zone))
        ids = await self._store.read(lambda tx: ledger.sales_closed_since(tx, one.id, start))
        changes = {"sales": len(ids), "more": 0, "fewer": 0}
        for at in range(0, len(ids), 200):
            some = ids[at : at + 200]

            def work(tx: Transaction, some: Sequence[str] = some) -> tuple[int, int]:
                return _replan(tx, one, some, write=not dry_run)

            more, fewer = await (self._store.read(work) if dry_run else self._store.write(work))
            changes["more"] += more
            changes["fewer"] += fewer
            await progress({"done": (at + len(some)) / len(ids), **changes})
        if dry_run:
            return changes
        await self._write(lambda tx: journal.note(tx, one.id, Message("connection.replanned", changes)))
        self._sender()
        return changes | await self._deliver(connection_id, began, Seen())

    # --- operations -------------------------------------------------------------------------------------------

    async def retry(self, connection_id: str, operation_id: str) -> None:
        """Let a held or rejected operation go out again. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            one = outbox.get(tx, connection_id, operation_id)
            if one.state not in (State.held, State.rejected):
                return False
            _refuse_too_much(tx, one)
            if one.hold in (Hold.no_card, Hold.conflict):
                return _wait_again(tx, one)
            return outbox.retry(tx, one)

        if not await self._write(work):
            raise Refusal("there is nothing to try again: it is neither held nor rejected")

    async def dismiss(self, connection_id: str, operation_id: str) -> None:
        """Give up a held operation. Raises `Refusal`."""
        done = await self._write(lambda tx: outbox.dismiss(tx, outbox.get(tx, connection_id, operation_id)))
        if not done:
            raise Refusal("it is not held: only what is held can be dismissed")

    async def acknowledge(self, connection_id: str, operation_id: str) -> None:
        """Leave a rejected operation at that: it has been seen. Raises `Refusal`."""
        done = await self._write(lambda tx: outbox.acknowledge(tx, outbox.get(tx, connection_id, operation_id)))
        if not done:
            raise Refusal("this was not rejected, or has been seen already")

    # --- errands ----------------------------------------------------------------------------------------------

    async def perform(
        self, kind: str, connection_id: str, params: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """One of the works that a command may leave to a running host."""
        match kind:
            case "sync":
                return await self.sync(connection_id)
            case "backfill":
                return await self.backfill(connection_id, str(params["since"]), progress)
            case "replan":
                return await self.replan(connection_id, str(params["since"]), progress)
        raise Refusal(f"there is no errand {kind!r}")

    async def claim_errands(self) -> list[Errand]:
        """Take what commands asked for."""
        if not await self._store.read(errands.any_asked):
            return []
        return await self._store.write(errands.claim)

    async def do_errand(self, errand: Errand) -> None:
        """Do one errand and leave its result for whoever waits."""

        async def progress(now: Mapping[str, Any]) -> None:
            await self._store.write(lambda tx: errands.progress(tx, errand.id, now))

        try:
            result = await self.perform(errand.kind, errand.connection_id, errand.params, progress)
            state = "done"
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            result, state = {"error": redact(str(error) or type(error).__name__)}, "failed"
        await self._store.write(lambda tx: errands.finish(tx, errand.id, state, result))


def _share(start: datetime, reached: datetime, end: int) -> float:
    """How much of a stretch of time has been read, from 0 to 1."""
    whole = max(1.0, (moment(end) - start).total_seconds())
    return max(0.0, min(1.0, (reached - start).total_seconds() / whole))


def _refuse_too_much(tx: Transaction, one: outbox.Operation) -> None:
    """A retry must not give (or take) what the receipt does not call for any more. Raises `Refusal`."""
    page = Page.load(tx, [one.sale_id])
    row = page.rows[one.sale_id]
    mine = next(o for o in page.operations[row.id] if o.id == one.id)
    signed = mine.planned().signed
    if one.state is State.held or not signed:
        return
    given = sum(
        o.planned().signed
        for o in page.operations[row.id]
        if o.owner == mine.owner and o.state not in (State.cancelled, State.rejected)
    )
    theirs = mine.owner in (row.card_id, row.nobody) and row.identified
    wanted = row.stamps if theirs and row.admitted else 0
    if (signed > 0 and given + signed > wanted) or (signed < 0 and given + signed < wanted):
        raise Refusal(
            "receipt {receipt} does not call for that any more: it is entitled to {wanted} stamps for this card, "
            "and {given} are given or on their way",
            receipt=one.receipt_id,
            wanted=wanted,
            given=given,
        )


def _wait_again(tx: Transaction, one: outbox.Operation) -> bool:
    """A hold for want of a card is revived: look for the card once more, from now."""
    page = Page.load(tx, [one.sale_id])
    row = page.rows[one.sale_id]
    who = ledger.content(tx, row).customer
    if not who:
        return False
    outbox.hold_again(tx, one, tx.now + 30 * DAY)
    row.bound_hash = None
    page.changed(row)
    page.identify_later(row, who, tx.now)
    page.flush()
    return True


def _leave_out(tx: Transaction, one: Connection, since: int) -> None:
    """What arrived in the pause by itself was planned already: nothing of it was sent, so all of it cancels."""
    page = Page.load(tx, ledger.sales_closed_since(tx, one.id, since))
    for row in page.oldest_first():
        if row.admitted and all(o.state in MOVABLE | {State.cancelled} for o in page.operations[row.id]):
            row.admitted = 0
            page.changed(row)
            rule = rule_for(row, connections.rules(tx, row.rule_of or one.id)).rule
            plan_sale(page, row, one, rule, Message("why.left_out"))
            plan_redemptions(page, row, one, ())
    page.flush()


def _replan(tx: Transaction, one: Connection, ids: Sequence[str], *, write: bool) -> tuple[int, int]:
    """Stamps more and fewer by the newest rule, for some sales."""
    newest = connections.rules(tx, one.id)[-1]
    page = Page.load(tx, ids)
    more = fewer = 0
    for row in page.oldest_first():
        sale = ledger.content(tx, row)
        earned = entitlement(row, sale, newest.rule, one.account.zone)
        row.rule_of, row.rule_number, row.pinned = one.id, newest.number, 1
        page.changed(row)
        if earned.stamps == row.stamps:
            continue
        if row.admitted and row.customer_hash is not None:
            more += max(0, earned.stamps - row.stamps)
            fewer += max(0, row.stamps - earned.stamps)
        row.stamps = earned.stamps
        if sale.customer and not row.identified and row.admitted and row.stamps:
            page.identify_later(row, sale.customer, tx.now)
        plan_sale(page, row, one, newest.rule, earned.why)
    if write:
        page.flush()
    return more, fewer


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


_EMAIL = re.compile(r"(?=.{6,254}$)[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")


def _secret(found: type[Connector[Any]]) -> str | None:
    """The form field that holds what the till lets us in with."""
    return next((one.field for one in found.authorisation if isinstance(one, Token)), None)


def _title(text: str) -> str:
    """A name on one line, of a length that fits."""
    return " ".join(text.split())[:120]


def nearest(wanted: str, known: Iterable[str]) -> list[str]:
    """The known names, those most like `wanted` first."""
    return sorted(known, key=lambda one: (-difflib.SequenceMatcher(None, wanted, one).ratio(), one))


def day(text: str, zone: str) -> datetime:
    """The start of a day (`2026-11-23`) in a zone. Raises `Refusal`."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(zone))
    except ValueError:
        raise Refusal(f"{text!r} is not a day: write it as 2026-11-23") from None


def _iso(at: int | None) -> str | None:
    return moment(at).isoformat() if at is not None else None
