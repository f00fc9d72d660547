"""A stand-in Square whose clock the tests move, and a client of it over ASGI."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import httpx

from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_application import SCOPES
from square_connector.sandbox_records import PLACES, Place
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_values import JsonObject

NOON = datetime(2026, 11, 20, 12, 0, 0, 120_000, tzinfo=UTC)
PLACES_WITH_CURRENCIES = (*PLACES, Place("East bar", "America/New_York", "USD", "US"))


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        """Return the time that it shows."""
        return self.at

    def move(self, **parts: float) -> datetime:
        """Move it by a `timedelta` of these parts; return the new time."""
        self.at += timedelta(**parts)
        return self.at


class StandIn:
    """One seller's Square with a clock, called with a token of all scopes."""

    def __init__(self, *, page_size: int = 1000, redirect_uri: str | None = None) -> None:
        self.clock = Clock()
        self.seller = Seller(places=PLACES_WITH_CURRENCIES, now=self.clock, page_size=page_size)
        self.sandbox = SquareSandbox(self.seller, now=self.clock, redirect_uri=redirect_uri)
        self.token = self.sandbox.settings()["access_token"]
        self.main, self.paris, self.new_york = self.seller.locations

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        """Return a client with a token, the usual one where none is given."""
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.sandbox.application()),
            base_url="http://square.test",
            headers={"authorization": f"Bearer {token or self.token}", "square-version": "2026-08-19"},
        )

    async def get(self, path: str, **query: str | int) -> JsonObject:
        """Return the answer of a GET that must go well."""
        return await self._answer("GET", path, params=query)

    async def post(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Return the answer of a POST that must go well."""
        return await self._answer("POST", path, json=body)

    async def _answer(self, method: str, path: str, **request: object) -> JsonObject:
        async with self.client() as client:
            response = await client.request(method, path, **request)
        assert response.status_code == 200, response.text
        answer: JsonObject = response.json()
        return answer

    async def refusal(self, method: str, path: str, body: object = None, token: str | None = None) -> tuple[int, str]:
        """Return the status and the code of the error of a call that must be refused."""
        async with self.client(token) as client:
            response = await client.request(method, path, json=body)
        assert response.status_code >= 400, response.text
        return response.status_code, response.json()["errors"][0]["code"]

    def token_for(self, *scopes: str) -> str:
        """Return an access token of another grant, with these scopes only."""
        return str(self.sandbox.square_application.grant(self.seller.merchant_id, scopes)["access_token"])

    async def search(self, **members: object) -> JsonObject:
        """Return the answer of a search for orders at all locations."""
        return await self.post("/v2/orders/search", {"location_ids": list(self.seller.locations), **members})

    async def order_ids(self, **members: object) -> list[str]:
        """Return the ids of the orders that a search finds on its first page."""
        return [order["id"] for order in (await self.search(**members)).get("orders", [])]

    async def order(self, order: str) -> JsonObject:
        """Return one order as it is read by its id."""
        record: JsonObject = (await self.get(f"/v2/orders/{order}"))["order"]
        return record


def all_but(scope: str) -> list[str]:
    """Return every scope but one."""
    return [name for name in SCOPES if name != scope]
