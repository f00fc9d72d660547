"""Poster's Web API by method, through one account's token.

Owns paths, parameters and paging; what the answers mean is `mapping`'s.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import date

import httpx

from connector_sdk.errors import MissingRight
from connector_sdk.rate_limit import RateLimit
from connector_sdk.till_client import TillClient
from poster_connector.wire import JsonObject, NoRecord, judge, read_text, response_list, response_object

# Poster publishes no limit. One reading goes one request after the other, so a slow Poster is asked less; this bounds
# what all of a connection's work together may ask of one account.
CALLS_PER_SECOND = 50.0
_MOST_PAGES = 10_000  # of three days at most: a reading that goes on for ever must end
# As a filter, 0 means all; as a receipt's own status it means an online order that waits for confirmation.
ALL, CLOSED = "0", "2"
_RECEIPT_NUMBER = re.compile(r"[0-9]{1,18}")
_LONGEST_UNREADABLE = 200  # characters by which a record without an id is told apart from others


class PosterClient:
    """Reads one Poster account. Every call carries the token in its query: it is masked in every error.

    Every method raises `NotAuthorised`, `RateLimited`, `TillUnavailable` or `BadPayload`, those that read a list also
    `MissingRight`.
    """

    def __init__(
        self, api_url: str, account: str | None, token: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._client = TillClient(
            api_url,
            judge=judge,
            limit=_limit_of(account),
            secrets=[token],
            query={"token": token},
            transport=transport,
        )

    async def _object(self, method: str) -> JsonObject:
        return response_object(await self._client.read(method), method)

    async def _list(self, method: str, **params: str) -> list[object]:
        """Read a list; one of records that do not exist is empty."""
        try:
            return response_list(await self._client.read(method, params))
        except NoRecord:
            return []
        except MissingRight:
            raise MissingRight(f"read {method.partition('.')[0]} (Poster's {method})") from None

    async def settings(self) -> JsonObject:
        """Read the account's settings, with its currency and time zone."""
        return await self._object("settings.getAllSettings")

    async def info(self) -> JsonObject:
        """Read what Poster says of the application and of the account's owner."""
        return await self._object("application.getInfo")

    async def spots(self) -> list[object]:
        """Read the account's venues."""
        return await self._list("access.getSpots")

    async def receipt(self, receipt_id: str) -> object | None:
        """Read one receipt as it is now; `None` where Poster knows none of that id.

        A record that is no object is returned too, so that its mapping says what is wrong with it.
        """
        records = await self._list(
            "dash.getTransaction",
            transaction_id=receipt_id,
            include_products="true",
            status=ALL,
        )
        matches = (
            record
            for record in records
            if not isinstance(record, dict) or read_text(record, "transaction_id") == receipt_id
        )
        return next(matches, None)

    async def receipts(self, first: date, last: date, status: str) -> AsyncIterator[list[object]]:
        """Read the receipts of some business days, both ends inclusive, a page at a time.

        `next_tr` gives only receipts with a greater id; no page size is documented, so reading goes on until a page
        brings nothing new. The order within a page does not matter.
        """
        cursor, seen = 0, set[str]()
        for _ in range(_MOST_PAGES):
            page = await self._receipt_page(first, last, status, cursor)
            new = [record for record in page if _record_id(record) not in seen]
            if not new:
                return
            yield new
            ids = [_record_id(record) for record in new]
            seen.update(ids)
            greatest = max((int(number) for number in ids if _RECEIPT_NUMBER.fullmatch(number)), default=0)
            # new records whose ids lead no further: the same page would come again for ever
            if greatest <= cursor:
                return
            cursor = greatest

    async def _receipt_page(self, first: date, last: date, status: str, cursor: int) -> list[object]:
        params = {"dateFrom": f"{first:%Y%m%d}", "dateTo": f"{last:%Y%m%d}", "status": status}
        if cursor:
            params["next_tr"] = str(cursor)
        return await self._list("dash.getTransactions", include_products="true", **params)

    async def client(self, client_id: str) -> JsonObject | None:
        """Read one customer; `None` where Poster knows none of that id."""
        clients = await self._objects("clients.getClient", client_id=client_id)
        return clients[0] if clients else None

    async def clients_of(self, phone: str) -> list[JsonObject]:
        """Read the customers of a phone, which Poster finds in its international form only (`+380…`)."""
        return await self._objects("clients.getClients", phone=phone)

    async def write_comment(self, client_id: str, comment: str) -> None:
        """Write a customer's comment, without a hook about it. Raises `Ambiguous`, `MissingRight` too."""
        form = {"client_id": client_id, "comment": comment, "block_webhook": "true"}
        await self._client.write("clients.updateClient", form=form)

    async def products(self) -> list[JsonObject]:
        """Read the menu's products."""
        return await self._objects("menu.getProducts")

    async def categories(self) -> list[JsonObject]:
        """Read the menu's categories."""
        return await self._objects("menu.getCategories")

    async def _objects(self, method: str, **params: str) -> list[JsonObject]:
        """Read a list and leave out what in it is no object."""
        return [record for record in await self._list(method, **params) if isinstance(record, dict)]

    async def aclose(self) -> None:
        """Close what was opened for the calls."""
        await self._client.aclose()


def _record_id(record: object) -> str:
    """Tell a record apart from others of a list: by its id, or by its text where it is no object."""
    return read_text(record, "transaction_id") if isinstance(record, dict) else repr(record)[:_LONGEST_UNREADABLE]


def _limit_of(account: str | None) -> RateLimit:
    """Return the limit of an account; one of its own for a token that nobody has checked yet.

    A token begins with an account's number whether or not it is good: nobody may use up another one's turns with it.
    """
    return RateLimit.shared(f"poster:{account}", CALLS_PER_SECOND) if account else RateLimit(CALLS_PER_SECOND)
