"""Serve's API by method, through one account's token.

Owns paths, parameters and paging; what the answers mean is `mapping`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from connector_sdk.errors import BadPayload, NotFound, TillUnavailable
from connector_sdk.till_client import RateLimit, TillClient
from serve_connector.wire import MOST_PER_PAGE, judge, page

CALLS_PER_SECOND = 10.0  # Serve names no limit: what a patient till bears, and 429 says the rest
_MOST_PAGES = 10_000


class ServeClient:
    """Reads one Serve account; the token travels in a header and is masked in every error."""

    def __init__(self, api_url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = TillClient(
            api_url,
            judge=judge,
            limit=RateLimit.shared(f"serve:{token}", CALLS_PER_SECOND),
            secrets=[token],
            headers={"Authorization": f"Bearer {token}"},
            transport=transport,
        )

    async def venues(self) -> list[Any]:
        """All venues of the account."""
        return [one async for some in self._pages("v1/venues", {}) for one in some]

    async def check(self, check_id: str) -> Any | None:
        """One check as it is now, or `None`."""
        try:
            return await self._client.get(f"v1/checks/{quote(check_id, safe='')}")
        except NotFound:
            return None

    def checks(self, updated_since: datetime) -> AsyncIterator[list[Any]]:
        """The checks changed since then, oldest change first, a page at a time."""
        at = updated_since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self._pages("v1/checks", {"updated_since": at})

    async def _pages(self, path: str, params: dict[str, str]) -> AsyncIterator[list[Any]]:
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            more = {"cursor": cursor} if cursor is not None else {}
            found, cursor = page(await self._client.get(path, {**params, "limit": str(MOST_PER_PAGE), **more}))
            yield found
            if cursor is None:
                return
            if cursor in seen:
                raise TillUnavailable(f"{path}: the cursor goes in a circle")
            seen.add(cursor)
        raise BadPayload(path, "has more pages than can be read")

    async def aclose(self) -> None:
        await self._client.aclose()
