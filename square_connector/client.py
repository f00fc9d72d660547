"""Square's API by method, through one seller's access.

Owns paths, bodies and paging; what the answers mean is `mapping`'s, and which of them are asked for is `reading`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import quote

import httpx

from connector_sdk.authorisation import Credentials
from connector_sdk.errors import MissingRight, NotFound
from connector_sdk.rate_limit import RateLimit
from connector_sdk.till_client import Cursor, TillClient
from square_connector.settings import SquareApp
from square_connector.wire import (
    MOST_LOCATIONS,
    MOST_ORDERS,
    SCOPES,
    SQUARE_VERSION,
    JsonObject,
    describe_scopes,
    judge,
    object_in,
    objects_in,
    rfc3339,
    text_in,
)

# Square publishes no limits, and counts them by application: all sellers of this host share this one
CALLS_PER_SECOND = 20.0
_ORDERS_A_PAGE = 500
_PAGE = Cursor("cursor")

OrderTime = Literal["CREATED_AT", "UPDATED_AT"]
"""The time of an order by which a search filters, and then also sorts."""


class SquareClient:
    """Reads one seller.

    Every method raises `NotAuthorised`, `MissingRight`, `RateLimited`, `TillUnavailable` or `BadPayload`.
    """

    def __init__(
        self,
        app: SquareApp,
        credentials: Credentials,
        limit: RateLimit,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = TillClient(
            app.api_url,
            judge=judge,
            limit=limit,
            credentials=credentials,
            headers={"Square-Version": SQUARE_VERSION},
            transport=transport,
        )

    async def require_scopes(self) -> None:
        """Raise `MissingRight`, which names what was not granted and what does not work without it."""
        status = await self._client.read("oauth2/token/status", body={})
        granted = status.get("scopes") if isinstance(status, dict) else None
        missing = [scope for scope in SCOPES if isinstance(granted, list) and scope not in granted]
        if missing:
            raise MissingRight(describe_scopes(missing))

    async def merchant(self) -> JsonObject:
        """Read the seller."""
        merchants = objects_in(await self._client.read("v2/merchants"), "merchant")
        return merchants[0] if merchants else {}

    async def locations(self) -> list[JsonObject]:
        """Read the seller's locations, closed ones too."""
        return objects_in(await self._client.read("v2/locations"), "locations")

    async def orders(
        self, locations: Sequence[str], by: OrderTime, since: datetime, until: datetime
    ) -> AsyncIterator[list[JsonObject]]:
        """Read orders in every state, of ten locations at a time, those changed or made longest ago first."""
        field = by.lower()
        for start in range(0, len(locations), MOST_LOCATIONS):
            body = {
                "location_ids": list(locations[start : start + MOST_LOCATIONS]),
                "limit": _ORDERS_A_PAGE,
                "query": {
                    # both ends are inclusive
                    "filter": {
                        "date_time_filter": {field: {"start_at": rfc3339(since), "end_at": rfc3339(until)}},
                    },
                    "sort": {"sort_field": by, "sort_order": "ASC"},
                },
            }
            async for page in self._client.pages("v2/orders/search", by=_PAGE, body=body):
                yield objects_in(page, "orders")

    async def order(self, order_id: str) -> JsonObject | None:
        """Read one order; `None` where Square knows none of that id."""
        return await self._one(f"v2/orders/{_part(order_id)}", "order")

    async def orders_by_id(self, ids: Sequence[str]) -> list[JsonObject]:
        """Read orders by their ids; those that Square does not know are left out."""
        orders: list[JsonObject] = []
        for start in range(0, len(ids), MOST_ORDERS):
            body = {"order_ids": list(ids[start : start + MOST_ORDERS])}
            orders += objects_in(await self._client.read("v2/orders/batch-retrieve", body=body), "orders")
        return orders

    async def payment(self, payment_id: str) -> JsonObject | None:
        """Read one payment; `None` where Square knows none of that id."""
        return await self._one(f"v2/payments/{_part(payment_id)}", "payment")

    async def payments(self, location: str, since: datetime, until: datetime) -> AsyncIterator[list[JsonObject]]:
        """Read the payments of a location that were made between two moments, oldest first."""
        params = {
            "location_id": location,
            "begin_time": rfc3339(since),
            "end_time": rfc3339(until),
            "sort_field": "CREATED_AT",
            "sort_order": "ASC",
        }
        async for page in self._client.pages("v2/payments", params, by=_PAGE):
            yield objects_in(page, "payments")

    async def refund(self, refund_id: str) -> JsonObject | None:
        """Read one refund; `None` where Square knows none of that id."""
        return await self._one(f"v2/refunds/{_part(refund_id)}", "refund")

    async def refunds(self, since: datetime) -> list[JsonObject]:
        """Read all refunds of the seller that changed since then."""
        params = {
            "updated_at_begin_time": rfc3339(since),
            "sort_field": "UPDATED_AT",
            "sort_order": "ASC",
            "limit": "100",
        }
        return [
            refund
            async for page in self._client.pages("v2/refunds", params, by=_PAGE)
            for refund in objects_in(page, "refunds")
        ]

    async def customer(self, customer_id: str) -> JsonObject | None:
        """Read one customer, the merged one where it was merged; `None` where Square knows none of that id."""
        return await self._one(f"v2/customers/{_part(customer_id)}", "customer")

    async def catalogue(self) -> list[JsonObject]:
        """Read the items and categories of the catalogue."""
        params: Mapping[str, str] = {"types": "ITEM,CATEGORY"}
        return [
            item
            async for page in self._client.pages("v2/catalog/list", params, by=_PAGE)
            for item in objects_in(page, "objects")
        ]

    async def _one(self, path: str, name: str) -> JsonObject | None:
        try:
            found = object_in(await self._client.read(path), name)
        except NotFound:
            return None
        return found if text_in(found, "id") else None

    async def aclose(self) -> None:
        """Close what was opened for the calls."""
        await self._client.aclose()


def _part(identifier: str) -> str:
    """Return an id as one part of a path: it came from outside."""
    return quote(identifier, safe="")
