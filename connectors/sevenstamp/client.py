"""The 7stamp client: reads that raise, and writes that say whether they took effect.

Owns what each answer means (by the OpenAPI file beside it); when to try again is the delivery's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from connector_sdk.http import Reply, never_sent, production_transport, retry_after, send
from connectors.sevenstamp.models import Card, HistoryEvent, Me, Voucher, Webhook

JsonObject = Mapping[str, object]
"""A JSON object of an answer, its members not looked at yet."""


class SevenStampError(Exception):
    """Base of what a read can raise; no text holds a key, a phone or an email."""


class InvalidKey(SevenStampError):
    """7stamp refuses the key: a person must give another one."""


class Unavailable(SevenStampError):
    """7stamp gave no useful answer: try later."""


class Limited(SevenStampError):
    """7stamp asks for a pause of `retry_after` seconds before this key is used again."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"7stamp asked us to wait {retry_after:g} seconds")
        self.retry_after = retry_after


class Refused(SevenStampError):
    """7stamp said no and will say it again; `code` is its stable word for why, `body` the whole answer."""

    def __init__(self, status: int, code: str, body: JsonObject) -> None:
        super().__init__(f"7stamp refused ({code})")
        self.status = status
        self.code = code
        self.body = body


@dataclass(frozen=True, slots=True)
class Applied:
    """The write took effect, now or when it was sent before."""

    body: JsonObject = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request surely never left, so that it may be sent again."""

    why: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The write may have taken effect: the card's history decides. `conflict` where the key had another body before."""

    why: str
    conflict: bool = False


Outcome = Applied | NotSent | InDoubt | Refused | Limited | InvalidKey
"""What one write came to: the last three are values here, not raised."""

# The refusals that are surely 7stamp's own, as the OpenAPI file has them. Any other answer may come from something
# between us and 7stamp (a proxy's 404, a firewall's 403), which may have passed the request on before.
_DEFINITE = {
    (402, "plan_limit"),
    (404, "card_not_found"),
    (404, "voucher_not_found"),
    (409, "nothing_to_reverse"),
    (409, "already_redeemed"),
    (410, "voucher_expired"),
    (422, "invalid"),
}

# A header takes ASCII only, and our keys hold receipt ids as tills write them. What is common in them stays readable in
# 7stamp's own logs.
_SAFE_IN_HEADER = "!#$&'()*+,-./:;=?@[]_~ "
"""What of an idempotency key is sent as it is; `%`, quotes and everything that is not ASCII is escaped."""

T = TypeVar("T")

_ME = TypeAdapter(Me)
_CARD = TypeAdapter(Card)
_CARDS = TypeAdapter(list[Card])
_EVENTS = TypeAdapter(list[HistoryEvent])
_VOUCHER = TypeAdapter(Voucher)
_WEBHOOK = TypeAdapter(Webhook)


class SevenStamp:
    """One 7stamp address and one connection pool for all keys."""

    def __init__(
        self, base_url: str, *, transport: httpx.AsyncBaseTransport | None = None, deadline: float = 15.0
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.deadline = deadline
        self._transport = transport

    def with_key(self, key: str) -> SevenStampClient:
        """Return a client that uses this key."""
        return SevenStampClient(self, key)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._transport is not None:
            await self._transport.aclose()

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        deadline: float | None = None,
    ) -> Reply:
        """Make one request within `deadline` seconds, or the service's own.

        Raises `httpx.TransportError`, `TimeoutError` or `OSError`; `never_sent` tells which of them are harmless.
        """
        if self._transport is None:  # made at the first call: a command that makes none does not wait for it
            self._transport = production_transport()
        return await send(
            self._transport,
            method,
            f"{self.base_url}{path}",
            deadline=deadline or self.deadline,
            headers=headers,
            params=params,
            content=content,
        )


class SevenStampClient:
    """7stamp through one key."""

    def __init__(self, service: SevenStamp, key: str) -> None:
        self._service = service
        self._headers = {"Authorization": f"Bearer {key}"}

    async def me(self) -> Me:
        """Ask whose key this is. Raises `InvalidKey`, `Unavailable`, `Limited`."""
        return await self._read("/v1/me", _ME)

    async def cards(
        self,
        *,
        number: str | None = None,
        phone: str | None = None,
        email: str | None = None,
        token: str | None = None,
        name: str | None = None,
    ) -> list[Card]:
        """Find the cards of a customer, by exactly one of these, oldest first; of one name perhaps of several people.

        `token` is what the QR code on a card holds.
        """
        names = {"number": number, "phone": phone, "email": email, "token": token, "name": name}
        cards = await self._read("/v1/cards", _CARDS, {kind: text for kind, text in names.items() if text is not None})
        # the wire promises no order; the oldest card is the one that a customer has used
        return sorted(cards, key=lambda card: card.issued_at)

    async def card(self, card_id: str, deadline: float | None = None) -> Card:
        """Read a card as it is now. Raises `Refused` (`card_not_found`) too."""
        return await self._read(f"/v1/cards/{_segment(card_id)}", _CARD, deadline=deadline)

    async def issue_card(
        self, *, phone: str | None = None, email: str | None = None, language: str | None = None
    ) -> Card:
        """Issue a card; the same customer again gets the same card, so this may be repeated freely.

        `language` is the customer's, as in `en`, where it is known.
        """
        name = {"phone": phone} if phone else {"email": email}
        body = name if language is None else {**name, "language": language}
        return await self._change("POST", "/v1/cards", _CARD, body)

    async def history(self, card_id: str, code: str | None = None) -> list[HistoryEvent]:
        """Read what a card's history has for an operation's code; all of it without one."""
        params = {"code": code} if code is not None else None
        return await self._read(f"/v1/cards/{_segment(card_id)}/history", _EVENTS, params)

    async def voucher(self, redeem_code: str) -> Voucher:
        """Read a voucher's state. Raises `Refused` (`voucher_not_found`) too."""
        return await self._read(f"/v1/vouchers/{_segment(redeem_code)}", _VOUCHER)

    async def subscribe(self, url: str, events: Sequence[str], secret: str) -> Webhook:
        """Have events of the business posted to an address, signed with `secret` (`whsec_…`).

        The same address again is the same subscription, with these events and this secret from now on. Raises
        `Refused` (`invalid`) for an address that 7stamp does not post to.
        """
        return await self._change("POST", "/v1/webhooks", _WEBHOOK, {"url": url, "events": events, "secret": secret})

    async def unsubscribe(self, webhook_id: str) -> None:
        """End a subscription. Raises `Refused` (`not_found`) where there is none."""
        await self._change("DELETE", f"/v1/webhooks/{_segment(webhook_id)}", _WEBHOOK)

    async def write(self, path: str, body: str, key: str, deadline: float) -> Outcome:
        """Send the exact `body` under an idempotency key, the whole call within `deadline` seconds.

        The body is sent as the caller stored it: 7stamp refuses a key that it has seen with another one.
        """
        headers = {**self._json_headers, "Idempotency-Key": quote(key, safe=_SAFE_IN_HEADER)}
        try:
            response = await self._service.exchange(
                "POST", path, headers=headers, content=body.encode(), deadline=deadline
            )
        except _TRANSPORT_ERRORS as error:
            why = type(error).__name__
            return NotSent(why) if never_sent(error) else InDoubt(why)
        return _outcome(response)

    @property
    def _json_headers(self) -> Mapping[str, str]:
        return {**self._headers, "Content-Type": "application/json"}

    async def _change(
        self, method: str, path: str, shape: TypeAdapter[T], body: Mapping[str, object] | None = None
    ) -> T:
        """Make a change that may be repeated freely, and parse its answer."""
        content = json.dumps(body).encode() if body is not None else None
        headers = self._json_headers if content is not None else self._headers
        try:
            response = await self._service.exchange(method, path, headers=headers, content=content)
        except _TRANSPORT_ERRORS as error:
            raise _unavailable(error) from None
        return _parse(response, shape)

    async def _read(
        self,
        path: str,
        shape: TypeAdapter[T],
        params: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> T:
        """Make a GET request and parse its answer."""
        try:
            response = await self._service.exchange(
                "GET", path, headers=self._headers, params=params, deadline=deadline
            )
        except _TRANSPORT_ERRORS as error:
            raise _unavailable(error) from None
        return _parse(response, shape)


_TRANSPORT_ERRORS = (httpx.HTTPError, TimeoutError, OSError)


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"7stamp did not answer ({type(error).__name__})")


def _outcome(response: Reply) -> Outcome:
    """Judge what became of a write.

    Only what 7stamp itself surely said counts as a no. A 500, a 404 without a known code or a page of HTML may come
    from something between us and 7stamp, which may have passed the request on.
    """
    if response.status_code == 401:
        return InvalidKey("7stamp refuses the key")
    if response.status_code == 429:
        return Limited(retry_after(response))
    # a success that cannot be read is no success yet: what we would note down of it is not known
    answer = _json_object(response)
    if answer is None:
        return InDoubt(f"the answer ({response.status_code}) is not JSON")
    if response.is_success:
        return Applied(answer)
    code = str(answer.get("code", ""))
    # nothing between us and 7stamp answers 422: whatever its code, the body was refused
    if (response.status_code, code) in _DEFINITE or response.status_code == 422:
        return Refused(response.status_code, code or "invalid", answer)
    return InDoubt(f"7stamp answered {response.status_code}", conflict=code == "idempotency_conflict")


def _parse(response: Reply, shape: TypeAdapter[T]) -> T:
    """Parse the answer of a read. Raises `SevenStampError`."""
    if response.status_code == 401:
        raise InvalidKey("7stamp refuses the key")
    if response.status_code == 429:
        raise Limited(retry_after(response))
    if response.is_success:
        return _parse_success(response, shape)
    # a read changes nothing, so any answer that speaks the contract's form is believed
    answer = _json_object(response)
    if answer is not None and 400 <= response.status_code < 500 and "code" in answer:
        raise Refused(response.status_code, str(answer["code"]), answer)
    raise Unavailable(f"7stamp answered {response.status_code}")


def _parse_success(response: Reply, shape: TypeAdapter[T]) -> T:
    """Parse a body. Raises `Unavailable` that names the place, and nothing of what stands there."""
    try:
        return shape.validate_json(response.content)
    except ValidationError as error:
        # pydantic's own text quotes the value, which may be a phone
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise Unavailable(f"7stamp's answer cannot be understood (at {where or 'the top'})") from None


def _json_object(response: Reply) -> JsonObject | None:
    """Return the JSON object that an answer is, or `None`."""
    try:
        answer: object = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _segment(text: str) -> str:
    """Escape a text as one path segment, whatever is in it."""
    return quote(text, safe="")


def stamps_path(card_id: str, *, back: bool = False) -> str:
    """Return where stamps are added to a card, or taken back from it."""
    return f"/v1/cards/{_segment(card_id)}/stamps" + ("/reversals" if back else "")


def redeem_path(redeem_code: str) -> str:
    """Return where a voucher is redeemed."""
    return f"/v1/vouchers/{_segment(redeem_code)}/redeem"
