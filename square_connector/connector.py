"""The face of Square: polls a seller's orders by their last change, and takes its hooks as hints of what to read again.

Owns the windows of the reads and what a hook asks for; gathering an order's records is `reading`'s, the wire itself
`wire`, `client` and `mapping`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import ValidationError

from connector_sdk import (
    Account,
    AccountChanged,
    Answer,
    BadPayload,
    Connector,
    ConnectorInfo,
    Customer,
    Forged,
    Grant,
    Hint,
    Hints,
    HookAddress,
    HookRequest,
    Ignored,
    MenuItem,
    NotAuthorised,
    NotConfigured,
    OAuth,
    RateLimit,
    Received,
    Sale,
    SalePage,
    TillAccount,
    Token,
    Unreadable,
)
from connector_sdk.authorisation import Credentials
from connector_sdk.signatures import AddressedHmac
from square_connector import mapping, oauth, wire
from square_connector.client import CALLS_PER_SECOND, SquareClient
from square_connector.reading import OrderRecords, RecordReader, RefundList, customer_ids, is_sale, payment_ids
from square_connector.settings import SquareApp, SquareSettings
from square_connector.wire import JsonObject, object_in, text_in, time_in

_REFUNDS_SINCE = timedelta(days=1)
"""So much earlier than a poll its list of refunds begins: for orders made since then it is whole."""
_OFFLINE = timedelta(days=1)
"""So much earlier than asked a thorough read begins: a till that was offline delivers up to 72 hours late."""
_STRETCH = timedelta(days=7)
"""How much of a history is read at once, so that one that fails goes on from there."""
_MENU_SECONDS = 3600.0  # items change their category seldom, and reading them costs calls
_LONGEST_ID = 128  # as long as a key of the host


class SquareConnector(Connector[SquareSettings]):
    """One Square seller: its orders at all locations, its customers and catalogue, its hooks at the application's."""

    info = ConnectorInfo(
        name="square",
        title="Square",
        summary="Every sale closed in Square becomes stamps, at all your locations.",
        needs="Your Square sign-in, as the owner of the business.",
        needs_without_sign_in="An access token of an application of your own, from Square's Developer Console.",
        minutes=2,
        mark="M4 10h16v10H4zM7 10V4h10v6M10 7h4M8 14h8M8 17h4",
        hook_address=HookAddress.operator,
        sandbox="square_connector.sandbox:SquareSandbox",
        stub="square_connector.stub:SquareStub",
        attach_customer="In Square's app: add the customer to the sale, by phone or email, before you charge.",
        for_categories={"categories": "true"},
        hook_steps=(
            "In Square's Developer Console, under Webhooks, add a subscription with this address to your application.",
            "Choose all its events about payments, refunds, orders and locations, and oauth.authorization.revoked.",
            "Copy the subscription's signature key into SQUARE_SIGNATURE_KEY, and start this host again.",
        ),
        caution="Built to Square's public documentation and tried on our own stand-in, not yet on a real seller.",
    )
    app_model = SquareApp
    authorisation = (
        OAuth(oauth.authorise_url, oauth.exchange, oauth.refresh, oauth.revoke),
        Token(
            "access_token",
            "Only with a Square application of your own: in the Developer Console, under Credentials, the production "
            "access token.",
        ),
    )
    poll_sees_every_change = True
    quick_up_to = 64 * 1024

    def __init__(
        self,
        settings: SquareSettings,
        *,
        app: SquareApp | None = None,
        account: TillAccount | None = None,
        credentials: Credentials | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            settings, app=app or SquareApp(), account=account, credentials=credentials, transport=transport
        )
        self._opened_client: SquareClient | None = None
        self._opened_reader: RecordReader | None = None
        self._categories: dict[str, str] = {}
        self._menu_read_at: float | None = None

    @property
    def _client(self) -> SquareClient:
        """Make the client when it is first needed: hooks are read without one. Raises `NotAuthorised`."""
        if self._opened_client is None:
            self._opened_client = SquareClient(self.app, self._access(), self._limit(), self.transport)
        return self._opened_client

    @property
    def _reader(self) -> RecordReader:
        if self._opened_reader is None:
            self._opened_reader = RecordReader(self._client)
        return self._opened_reader

    def _limit(self) -> RateLimit:
        """Return the limit by which Square counts: the application's, of which a pasted token has its own."""
        if self.credentials is not None:
            return RateLimit.shared(f"square:{self.app.application_id}", CALLS_PER_SECOND)
        if self.account_id is not None:
            return RateLimit.shared(f"square:own:{self.account_id}", CALLS_PER_SECOND)
        return RateLimit(CALLS_PER_SECOND)

    def _access(self) -> Credentials:
        """Return what Square's consent page granted, or a grant of the token that was pasted."""
        if self.credentials is not None:
            return self.credentials
        if self.settings.access_token is None:
            raise NotAuthorised("there is no token")
        return Credentials(Grant({"access_token": self.settings.access_token}))

    async def aclose(self) -> None:
        """Close the client, if one was made."""
        if self._opened_client is not None:
            await self._opened_client.aclose()

    # --- the account ------------------------------------------------------------------------------------------

    async def check(self) -> TillAccount:
        """Read the seller and its open locations. Raises `MissingRight` for what was not granted, and `BadPayload`."""
        await self._client.require_scopes()
        merchant, locations = await self._client.merchant(), await self._client.locations()
        try:
            return mapping.account_of(merchant, locations)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BadPayload(f"v2/merchants, v2/locations ({where})", "cannot be understood") from None

    async def customer(self, till_id: str) -> Customer | None:
        """Read a customer; `None` for one that Square does not know, or has made of a payment card by itself."""
        raw = await self._client.customer(till_id)
        return mapping.customer_of(raw, self.settings) if raw is not None else None

    async def menu(self) -> list[MenuItem]:
        """Read the catalogue's variations with their categories."""
        return mapping.menu_of(await self._client.catalogue())

    # --- reading ----------------------------------------------------------------------------------------------

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        """Read the orders that changed since then, whatever their state, and those whose refunds did."""
        # taken before the first call: what changes while pages are read belongs to the next poll
        began = datetime.now(UTC)
        refunds = await self._client.refunds(since - _REFUNDS_SINCE)
        listed = RefundList.of(since - _REFUNDS_SINCE, refunds)
        seen = set[str]()
        async for orders in self._client.orders(self._locations(), "UPDATED_AT", since, began):
            seen.update(text_in(order, "id") for order in orders)
            yield await self._page(await self._reader.complete(orders, listed))
        # a refund that is completed need not change the order that it is of
        changed = [refund for refund in refunds if (at := time_in(refund, "updated_at")) is not None and at >= since]
        sold = {order_id for refund in changed if (order_id := await self._reader.sold_by(refund)) is not None}
        if left := sorted(sold - seen):
            yield await self._page(await self._reader.complete(await self._client.orders_by_id(left), listed))
        yield SalePage(complete_until=began)

    async def history(self, since: datetime) -> AsyncIterator[SalePage]:
        """Read the orders made since then, a week at a time, and a day more, for tills that were offline."""
        now = datetime.now(UTC)
        start = since - _OFFLINE
        listed = RefundList.of(start, await self._client.refunds(start))
        while start < now:
            end = min(start + _STRETCH, now)
            async for orders in self._client.orders(self._locations(), "CREATED_AT", start, end):
                payments = await self._payments_for(orders)
                yield await self._page(await self._reader.complete(orders, listed, payments, anew=True))
            start = end
            yield SalePage(complete_until=end)

    async def fetch(self, receipt_id: str) -> Sale | None:
        """Read one order as it is now, or the one that a return is of; `None` where Square knows none of that id."""
        order = await self._client.order(receipt_id)
        if order is not None and not is_sale(order):
            source = await self._reader.source_of(order)
            if source is None and wire.objects_in(order, "returns"):
                raise BadPayload("returns", "is a refund that names no sale", wire.body_of(order))
            order = await self._client.order(source) if source is not None else None
        if order is None:
            return None
        # one order alone: its refunds are asked for by its payments, and no list is whole for it
        nothing = RefundList(datetime.max.replace(tzinfo=UTC))
        gathered = await self._reader.complete([order], nothing, anew=True)
        if not gathered:
            return None
        return mapping.sale_of(gathered[0], self.settings, await self._product_categories())

    def _locations(self) -> list[str]:
        return [location.id for location in self.account.locations]

    async def _payments_for(self, orders: Sequence[JsonObject]) -> dict[str, JsonObject]:
        """Read the payments of orders that name no customer, by location and time: far fewer calls than one by one."""
        times: dict[str, list[datetime]] = {}
        for order in orders:
            for location, made_at in _unnamed_payment_times(order):
                times.setdefault(location, []).append(made_at)
        payments: dict[str, JsonObject] = {}
        for location, made in times.items():
            # a payment is made after its order, and may be captured much later: what is missing is asked for by id
            since, until = min(made), max(made) + timedelta(hours=6)
            async for page in self._client.payments(location, since, until):
                payments.update((text_in(payment, "id"), payment) for payment in page)
        return payments

    async def _page(self, gathered: Sequence[OrderRecords]) -> SalePage:
        """Map orders; one that cannot be read is reported beside the others and does not stop them."""
        sales: list[Sale] = []
        unreadable: list[Unreadable] = []
        categories = await self._product_categories() if gathered else {}
        for records in gathered:
            try:
                sales.append(mapping.sale_of(records, self.settings, categories))
            except BadPayload as error:
                unreadable.append(Unreadable.of(error, text_in(records.order, "id") or None))
        return SalePage(sales=tuple(sales), unreadable=tuple(unreadable))

    async def _product_categories(self) -> dict[str, str]:
        """Map variation to category, read again once an hour; empty unless a rule needs it."""
        if not self.settings.categories:
            return {}
        now = time.monotonic()
        if self._menu_read_at is None or now - self._menu_read_at > _MENU_SECONDS:
            self._categories = {item.product_id: item.category_id for item in await self.menu() if item.category_id}
            self._menu_read_at = now
        return self._categories

    # --- hooks ------------------------------------------------------------------------------------------------

    @classmethod
    def route(cls, app: SquareApp, hook: HookRequest) -> Account | Answer:
        """Verify a hook by its signature over this host's address and the body, and say whose it is.

        Raises `NotConfigured`, `Forged`, or `BadPayload`.
        """
        if app.signature_key is None:
            raise NotConfigured("SQUARE_SIGNATURE_KEY")
        signature = hook.headers.get(wire.SIGNATURE)
        if not signature:
            raise Forged("the signature is missing")
        AddressedHmac(app.signature_key.get_secret_value()).verify(hook, signature)
        merchant = text_in(wire.hook_of(hook.body), "merchant_id")
        if not merchant or len(merchant) > _LONGEST_ID:
            raise BadPayload("merchant_id", "is missing", hook.body)
        return Account(merchant)

    def receive(self, hook: HookRequest) -> Received:
        """Read a hook as a hint of what to read again, or as news of the account. Raises `BadPayload`.

        Orders of the till itself send no hook of their own: their payments do.
        """
        envelope = wire.hook_of(hook.body)
        kind = text_in(envelope, "type")
        data = object_in(envelope, "data")
        record = object_in(data, "object")
        match kind.partition("."):
            case "payment", _, _:
                payment = object_in(record, "payment")
                # a payment without an order is a transfer, or of an application that keeps its own
                if not text_in(payment, "order_id"):
                    return Ignored("about a payment without an order")
                return _hint(text_in(payment, "order_id"), closed=text_in(payment, "status") == "COMPLETED")
            case "refund", _, _:
                # the order of the return: `fetch` finds the sale that it is of
                return _hint(text_in(object_in(record, "refund"), "order_id"))
            case "order", _, _:
                return _hint(text_in(data, "id"))
            case "location", _, _:
                return AccountChanged(recheck=True)
            case "oauth", _, "authorization.revoked":
                return AccountChanged(authorised=False, at=time_in(object_in(record, "revocation"), "revoked_at"))
        return Ignored(f"about {kind[:40]}")


def _hint(order_id: str, *, closed: bool = False) -> Hints:
    """Name the order to read again. Raises `BadPayload` where there is none."""
    if not order_id or len(order_id) > _LONGEST_ID:
        raise BadPayload("data.object", "names no order")
    return Hints((Hint(order_id, closed=closed),))


def _unnamed_payment_times(order: JsonObject) -> list[tuple[str, datetime]]:
    """Return where and when the payments of an order were made that names no customer; empty for one that does."""
    try:
        if customer_ids(order) or not payment_ids(order):
            return []
        times = [time_in(tender, "created_at") for tender in wire.objects_in(order, "tenders")]
        return [(text_in(order, "location_id"), made_at) for made_at in times if made_at is not None]
    except BadPayload:
        return []  # it is reported when it is mapped
