"""The face of Serve: takes whole checks as they are pushed, and reads back by cursor what was missed.

Owns what an event says and when a reading is complete; the wire itself is `wire`, `client` and `mapping`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import ValidationError

from connector_sdk import (
    BadPayload,
    Checkpoint,
    Connector,
    ConnectorInfo,
    Forged,
    HookAddress,
    HookRequest,
    Ignored,
    Location,
    NotConfigured,
    Received,
    Sale,
    SalePage,
    Sales,
    TillAccount,
    Token,
    Unreadable,
)
from connector_sdk.signatures import TimestampedHmac
from serve_connector import mapping, wire
from serve_connector.client import ServeClient
from serve_connector.settings import ServeApp, ServeSettings


class ServeConnector(Connector[ServeSettings]):
    """One Serve account."""

    info = ConnectorInfo(
        name="serve",
        title="Serve",
        summary="Serve tells us of every check the moment it is closed.",
        needs="An access token and a webhook, both from Serve's admin.",
        minutes=4,
        hook_address=HookAddress.connection,
        sandbox="serve_connector.sandbox:ServeSandbox",
        stub="serve_connector.stub:ServeStub",
        attach_customer="In Serve: add the guest to the check, by phone or email, before it is closed.",
        hook_steps=(
            "In Serve's admin, under Webhooks, make a new one with this address and all events about checks.",
            "Copy the signing secret that Serve shows then, and paste it here.",
        ),
        caution="Serve publishes no description of its API: this connector is built on assumptions and was not yet "
        "tried on a real account.",
    )
    app_model = ServeApp
    quick_up_to = 16 * 1024
    authorisation = (Token("access_token", "In Serve's admin: Settings → API → Access tokens; copy the token."),)

    def __init__(
        self,
        settings: ServeSettings,
        *,
        app: ServeApp | None = None,
        account: TillAccount | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(settings, app=app or ServeApp(), account=account, transport=transport)
        self._made: ServeClient | None = None

    @classmethod
    def offered(cls, app: ServeApp) -> bool:
        return app.api_url is not None

    @property
    def _client(self) -> ServeClient:
        """Raises `NotConfigured` where the operator has not said where Serve is: hooks go on without it."""
        if self._made is None:
            if self.app.api_url is None:
                raise NotConfigured("SERVE_API_URL")
            token = self.settings.access_token.get_secret_value()
            self._made = ServeClient(self.app.api_url, token, self.transport)
        return self._made

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    # --- the account ------------------------------------------------------------------------------------------

    async def check(self) -> TillAccount:
        """The account of the token's venues, which share one currency."""
        venues = [one for one in await self._client.venues() if isinstance(one, dict)]
        if not venues:
            raise BadPayload("venues", "there is none that this token may read")
        first = venues[0]
        for field in ("account_id", "currency"):
            if any(one.get(field) != first.get(field) for one in venues):
                raise BadPayload(f"venues.{field}", "differs between venues: give a token for those of one currency")
        try:
            return TillAccount(
                id=first.get("account_id"),
                name=first.get("account_name") or first.get("name"),
                currency=first.get("currency"),
                zone=first.get("time_zone"),
                country=first.get("country"),
                locations=tuple(Location(id=one.get("id"), name=one.get("name")) for one in venues),
            )
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BadPayload(f"venues ({where})", "cannot be understood") from None

    # --- reading ----------------------------------------------------------------------------------------------

    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        """Checks changed since `since.at`, whatever their state."""
        began = datetime.now(UTC)
        at = since.at if since is not None else began
        async for raw in self._client.checks(at):
            yield self._page(raw)
        yield SalePage(checkpoint=Checkpoint(at=began))

    async def fetch(self, receipt_id: str) -> Sale | None:
        raw = await self._client.check(receipt_id)
        return None if raw is None else mapping.sale_of(raw, self.account.currency, self.settings)

    def _page(self, raw: list[Any]) -> SalePage:
        sales: list[Sale] = []
        unreadable: list[Unreadable] = []
        for one in raw:
            try:
                sales.append(mapping.sale_of(one, self.account.currency, self.settings))
            except BadPayload as error:
                unreadable.append(Unreadable.of(error, mapping.receipt_id(one)))
        return SalePage(sales=tuple(sales), unreadable=tuple(unreadable))

    # --- hooks ------------------------------------------------------------------------------------------------

    def prove(self, hook: HookRequest) -> None:
        if self.settings.signing_secret is None:
            raise NotConfigured("the connection's signing secret")
        header = hook.headers.get(wire.SIGNATURE)
        if not header:
            raise Forged("the signature is missing")
        TimestampedHmac(self.settings.signing_secret.get_secret_value()).verify(hook.body, header)

    def receive(self, hook: HookRequest) -> Received:
        event = wire.event(hook.body)
        kind = event.get("type")
        if not isinstance(kind, str):
            raise BadPayload("type", "is missing", hook.body)
        if kind not in wire.CHECK_EVENTS:
            return Ignored(f"about {kind[:40]}")
        venue = event.get("venue")
        venue_id = venue.get("id") if isinstance(venue, dict) else None
        raw = event.get("check")
        try:
            known = venue_id if isinstance(venue_id, str) else None
            return Sales((mapping.sale_of(raw, self.account.currency, self.settings, known),))
        except BadPayload as error:
            bad = Unreadable.of(error, mapping.receipt_id(raw))
            return Sales(unreadable=(bad,))
