"""The 7stamp client: reads that raise, and writes that say whether they took effect.

Owns what each answer means (`wire/sevenstamp.md`); when to try again is the delivery's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from connector_sdk.http import Reply, exchange, never_sent, production_transport, retry_after
from connectors.sevenstamp.models import Card, HistoryEvent, Me, Voucher


class SevenStampError(Exception):
    """Base of what a read can raise; no text holds a key, a phone or an email."""


class InvalidKey(SevenStampError):
    """7stamp refuses the key."""


class Unavailable(SevenStampError):
    """No useful answer: try later."""


class Limited(SevenStampError):
    """Wait `retry_after` seconds before using this key again."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"7stamp asked us to wait {retry_after:g} seconds")
        self.retry_after = retry_after


class Refused(SevenStampError):
    """A definite no; `code` is 7stamp's stable word for why."""

    def __init__(self, status: int, code: str, body: Mapping[str, Any]) -> None:
        super().__init__(f"7stamp refused ({code})")
        self.status = status
        self.code = code
        self.body = body


@dataclass(frozen=True, slots=True)
class Applied:
    """The write took effect."""

    body: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request surely never left."""

    why: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The write may have taken effect; `conflict` where the key was seen with another body."""

    why: str
    conflict: bool = False


Outcome = Applied | NotSent | InDoubt | Refused | Limited | InvalidKey
"""What one write came to: the last three are values here, not raised."""

# The refusals that are surely refusals; any other answer may come from something between us and 7stamp.
_DEFINITE = {
    (402, "plan_limit"),
    (404, "card_not_found"),
    (404, "voucher_not_found"),
    (409, "nothing_to_reverse"),
    (409, "already_redeemed"),
    (410, "voucher_expired"),
    (422, "invalid"),
}

_IN_A_HEADER = "!#$&'()*+,-./:;=?@[]_~ "

T = TypeVar("T")

_CARDS = TypeAdapter(list[Card])
_EVENTS = TypeAdapter(list[HistoryEvent])


class SevenStamp:
    """One 7stamp address and one connection pool for all keys."""

    def __init__(
        self, base_url: str, *, transport: httpx.AsyncBaseTransport | None = None, deadline: float = 15.0
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.deadline = deadline
        self._transport = transport or production_transport()

    def with_key(self, key: str) -> SevenStampClient:
        return SevenStampClient(self, key)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def exchange(self, method: str, path: str, deadline: float | None = None, **more: Any) -> Reply:
        return await exchange(
            self._transport, method, f"{self.base_url}{path}", deadline=deadline or self.deadline, **more
        )


class SevenStampClient:
    """7stamp through one key."""

    def __init__(self, service: SevenStamp, key: str) -> None:
        self._service = service
        self._headers = {"Authorization": f"Bearer {key}"}

    async def me(self) -> Me:
        """Whose key this is. Raises `InvalidKey`, `Unavailable`, `Limited`."""
        return await self._read("/v1/me", TypeAdapter(Me))

    async def cards(
        self, *, number: str | None = None, phone: str | None = None, email: str | None = None
    ) -> list[Card]:
        """The cards of a customer, by exactly one name, oldest first."""
        given = {"number": number, "phone": phone, "email": email}
        found = await self._read("/v1/cards", _CARDS, {k: v for k, v in given.items() if v is not None})
        return sorted(found, key=lambda card: card.issued_at)

    async def card(self, card_id: str, deadline: float | None = None) -> Card:
        """One card as it is now. Raises `Refused` (`card_not_found`) too."""
        return await self._read(f"/v1/cards/{_segment(card_id)}", TypeAdapter(Card), deadline=deadline)

    async def issue_card(self, *, phone: str | None = None, email: str | None = None) -> Card:
        """Issue a card; the same customer again gets the same card, so this may be repeated freely."""
        who = {"phone": phone} if phone else {"email": email}
        body = json.dumps(who).encode()
        response = await self._answer("POST", "/v1/cards", content=body, headers={"Content-Type": "application/json"})
        return self._parse(response, TypeAdapter(Card))

    async def history(self, card_id: str, code: str) -> list[HistoryEvent]:
        """What a card's history has for an operation's code."""
        return await self._read(f"/v1/cards/{_segment(card_id)}/history", _EVENTS, {"code": code})

    async def voucher(self, redeem_code: str) -> Voucher:
        """A voucher's state. Raises `Refused` (`voucher_not_found`) too."""
        return await self._read(f"/v1/vouchers/{_segment(redeem_code)}", TypeAdapter(Voucher))

    async def write(self, path: str, body: str, key: str, deadline: float) -> Outcome:
        """Send the exact `body` under an idempotency key, the whole call within `deadline` seconds."""
        headers = {
            **self._headers,
            "Idempotency-Key": quote(key, safe=_IN_A_HEADER),
            "Content-Type": "application/json",
        }
        try:
            response = await self._service.exchange("POST", path, deadline, content=body.encode(), headers=headers)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            return NotSent(type(error).__name__) if never_sent(error) else InDoubt(type(error).__name__)
        if response.status_code == 401:
            return InvalidKey("7stamp refuses the key")
        if response.status_code == 429:
            return Limited(retry_after(response))
        answer = _object(response)
        if answer is None:
            return InDoubt(f"the answer ({response.status_code}) is not JSON")
        if response.is_success:
            return Applied(answer)
        code = str(answer.get("code", ""))
        if (response.status_code, code) in _DEFINITE or response.status_code == 422:
            return Refused(response.status_code, code or "invalid", answer)
        return InDoubt(f"7stamp answered {response.status_code}", conflict=code == "idempotency_conflict")

    async def _read(
        self,
        path: str,
        shape: TypeAdapter[T],
        params: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> T:
        return self._parse(await self._answer("GET", path, params=params, deadline=deadline), shape)

    async def _answer(self, method: str, path: str, **more: Any) -> Reply:
        headers = {**self._headers, **more.pop("headers", {})}
        try:
            return await self._service.exchange(method, path, headers=headers, **more)
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            raise Unavailable(f"7stamp did not answer ({type(error).__name__})") from None

    @staticmethod
    def _parse(response: Reply, shape: TypeAdapter[T]) -> T:
        if response.status_code == 401:
            raise InvalidKey("7stamp refuses the key")
        if response.status_code == 429:
            raise Limited(retry_after(response))
        if response.is_success:
            try:
                return shape.validate_json(response.content)
            except ValidationError as error:
                where = ".".join(str(part) for part in error.errors()[0]["loc"])
                raise Unavailable(f"7stamp's answer cannot be understood (at {where or 'the top'})") from None
        answer = _object(response)
        if answer is not None and 400 <= response.status_code < 500 and "code" in answer:
            raise Refused(response.status_code, str(answer["code"]), answer)
        raise Unavailable(f"7stamp answered {response.status_code}")


def _object(response: Reply) -> Mapping[str, Any] | None:
    try:
        answer = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _segment(text: str) -> str:
    """One path segment, whatever is in it."""
    return quote(text, safe="")


def stamps_path(card_id: str, *, back: bool = False) -> str:
    """Where stamps are added to a card, or taken back from it."""
    return f"/v1/cards/{_segment(card_id)}/stamps" + ("/reversals" if back else "")


def redeem_path(redeem_code: str) -> str:
    """Where a voucher is redeemed."""
    return f"/v1/vouchers/{_segment(redeem_code)}/redeem"
