"""The face of Serve: takes whole checks as they are pushed, and reads back by cursor what was missed.

Owns what an event says and when a reading is complete; the wire itself is `wire`, `client` and `mapping`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import httpx
from pydantic import ValidationError

from connector_sdk import (
    BadPayload,
    Connector,
    ConnectorInfo,
    Forged,
    HookAddress,
    HookRequest,
    Ignored,
    NotConfigured,
    Received,
    Sale,
    SalePage,
    Sales,
    TillAccount,
    Token,
    Unreadable,
)
from connector_sdk.authorisation import Credentials
from connector_sdk.signatures import TimestampedHmac
from serve_connector import mapping, wire
from serve_connector.client import ServeClient
from serve_connector.settings import ServeApp, ServeSettings


class ServeConnector(Connector[ServeSettings]):
    """One Serve account: its checks, and its hooks at each connection's own address."""

    info = ConnectorInfo(
        name="serve",
        title="Serve",
        summary="Serve tells us of every check the moment it is closed.",
        needs="An access token and a webhook, both from Serve's admin.",
        minutes=4,
        mark="M3 18h18M5 18a7 7 0 0 1 14 0M12 11V8M10 7a2 2 0 0 1 4 0",
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
    poll_sees_every_change = True
    quick_up_to = 16 * 1024
    authorisation = (Token("access_token", "In Serve's admin: Settings → API → Access tokens; copy the token."),)

    def __init__(
        self,
        settings: ServeSettings,
        *,
        app: ServeApp | None = None,
        account: TillAccount | None = None,
        credentials: Credentials | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(settings, app=app or ServeApp(), account=account, credentials=credentials, transport=transport)
        self._opened_client: ServeClient | None = None

    @classmethod
    def offered(cls, app: ServeApp) -> bool:
        """Say whether the operator has said where Serve is."""
        return app.api_url is not None

    @property
    def _client(self) -> ServeClient:
        """Make the client when it is first needed: hooks go on also where it cannot be made.

        Raises `NotConfigured` where the operator has not said where Serve is.
        """
        if self._opened_client is None:
            if self.app.api_url is None:
                raise NotConfigured("SERVE_API_URL")
            token = self.settings.access_token.get_secret_value()
            self._opened_client = ServeClient(self.app.api_url, self.account_id, token, self.transport)
        return self._opened_client

    async def aclose(self) -> None:
        """Close the client, if one was made."""
        # a connector that only received hooks never opened one
        if self._opened_client is not None:
            await self._opened_client.aclose()

    # --- the account ------------------------------------------------------------------------------------------

    async def check(self) -> TillAccount:
        """Read the account of the token's venues, which share one currency.

        Raises `BadPayload` where there are no venues or they make no account, and what `ServeClient` raises.
        """
        venues = [venue for venue in await self._client.venues() if isinstance(venue, dict)]
        if not venues:
            raise BadPayload("venues", "there is none that this token may read")
        _require_one_account(venues)
        try:
            return mapping.account_of(venues)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise BadPayload(f"venues ({where})", "cannot be understood") from None

    # --- reading ----------------------------------------------------------------------------------------------

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        """Read checks changed since then, whatever their state."""
        # taken before the first call: what changes while pages are read belongs to the next poll
        began = datetime.now(UTC)
        async for records in self._client.checks(since):
            yield self._page(records)
        yield SalePage(complete_until=began)

    async def fetch(self, receipt_id: str) -> Sale | None:
        """Read one check as it is now; `None` where Serve knows none of that id."""
        raw = await self._client.check(receipt_id)
        return None if raw is None else mapping.sale_of(raw, self.account.currency, self.settings)

    def _page(self, records: list[object]) -> SalePage:
        """Map records; one that cannot be read is reported beside the others and does not stop them."""
        sales: list[Sale] = []
        unreadable: list[Unreadable] = []
        for record in records:
            try:
                sales.append(mapping.sale_of(record, self.account.currency, self.settings))
            except BadPayload as error:
                unreadable.append(Unreadable.of(error, mapping.receipt_id_of(record)))
        return SalePage(sales=tuple(sales), unreadable=tuple(unreadable))

    # --- hooks ------------------------------------------------------------------------------------------------

    def prove(self, hook: HookRequest) -> None:
        """Verify the signature, made with the connection's own secret. Raises as `Connector.prove` says."""
        if self.settings.signing_secret is None:
            raise NotConfigured("the connection's signing secret")
        header = hook.headers.get(wire.SIGNATURE)
        if not header:
            raise Forged("the signature is missing")
        TimestampedHmac(self.settings.signing_secret.get_secret_value()).verify(hook.body, header)

    def receive(self, hook: HookRequest) -> Received:
        """Read the check in an event; one that cannot be read is reported by its field. Raises `BadPayload`."""
        # only the event of a check holds a whole check; others are told by their type and left
        event = wire.parse_event(hook.body)
        kind = event.get("type")
        if not isinstance(kind, str):
            raise BadPayload("type", "is missing", hook.body)
        if kind not in wire.CHECK_EVENTS:
            return Ignored(f"about {kind[:40]}")
        raw = event.get("check")
        try:
            return Sales((mapping.sale_of(raw, self.account.currency, self.settings, mapping.venue_of(event)),))
        except BadPayload as error:
            return Sales(unreadable=(Unreadable.of(error, mapping.receipt_id_of(raw)),))


def _require_one_account(venues: Sequence[wire.JsonObject]) -> None:
    """Raise `BadPayload` where venues differ in what a connection has one of: what was given is counted in it."""
    first = venues[0]
    for name in ("account_id", "currency"):
        if any(venue.get(name) != first.get(name) for venue in venues):
            raise BadPayload(f"venues.{name}", "differs between venues: give a token for those of one currency")
