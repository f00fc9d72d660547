"""The face of Poster: polls an account's receipts, and takes its hooks as hints of what to read again.

Owns windows of business days and what a hook asks for; the wire itself is `wire`, `client` and `mapping`, and the proof
of a hook `verification`'s.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
from pydantic import SecretStr, ValidationError

from connector_sdk import (
    Account,
    AccountChanged,
    Answer,
    BadPayload,
    Connector,
    ConnectorInfo,
    Customer,
    Grant,
    Hint,
    Hints,
    HookAddress,
    HookRequest,
    Ignored,
    Location,
    LoyaltyEvent,
    MenuItem,
    NotAuthorised,
    OAuth,
    Received,
    Sale,
    SalePage,
    TillAccount,
    Token,
    Unreadable,
)
from connector_sdk.authorisation import Credentials
from connector_sdk.errors import ConnectorError
from poster_connector import mapping, oauth, verification, wire
from poster_connector.client import ALL, CLOSED, PosterClient
from poster_connector.progress import ProgressLines
from poster_connector.settings import PosterApp, PosterSettings, is_token

_SLICE_DAYS = 3  # what Poster reads at once (error 52)
_MENU_SECONDS = 3600.0  # products change their category seldom, and reading them costs a call
_LONGEST_ID = 128  # as long as a key of the host
_ACCEPT = Answer(200, b'{"status":"accept"}')


class PosterConnector(Connector[PosterSettings]):
    """One Poster account: its receipts, customers and menu, and its hooks at the address of the application."""

    info = ConnectorInfo(
        name="poster",
        title="Poster",
        summary="Every receipt closed in Poster becomes stamps.",
        needs="Your Poster sign-in, or a personal integration token.",
        minutes=2,
        mark="M4 4h16v11H4zM12 15v4M8 20h8M8 8h4M8 11h8",
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
        OAuth(oauth.authorise_url, oauth.exchange),
        Token("access_token", "In Poster's admin: Access → Integrations → Personal integration; copy the token."),
    )
    quick_up_to = verification.LARGEST_REMEMBERED
    hook_answer = _ACCEPT

    def __init__(
        self,
        settings: PosterSettings,
        *,
        app: PosterApp | None = None,
        account: TillAccount | None = None,
        credentials: Credentials | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            settings, app=app or PosterApp(), account=account, credentials=credentials, transport=transport
        )
        self._opened_client: PosterClient | None = None
        self._opened_lines: ProgressLines | None = None
        self._categories: dict[str, str] = {}
        self._menu_read_at: float | None = None

    @property
    def _client(self) -> PosterClient:
        """Make the client when it is first needed: hooks are read without one. Raises `NotAuthorised`."""
        if self._opened_client is None:
            self._opened_client = PosterClient(self.app.api_url, self.account_id, self._token(), self.transport)
        return self._opened_client

    def _token(self) -> str:
        """Return what Poster lets us in with: what its consent page granted, or what the cafe pasted."""
        if self.credentials is not None:
            return self.credentials.grant.secret("access_token")
        if self.settings.access_token is None:
            raise NotAuthorised("there is no token")
        return self.settings.access_token.get_secret_value()

    async def aclose(self) -> None:
        """Close the client, if one was made."""
        if self._opened_client is not None:
            await self._opened_client.aclose()

    # --- the account ------------------------------------------------------------------------------------------

    async def check(self) -> TillAccount:
        """Read the account: currency and zone from Poster's settings, its spots as locations.

        Raises `BadPayload` where the settings make no account, and what `PosterClient` raises.
        """
        facts = await self._client.settings()
        number = _account_number(self._token())
        try:
            return TillAccount(
                id=number,
                name=wire.read_text(facts, "company_name") or number,
                currency=wire.read_text(facts.get("currency"), "currency_code_iso"),
                zone=wire.read_text(facts, "timezones"),
                country=await self._country(),
                hook_name=wire.read_text(facts, "COMPANY_ID").lower(),
                locations=await self._locations(),
            )
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BadPayload(f"settings.getAllSettings ({where})", "cannot be understood") from None

    async def _locations(self) -> tuple[Location, ...]:
        return tuple(
            Location(id=wire.read_text(spot, "spot_id"), name=wire.read_text(spot, "spot_name") or "?")
            for spot in await self._client.spots()
            if isinstance(spot, dict)
        )

    async def _country(self) -> str | None:
        """Read the owner's country; `None` where it is not said or the token may not read it.

        The country is nice to have, so only a refused token (and not a missing right, which is a subclass) ends the
        check.
        """
        try:
            owner = (await self._client.info()).get("ownerInfo")
        except NotAuthorised as error:
            if type(error) is NotAuthorised:
                raise
            return None
        except ConnectorError:
            return None
        country = wire.read_text(owner, "country")
        return country.upper() if len(country) == 2 else None

    async def customer(self, till_id: str) -> Customer | None:
        """Read a client as a customer; `None` where Poster knows none of that id."""
        raw = await self._client.client(till_id)
        return mapping.customer_of(raw, self.settings) if raw is not None else None

    async def menu(self) -> list[MenuItem]:
        """Read the products with their categories."""
        names = {
            wire.read_text(category, "category_id"): wire.read_text(category, "category_name")
            for category in await self._client.categories()
        }
        products = await self._client.products()
        return [mapping.menu_item(product, names) for product in products if wire.read_text(product, "product_id")]

    # --- what 7stamp says -------------------------------------------------------------------------------------

    @property
    def _lines(self) -> ProgressLines:
        if self._opened_lines is None:
            self._opened_lines = ProgressLines(self._client, self.index)
        return self._opened_lines

    async def on_loyalty_event(self, event: LoyaltyEvent) -> None:
        """Show a card's progress in its customer's comment, where the cafe wishes it."""
        if self.settings.show_progress:
            await self._lines.show(event)

    async def leave(self) -> None:
        """Take from the customers' comments what was written into them."""
        await self._lines.leave()

    # --- reading ----------------------------------------------------------------------------------------------

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        """Read closed receipts whose `date_close` is at or after `since`.

        They are read from business days widened by one each side: a day of the account begins and ends at another
        moment than a day in UTC.
        """
        # taken before the first call: what is closed while pages are read belongs to the next poll
        began = datetime.now(UTC)
        async for records in self._read_days(since, began, CLOSED):
            # the days asked for hold much that an earlier poll has seen
            recent = [record for record in records if _closed_since(record, since)]
            yield await self._page(recent)
        yield SalePage(complete_until=began)

    async def history(self, since: datetime) -> AsyncIterator[SalePage]:
        """Read whole business days with everything in them: removed, refunded, reopened and late receipts.

        A checkpoint follows each slice of days, so that a long backfill that fails goes on from there.
        """
        now = datetime.now(UTC)
        for first, last in self._slices(since, now):
            async for records in self._client.receipts(first, last, ALL):
                yield await self._page(records)
            # the last day of a slice may have begun only: all before it is read for good
            end = datetime.combine(last, datetime.min.time(), ZoneInfo(self.account.zone))
            yield SalePage(complete_until=min(end, now))

    async def fetch(self, receipt_id: str) -> Sale | None:
        """Read one receipt as it is now; `None` where Poster knows none of that id."""
        raw = await self._client.receipt(receipt_id)
        if raw is None:
            return None
        return mapping.sale_of(raw, self.account.currency, self.settings, await self._product_categories())

    async def _read_days(self, since: datetime, until: datetime, status: str) -> AsyncIterator[list[object]]:
        for first, last in self._slices(since, until):
            async for page in self._client.receipts(first, last, status):
                yield page

    def _slices(self, since: datetime, until: datetime) -> list[tuple[date, date]]:
        """Cut the business days from the one before `since` to the one after `until` into slices Poster accepts."""
        zone = ZoneInfo(self.account.zone)
        first = since.astimezone(zone).date() - timedelta(days=1)
        end = until.astimezone(zone).date() + timedelta(days=1)
        slices: list[tuple[date, date]] = []
        while first <= end:
            last = min(first + timedelta(days=_SLICE_DAYS - 1), end)
            slices.append((first, last))
            first = last + timedelta(days=1)
        return slices

    async def _page(self, records: list[object]) -> SalePage:
        """Map records; one that cannot be read is reported beside the others and does not stop them."""
        sales: list[Sale] = []
        unreadable: list[Unreadable] = []
        categories = await self._product_categories() if records else {}
        for record in records:
            try:
                sales.append(mapping.sale_of(record, self.account.currency, self.settings, categories))
            except BadPayload as error:
                unreadable.append(Unreadable.of(error, mapping.receipt_id_of(record)))
        return SalePage(sales=tuple(sales), unreadable=tuple(unreadable))

    async def _product_categories(self) -> dict[str, str]:
        """Map product to category, read again once an hour; empty unless a rule needs it."""
        if not self.settings.categories:
            return {}
        now = time.monotonic()
        if self._menu_read_at is None or now - self._menu_read_at > _MENU_SECONDS:
            self._categories = mapping.categories_by_product(await self._client.products())
            self._menu_read_at = now
        return self._categories

    # --- hooks ------------------------------------------------------------------------------------------------

    @classmethod
    def route(cls, app: PosterApp, hook: HookRequest) -> Account | Answer:
        """Verify a hook and say whose it may be; the developer site's "Check" (`GET`, unsigned `test`) is answered.

        The account's number is not signed: it only finds the connections, of which the host keeps those whose account
        has the signed name.
        """
        # the developer site tries the address with a GET first, and wants 200
        if hook.method in ("GET", "HEAD"):
            return _ACCEPT
        verified = verification.verify(app, hook.body)
        if verified is None:
            return _ACCEPT
        return Account(verified.account_number, hook_name=verified.account.lower())

    @classmethod
    def caller(cls, app: PosterApp, request: HookRequest) -> Account | None:
        """Verify what an application on Poster's screen asks through Poster, and return whose it is."""
        return verification.caller(app, request)

    def receive(self, hook: HookRequest) -> Received:
        """Read a hook as a hint of what to read again, or as news of the application. Raises `BadPayload`.

        A hook about a receipt says no more than its id: the truth is what Poster answers now.
        """
        parsed = verification.parse(hook.body)
        if parsed.is_test:
            return Ignored("the developer site's check")
        # Poster sends many kinds of things; of all but receipts and the application nothing is kept
        match parsed.object, parsed.action:
            case "transaction", _:
                return _hint(parsed)
            case "application", "removed":
                # never believed: an old one can be sent again by whoever saw it, and only Poster knows what is so now
                return AccountChanged(recheck=True, at=parsed.at())
            case "application", "added":
                return self._joined(parsed)
        return Ignored(f"about {parsed.object[:40]}")

    def _joined(self, hook: wire.Hook) -> AccountChanged:
        """Take the token with which the account was joined to the application; believe no other account's."""
        token = hook.details().get("access_token")
        # a token of another account must never be joined to this one's connection
        if not isinstance(token, str) or not token.startswith(f"{self.account.id}:"):
            return AccountChanged(recheck=True, at=hook.at())
        if not is_token(token):
            raise BadPayload("data.access_token", "is no token")
        return AccountChanged(grant=Grant({"access_token": SecretStr(token)}), at=hook.at())


def _account_number(token: str) -> str:
    """Return the account's number, with which every token begins."""
    return token.partition(":")[0]


def _hint(hook: wire.Hook) -> Hints:
    """Name the receipt to read again. Raises `BadPayload` where there is none."""
    if not hook.object_id or len(hook.object_id) > _LONGEST_ID:
        raise BadPayload("object_id", "is missing")
    return Hints((Hint(hook.object_id, closed=hook.action == "closed"),))


def _closed_since(record: object, at: datetime) -> bool:
    """Say whether a receipt belongs to the fast read; one that cannot be read does, to be kept for a person."""
    try:
        closed_at = mapping.read_closed_at(record) if isinstance(record, dict) else at
    except BadPayload:
        return True
    return closed_at is not None and closed_at >= at
