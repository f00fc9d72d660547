"""Serve's API by method, through one account's token.

Owns paths, parameters and paging; what the answers mean is `mapping`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from urllib.parse import quote

import httpx

from connector_sdk.errors import NotFound
from connector_sdk.rate_limit import RateLimit
from connector_sdk.till_client import Cursor, TillClient
from serve_connector.wire import MOST_PER_PAGE, records_of

CALLS_PER_SECOND = 10.0  # Serve names no limit: what a patient till bears, and 429 says the rest


class ServeClient:
    """Reads one Serve account; the token travels in a header and is masked in every error.

    Every method raises `NotAuthorised`, `RateLimited`, `TillUnavailable` or `BadPayload`.
    """

    def __init__(
        self, api_url: str, account: str | None, token: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._client = TillClient(
            api_url,
            limit=_limit_of(account),
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
            check: object = await self._client.read(f"v1/checks/{quote(check_id, safe='')}")
        except NotFound:
            return None
        return check

    def checks(self, updated_since: datetime) -> AsyncIterator[list[object]]:
        """Read the checks changed since then, oldest change first, a page at a time."""
        since = updated_since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return self._pages("v1/checks", {"updated_since": since})

    async def _pages(self, path: str, params: Mapping[str, str]) -> AsyncIterator[list[object]]:
        asked = {**params, "limit": str(MOST_PER_PAGE)}
        async for answer in self._client.pages(path, asked, by=Cursor("next_cursor")):
            yield records_of(answer)

    async def aclose(self) -> None:
        """Close what was opened for the calls."""
        await self._client.aclose()


def _limit_of(account: str | None) -> RateLimit:
    """Return the limit of an account; one of its own for calls that are made before the account is known."""
    return RateLimit.shared(f"serve:{account}", CALLS_PER_SECOND) if account else RateLimit(CALLS_PER_SECOND)
