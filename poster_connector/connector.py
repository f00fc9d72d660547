"""The face of Poster: polls an account's receipts, and takes its hooks as hints of what to read again.

Owns windows of business days and what a hook says; the wire itself is `wire`, `client` and `mapping`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from pydantic import SecretStr, ValidationError

from connector_sdk import (
    Account,
    AccountChanged,
    Answer,
    BadPayload,
    Checkpoint,
    Connector,
    ConnectorInfo,
    Customer,
    Forged,
    Hint,
    Hints,
    HookAddress,
    HookRequest,
    Ignored,
    Location,
    MenuItem,
    NotAuthorised,
    NotConfigured,
    OAuth,
    Received,
    Sale,
    SalePage,
    TillAccount,
    Token,
    Unreadable,
)
from connector_sdk.errors import ConnectorError
from connector_sdk.signatures import OrderedFieldsMd5
from poster_connector import mapping, oauth, wire
from poster_connector.client import ALL, CLOSED, PosterClient
from poster_connector.settings import PosterApp, PosterSettings

_SLICE_DAYS = 3  # what Poster reads at once (error 52)
_MENU_SECONDS = 3600.0
_ACCEPT = Answer(200, b'{"status":"accept"}')


class PosterConnector(Connector[PosterSettings]):
    """One Poster account."""

    info = ConnectorInfo(
        name="poster",
        title="Poster",
        summary="Every receipt closed in Poster becomes stamps.",
        needs="Your Poster sign-in, or a personal integration token.",
        minutes=2,
        hook_address=HookAddress.operator,
        sandbox="poster_connector.sandbox:PosterSandbox",
        stub="poster_connector.stub:PosterStub",
        attach_customer=(
            "In the Poster terminal: open the order, tap Client, and choose the guest or type the phone before closing."
        ),
        for_categories={"categories": "true"},
        hook_steps=(
            "On Poster's developer site, open your application and paste this address as its webhook URL.",
            "Tick transaction and application; nothing else is needed.",
            "Press Check there: it turns green once this host can be reached.",
        ),
    )
    app_model = PosterApp
    authorisation = (
        OAuth(oauth.authorise_url, oauth.exchange, lives=oauth.TOKEN_LIVES),
        Token("access_token", "In Poster's admin: Access → Integrations → Personal integration; copy the token."),
    )
    quick_up_to = 16 * 1024
    hook_answer = _ACCEPT

    def __init__(
        self,
        settings: PosterSettings,
        *,
        app: PosterApp | None = None,
        account: TillAccount | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(settings, app=app or PosterApp(), account=account, transport=transport)
        self._client = PosterClient(self.app.api_url, settings.access_token.get_secret_value(), transport)
        self._categories: dict[str, str] = {}
        self._menu_read_at: float | None = None

    async def aclose(self) -> None:
        await self._client.aclose()

    # --- the account ------------------------------------------------------------------------------------------

    async def check(self) -> TillAccount:
        """Account, currency and zone from Poster's settings, its spots as locations."""
        facts = await self._client.settings()
        currency = facts.get("currency")
        try:
            return TillAccount(
                id=self.settings.account_number,
                name=wire.text(facts, "company_name") or self.settings.account_number,
                currency=wire.text(currency, "currency_code_iso") if isinstance(currency, dict) else "",
                zone=wire.text(facts, "timezones"),
                country=await self._country(),
                hook_name=wire.text(facts, "COMPANY_ID").lower(),
                locations=tuple(
                    Location(id=wire.text(spot, "spot_id"), name=wire.text(spot, "spot_name") or "?")
                    for spot in await self._client.spots()
                    if isinstance(spot, dict)
                ),
            )
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BadPayload(f"settings.getAllSettings ({where})", "cannot be understood") from None

    async def _country(self) -> str | None:
        """The owner's country: nice to have, and a token may lack the right to it."""
        try:
            owner = (await self._client.info()).get("ownerInfo")
        except NotAuthorised as error:
            if type(error) is NotAuthorised:
                raise
            return None
        except ConnectorError:
            return None
        found = wire.text(owner, "country") if isinstance(owner, dict) else ""
        return found.upper() if len(found) == 2 else None

    async def customer(self, till_id: str) -> Customer | None:
        raw = await self._client.client(till_id)
        return mapping.customer_of(raw, self.settings) if raw is not None else None

    async def menu(self) -> list[MenuItem]:
        names = {
            wire.text(one, "category_id"): wire.text(one, "category_name") for one in await self._client.categories()
        }
        items: list[MenuItem] = []
        for one in await self._client.products():
            product, category = wire.text(one, "product_id"), wire.text(one, "menu_category_id")
            if product:
                items.append(
                    MenuItem(
                        product_id=product,
                        name=wire.text(one, "product_name") or product,
                        category_id=category or None,
                        category_name=names.get(category),
                    )
                )
        return items

    # --- reading ----------------------------------------------------------------------------------------------

    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        """Closed receipts whose `date_close` is at or after `since.at`, from business days widened by one each side."""
        began = datetime.now(UTC)
        at = since.at if since is not None else began
        async for raw in self._days(at, began, CLOSED):
            recent = [one for one in raw if _closed_since(one, at)]
            yield await self._page(recent)
        yield SalePage(checkpoint=Checkpoint(at=began))

    async def look_back(self, since: datetime) -> AsyncIterator[SalePage]:
        """Whole business days with everything in them: removed, refunded, reopened and late receipts."""
        now = datetime.now(UTC)
        for first, last in self._slices(since, now):
            async for raw in self._client.receipts(first, last, ALL):
                yield await self._page(raw)
            end = datetime.combine(last, datetime.min.time(), ZoneInfo(self.account.zone))
            yield SalePage(checkpoint=Checkpoint(at=min(end, now)))

    async def fetch(self, receipt_id: str) -> Sale | None:
        raw = await self._client.receipt(receipt_id)
        if raw is None:
            return None
        return mapping.sale_of(raw, self.account.currency, self.settings, await self._product_categories())

    async def _days(self, since: datetime, until: datetime, status: str) -> AsyncIterator[list[Any]]:
        for first, last in self._slices(since, until):
            async for page in self._client.receipts(first, last, status):
                yield page

    def _slices(self, since: datetime, until: datetime) -> list[tuple[date, date]]:
        """The business days from the one before `since` to the one after `until`, in slices Poster accepts."""
        zone = ZoneInfo(self.account.zone)
        first = since.astimezone(zone).date() - timedelta(days=1)
        end = until.astimezone(zone).date() + timedelta(days=1)
        slices: list[tuple[date, date]] = []
        while first <= end:
            last = min(first + timedelta(days=_SLICE_DAYS - 1), end)
            slices.append((first, last))
            first = last + timedelta(days=1)
        return slices

    async def _page(self, raw: list[Any]) -> SalePage:
        sales: list[Sale] = []
        unreadable: list[Unreadable] = []
        categories = await self._product_categories() if raw else {}
        for one in raw:
            try:
                sales.append(mapping.sale_of(one, self.account.currency, self.settings, categories))
            except BadPayload as error:
                unreadable.append(Unreadable.of(error, mapping.receipt_id(one)))
        return SalePage(sales=tuple(sales), unreadable=tuple(unreadable))

    async def _product_categories(self) -> dict[str, str]:
        """Product → category, read again once an hour; only where a rule needs it."""
        if not self.settings.categories:
            return {}
        now = time.monotonic()
        if self._menu_read_at is None or now - self._menu_read_at > _MENU_SECONDS:
            products = await self._client.products()
            self._categories = {
                wire.text(one, "product_id"): wire.text(one, "menu_category_id")
                for one in products
                if wire.text(one, "menu_category_id")
            }
            self._menu_read_at = now
        return self._categories

    # --- hooks ------------------------------------------------------------------------------------------------

    @classmethod
    def route(cls, app: PosterApp, hook: HookRequest) -> Account | Answer:
        """Verify a hook and say whose it may be; the developer site's "Check" (`GET`, unsigned `test`) is answered.

        The account's number is not signed: it only finds the connections, each of which then sees in `prove` whether
        the signed name is its account's.
        """
        if hook.method in ("GET", "HEAD"):
            return _ACCEPT
        found = _verified(app, hook)
        if found is None:
            return _ACCEPT
        return Account(found.account_number)

    def prove(self, hook: HookRequest) -> None:
        """See that a hook is signed and that its signed account is this one. Raises as `Connector.prove` says."""
        found = _verified(self.app, hook)
        if found is None:
            return
        name = self.account.hook_name
        if not name:  # connected before this was asked; Poster sends again, and by then a look-back has asked
            raise NotConfigured("what hooks call this account")
        if found.account.lower() != name:
            raise Forged("it is another account's")

    def receive(self, hook: HookRequest) -> Received:
        found = wire.hook(hook.body)
        if found.is_test:
            return Ignored("the developer site's check")
        match found.object, found.action:
            case "transaction", _:
                if not found.object_id or len(found.object_id) > 128:
                    raise BadPayload("object_id", "is missing")
                return Hints((Hint(found.object_id, closed=found.action == "closed"),))
            case "application", "removed":
                # never believed: an old one can be sent again by whoever saw it, and only Poster knows what is so now
                return AccountChanged(recheck=True, at=found.at())
            case "application", "added":
                token = found.details().get("access_token")
                # a token of another account must never be joined to this one's connection
                if not isinstance(token, str) or not token.startswith(f"{self.settings.account_number}:"):
                    return AccountChanged(recheck=True, at=found.at())
                return AccountChanged(settings={"access_token": SecretStr(token)}, at=found.at())
        return Ignored(f"about {found.object[:40]}")


def _verified(app: PosterApp, hook: HookRequest) -> wire.Hook | None:
    """The hook, its proof checked; `None` for the developer site's test."""
    secret = app.secret()
    if not secret:
        raise NotConfigured("POSTER_APPLICATION_SECRET")
    found = wire.hook(hook.body)
    if found.is_test:
        return None
    if not found.verify:
        raise Forged("the signature is missing")
    OrderedFieldsMd5(secret).verify(found.signed, found.verify)
    return found


def _closed_since(raw: Any, at: datetime) -> bool:
    """Whether a receipt belongs to the fast read; one that cannot be read does, to be kept."""
    try:
        closed = mapping.closed_at(raw) if isinstance(raw, dict) else at
    except BadPayload:
        return True
    return closed is not None and closed >= at
