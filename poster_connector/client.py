"""Poster's Web API by method, through one account's token.

Owns paths, parameters and paging; what the answers mean is `mapping`'s.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx

from connector_sdk.errors import MissingRight, TillUnavailable
from connector_sdk.till_client import RateLimit, TillClient
from poster_connector.wire import NoRecord, judge, response_list, text

# Poster publishes no limit. One reading goes one request after the other, so a slow Poster is asked less; this bounds
# what all of a connection's work together may ask of one account.
CALLS_PER_SECOND = 50.0
_MOST_PAGES = 10_000
ALL, CLOSED = "0", "2"


class PosterClient:
    """Reads one Poster account. Every call carries the token in its query: it is masked in every error."""

    def __init__(self, api_url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = TillClient(
            api_url,
            judge=judge,
            limit=RateLimit.shared(f"poster:{token}", CALLS_PER_SECOND),
            secrets=[token],
            query={"token": token},
            transport=transport,
        )

    async def _object(self, method: str) -> dict[str, Any]:
        answer = await self._client.get(method)
        found = answer.get("response")
        if not isinstance(found, dict):
            raise TillUnavailable(f"{method}: the answer has no object")
        return found

    async def _list(self, method: str, **params: str) -> list[Any]:
        try:
            return response_list(await self._client.get(method, params))
        except NoRecord:
            return []
        except MissingRight:
            raise MissingRight(f"read {method.partition('.')[0]} (Poster's {method})") from None

    async def settings(self) -> dict[str, Any]:
        return await self._object("settings.getAllSettings")

    async def info(self) -> dict[str, Any]:
        return await self._object("application.getInfo")

    async def spots(self) -> list[Any]:
        return await self._list("access.getSpots")

    async def receipt(self, receipt_id: str) -> Any | None:
        """One receipt as it is now, or `None`."""
        found = await self._list(
            "dash.getTransaction",
            transaction_id=receipt_id,
            include_products="true",
            status=ALL,
        )
        return next(
            (one for one in found if not isinstance(one, dict) or text(one, "transaction_id") == receipt_id), None
        )

    async def receipts(self, first: date, last: date, status: str) -> AsyncIterator[list[Any]]:
        """The receipts of some business days, both ends inclusive, a page at a time.

        `next_tr` gives only receipts with a greater id; no page size is documented, so it goes on until a page
        brings nothing new. The order within a page does not matter.
        """
        after, seen = 0, set[str]()
        for _ in range(_MOST_PAGES):
            params = {"dateFrom": f"{first:%Y%m%d}", "dateTo": f"{last:%Y%m%d}", "status": status}
            if after:
                params["next_tr"] = str(after)
            page = await self._list("dash.getTransactions", include_products="true", **params)
            new = [one for one in page if _id(one) not in seen]
            if not new:
                return
            yield new
            seen.update(_id(one) for one in new)
            reached = max((int(one) for one in map(_id, new) if re.fullmatch(r"[0-9]{1,18}", one)), default=0)
            if reached <= after:
                return
            after = reached

    async def client(self, client_id: str) -> dict[str, Any] | None:
        found = await self._list("clients.getClient", client_id=client_id)
        return next((one for one in found if isinstance(one, dict)), None)

    async def products(self) -> list[dict[str, Any]]:
        return [one for one in await self._list("menu.getProducts") if isinstance(one, dict)]

    async def categories(self) -> list[dict[str, Any]]:
        return [one for one in await self._list("menu.getCategories") if isinstance(one, dict)]

    async def aclose(self) -> None:
        await self._client.aclose()


def _id(raw: Any) -> str:
    return text(raw, "transaction_id") if isinstance(raw, dict) else repr(raw)[:200]
