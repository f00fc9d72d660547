"""Serve's API by method, through one account's token.

Owns paths, parameters and paging; what the answers mean is `mapping`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import httpx

from connector_sdk.errors import BadPayload, NotFound, TillUnavailable
from connector_sdk.till_client import RateLimit, TillClient
from serve_connector.wire import MOST_PER_PAGE, judge, parse_page

CALLS_PER_SECOND = 10.0  # Serve names no limit: what a patient till bears, and 429 says the rest
_MOST_PAGES = 10_000  # two million checks: a reading that goes on for ever must end


class ServeClient:
    """Reads one Serve account; the token travels in a header and is masked in every error.

    Every method raises `NotAuthorised`, `RateLimited`, `TillUnavailable` or `BadPayload`.
    """

    def __init__(self, api_url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = TillClient(
            api_url,
            judge=judge,
            limit=RateLimit.shared(f"serve:{token}", CALLS_PER_SECOND),
            secrets=[token],
            headers={"Authorization": f"Bearer {token}"},
            transport=transport,
        )

    async def venues(self) -> list[object]:
        """Read all venues of the account."""
        return [venue async for page in self._pages("v1/venues", {}) for venue in page]

    async def check(self, check_id: str) -> object | None:
        """Read one check as it is now; `None` where Serve knows none of that id."""
        try:
            # an id comes from outside and must stay one part of the path
            check: object = await self._client.get(f"v1/checks/{quote(check_id, safe='')}")
        except NotFound:
            return None
        return check

    def checks(self, updated_since: datetime) -> AsyncIterator[list[object]]:
        """Read the checks changed since then, oldest change first, a page at a time."""
        since = updated_since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self._pages("v1/checks", {"updated_since": since})

    async def _pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[list[object]]:
        """Read page after page until one names no next cursor. An end that is not reached is never a silent one."""
        cursor: str | None = None
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            further = {"cursor": cursor} if cursor is not None else {}
            page = parse_page(await self._client.get(path, {**params, "limit": str(MOST_PER_PAGE), **further}))
            yield page.records
            cursor = page.next_cursor
            if cursor is None:
                return
            # Serve would be asked for the same pages until the limit above
            if cursor in seen:
                raise TillUnavailable(f"{path}: the cursor goes in a circle")
            seen.add(cursor)
        raise BadPayload(path, "has more pages than can be read")

    async def aclose(self) -> None:
        """Close what was opened for the calls."""
        await self._client.aclose()
