"""The endpoints of the contract: what each call needs, what refuses it, and the change that it makes.

Owns the decisions that the OpenAPI file describes. Authentication, idempotency keys and faults come before, in the
application.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TypedDict

import phonenumbers

from connectors.sevenstamp.events import EVENTS
from connectors.sevenstamp.sandbox.changes import (
    CardIssued,
    Change,
    StampsAdded,
    StampsReversed,
    Voucher,
    VoucherIssued,
    VoucherRedeemed,
)
from connectors.sevenstamp.sandbox.state import Card, HistoryEvent, JsonObject, State
from connectors.sevenstamp.sandbox.webhooks import Webhooks

_MOST_STAMPS = 10_000
_LONGEST_TEXT = 400
_MOST_NAMED = 10
_FIRST_NUMBER, _NUMBERS, _NUMBER_STEP = 100_000, 900_000, 7919
"""Card numbers have six digits; a prime step makes each differ from the one before in most of them."""


class Refusal(Exception):
    """A call is answered with a status that is no success, and with 7stamp's stable `code` for why."""

    def __init__(self, status: int, code: str, **members: str | None) -> None:
        super().__init__(code)
        self.status = status
        self.body: JsonObject = {
            "type": "about:blank",
            "title": code.replace("_", " "),
            "status": status,
            "code": code,
            **members,
        }


@dataclass(frozen=True, slots=True)
class Call:
    """An authenticated request: whose it is, the segments of its path, and what was sent."""

    business: str
    staff_login: str
    segments: tuple[str, ...]
    query: Mapping[str, str]
    body: JsonObject
    idempotency_key: str | None
    digest: str
    """Of path and body."""
    late_ms: float = 0.0
    """How long before now its caller gave up; 0 where the caller still waits."""
    took: float = 0.0
    """Seconds since it arrived."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call is answered: `body` is JSON, or bytes that are sent as they are."""

    status: int
    body: JsonObject | Sequence[JsonObject] | bytes
    headers: Sequence[tuple[bytes, bytes]] = field(default=())


Handler = Callable[[Call], Answer]


class _Request(TypedDict):
    """What every change says of the call that it came by."""

    business: str
    idempotency_key: str | None
    digest: str
    at: str
    visible_at: float


class Endpoints:
    """All endpoints over one state.

    `now` gives seconds since 1970. `history_lag` gives for a call how many milliseconds its change stays out of the
    card's history.
    """

    def __init__(
        self, state: State, webhooks: Webhooks, now: Callable[[], float], history_lag: Callable[[Call], float]
    ) -> None:
        self._state = state
        self._webhooks = webhooks
        self._now = now
        self._history_lag = history_lag

    def find(self, method: str, segments: tuple[str, ...]) -> Handler:
        """Find the handler of a path. Raises `Refusal` where there is none."""
        # by segments and not by a pattern over the path: a segment may hold an escaped slash
        match (method, *segments):
            case ("GET", "v1", "me"):
                return self.get_me
            case (_, "v1", "cards", *rest):
                return self._find_for_cards(method, rest)
            case (_, "v1", "vouchers", *rest):
                return self._find_for_vouchers(method, rest)
            case ("GET", "v1", "webhooks"):
                return self.list_webhooks
            case ("POST", "v1", "webhooks"):
                return self.subscribe
            case ("DELETE", "v1", "webhooks", _):
                return self.unsubscribe
        raise Refusal(404, "not_found")

    def _find_for_cards(self, method: str, rest: list[str]) -> Handler:
        match (method, *rest):
            case ("GET",):
                return self.find_cards
            case ("POST",):
                return self.issue_card
            case ("GET", _):
                return self.get_card
            case ("GET", _, "history"):
                return self.get_history
            case ("POST", _, "stamps"):
                return self.add_stamps
            case ("POST", _, "stamps", "reversals"):
                return self.reverse_stamps
        raise Refusal(404, "not_found")

    def _find_for_vouchers(self, method: str, rest: list[str]) -> Handler:
        match (method, *rest):
            case ("POST",):
                return self.issue_voucher
            case ("GET",):
                return self.find_vouchers
            case ("GET", _):
                return self.get_voucher
            case ("POST", _, "redeem"):
                return self.redeem_voucher
        raise Refusal(404, "not_found")

    # --- the business -------------------------------------------------------------------------------------------

    def get_me(self, call: Call) -> Answer:
        """Say whose key it is and how much of the plan is used."""
        business = {
            "id": call.business,
            "name": f"Cafe {call.business[-4:]}",
            "country": "UA",
            "currency": "UAH",
            "timezone": "Europe/Kyiv",
            "language": "en",
        }
        me = {
            "business": business,
            "location_id": "loc_1",
            "staff_login": call.staff_login or "owner",
            "key_status": "active",
            "operations": {"used": self._state.used.get(call.business, 0), "allowed": self._state.allowed},
        }
        return Answer(200, me)

    def _refuse_beyond_plan(self, business: str) -> None:
        """Refuse an operation that the plan does not cover. Raises `Refusal`."""
        if self._state.allowed is not None and self._state.used.get(business, 0) >= self._state.allowed:
            raise Refusal(402, "plan_limit")

    # --- cards --------------------------------------------------------------------------------------------------

    def find_cards(self, call: Call) -> Answer:
        """Find the card of a phone, an email, a number or a token (a list of one, or of none), or those of a name."""
        kinds = ("phone", "email", "number", "token", "name")
        names = [(kind, call.query[kind]) for kind in kinds if kind in call.query]
        if len(names) != 1:
            raise Refusal(422, "invalid", detail=f"exactly one of {', '.join(kinds)}")
        kind, value = names[0]
        if kind == "name":
            return Answer(200, self._cards_named(call.business, value))
        card = self._state.by_name.get((call.business, _phone(value) if kind == "phone" else value.lower()))
        return Answer(200, [self._state.card_as_json(card)] if card else [])

    def _cards_named(self, business: str, start: str) -> list[JsonObject]:
        """List the cards of customers whose name begins so, the first ten."""
        start = start.strip().casefold()
        named = (
            card
            for card in self._state.cards.values()
            if card.business == business and start and (card.name or "").casefold().startswith(start)
        )
        return [self._state.card_as_json(card) for card in itertools.islice(named, _MOST_NAMED)]

    def issue_card(self, call: Call) -> Answer:
        """Issue a card to a customer; one who has a card is answered with that."""
        phone, email = call.body.get("phone"), call.body.get("email")
        if bool(phone) == bool(email):
            raise Refusal(422, "invalid", detail="exactly one of phone, email")
        name = _phone(str(phone)) if phone else _email(str(email))
        # not refused: a caller that lost the answer may issue again, and has the same card
        card = self._state.by_name.get((call.business, name))
        if card is not None:
            return Answer(200, self._state.card_as_json(card))
        # numbered by how many there are, so that a state read back from its file goes on where it was
        number = len(self._state.cards)
        change = CardIssued(
            **self._request(call),
            card_id=f"card_{number + 1:04d}",
            kind="card_issued",
            count=1,
            code=None,
            number=f"{_FIRST_NUMBER + number * _NUMBER_STEP % _NUMBERS:06d}",
            phone=name if phone else None,
            email=None if phone else name,
            name=str(call.body["name"])[:_LONGEST_TEXT] if call.body.get("name") else None,
        )
        return Answer(201, self._record(change))

    def get_card(self, call: Call) -> Answer:
        """Show one card."""
        return Answer(200, self._state.card_as_json(self._own_card(call)))

    def get_history(self, call: Call) -> Answer:
        """Show a card's history, as far as it is visible: all of it, or what has a code, a receipt, or is newer."""
        now_ms = self._now() * 1000
        events = self._own_card(call).events
        return Answer(
            200, [event.as_json() for event in events if event.visible_at <= now_ms and _fits(event, call.query)]
        )

    def add_stamps(self, call: Call) -> Answer:
        """Add stamps for a receipt."""
        card, count = self._own_card(call), _count(call.body)
        code, receipt = _text(call.body, "code"), _text(call.body, "receipt")
        # the plan is looked at last: what is wrong with a call is said whatever the plan
        self._refuse_beyond_plan(call.business)
        change = StampsAdded(
            **self._request(call), card_id=card.id, kind="stamps_added", count=count, code=code, receipt=receipt
        )
        return Answer(201, self._record(change))

    def reverse_stamps(self, call: Call) -> Answer:
        """Take a receipt's stamps back: all that is asked for, or nothing where a reward has used some of them."""
        card, count = self._own_card(call), _count(call.body)
        code, receipt = _text(call.body, "code"), _text(call.body, "receipt")
        # a part is never taken back: the caller's code stands for the whole of its operation
        if card.reversible(receipt) < count:
            raise Refusal(409, "nothing_to_reverse")
        self._refuse_beyond_plan(call.business)
        change = StampsReversed(
            **self._request(call), card_id=card.id, kind="stamps_reversed", count=count, code=code, receipt=receipt
        )
        return Answer(201, self._record(change))

    def _own_card(self, call: Call) -> Card:
        """Find the card that a path names. Raises `Refusal` where there is none, or it is another business's."""
        card = self._state.cards.get(call.segments[2])
        # another business's card is answered like none, or ids could be tried out
        if card is None or card.business != call.business:
            raise Refusal(404, "card_not_found")
        return card

    # --- vouchers -----------------------------------------------------------------------------------------------

    def issue_voucher(self, call: Call) -> Answer:
        """Issue a voucher, for a card or for whoever has its redeem code."""
        code, card_id = _text(call.body, "code"), call.body.get("card_id")
        number = len(self._state.vouchers) + 1
        voucher = Voucher(
            id=f"v_{number}",
            card_id=card_id if isinstance(card_id, str) else None,
            title=str(call.body.get("title") or call.body.get("template_id") or "Voucher"),
            redeem_code=self._free_redeem_code(call, default=f"V{number:07d}"),
            code=code,
        )
        change = VoucherIssued(
            **self._request(call),
            card_id=voucher.card_id,
            kind="voucher_issued",
            count=1,
            code=code,
            voucher=voucher,
        )
        return Answer(201, self._record(change))

    def _free_redeem_code(self, call: Call, *, default: str) -> str:
        """Return the redeem code that was asked for, or the default. Raises `Refusal` where it cannot be had."""
        redeem_code = str(call.body.get("redeem_code") or default)
        if not re.fullmatch(r"[\w-]{3,64}", redeem_code) or (call.business, redeem_code) in self._state.vouchers:
            raise Refusal(422, "invalid", detail="redeem_code: 3 to 64 letters, digits, - and _, not used before")
        return redeem_code

    def find_vouchers(self, call: Call) -> Answer:
        """Find the vouchers that were issued with a code."""
        vouchers = [
            voucher
            for (business, _), voucher in self._state.vouchers.items()
            if business == call.business and voucher.code == call.query.get("code")
        ]
        return Answer(200, [asdict(voucher) for voucher in vouchers])

    def get_voucher(self, call: Call) -> Answer:
        """Show one voucher."""
        return Answer(200, asdict(self._own_voucher(call)))

    def redeem_voucher(self, call: Call) -> Answer:
        """Use a voucher up."""
        voucher, code = self._own_voucher(call), _text(call.body, "code")
        # the code by which it was redeemed lets a caller tell its own lost answer from somebody else's redeeming
        if voucher.status == "redeemed":
            raise Refusal(
                409,
                "already_redeemed",
                redeemed_at=voucher.redeemed_at,
                redeemed_by_code=voucher.redeemed_by_code,
            )
        if voucher.status == "expired":
            raise Refusal(410, "voucher_expired")
        change = VoucherRedeemed(
            **self._request(call),
            card_id=voucher.card_id,
            kind="voucher_redeemed",
            count=1,
            code=code,
            redeem_code=voucher.redeem_code,
        )
        return Answer(200, self._record(change))

    def _own_voucher(self, call: Call) -> Voucher:
        """Find the voucher that a path names. Raises `Refusal` where this business has none of that code."""
        voucher = self._state.vouchers.get((call.business, call.segments[2]))
        if voucher is None:
            raise Refusal(404, "voucher_not_found")
        return voucher

    # --- webhooks -----------------------------------------------------------------------------------------------

    def list_webhooks(self, call: Call) -> Answer:
        """List the subscriptions of the business."""
        return Answer(200, [webhook.as_json() for webhook in self._webhooks.of_business(call.business)])

    def subscribe(self, call: Call) -> Answer:
        """Have events posted to an address."""
        url, secret, events = call.body.get("url"), str(call.body.get("secret")), call.body.get("events")
        if not isinstance(url, str) or not re.fullmatch(r"https?://[^\s]{1,1900}", url):
            raise Refusal(422, "invalid", detail="url: an address that begins with https://")
        if not isinstance(events, list) or not events or not all(name in EVENTS for name in events):
            raise Refusal(422, "invalid", detail=f"events: some of {', '.join(EVENTS)}")
        if not re.fullmatch(r"whsec_[A-Za-z0-9+/=_-]{32,100}", secret):
            raise Refusal(422, "invalid", detail="secret: whsec_ and at least 24 bytes in base64")
        webhook, is_new = self._webhooks.subscribe(call.business, url, events, secret)
        return Answer(201 if is_new else 200, webhook.as_json())

    def unsubscribe(self, call: Call) -> Answer:
        """End a subscription."""
        webhook = self._webhooks.subscriptions.get(call.segments[2])
        if webhook is None or webhook.business != call.business:
            raise Refusal(404, "not_found")
        del self._webhooks.subscriptions[webhook.id]
        return Answer(200, webhook.as_json())

    def _record(self, change: Change) -> JsonObject:
        """Make a change take effect and tell subscribers of it; return the answer to it."""
        answer = self._state.record(change)
        self._webhooks.tell_of(change)
        return answer

    def _request(self, call: Call) -> _Request:
        """Return what the change of a call says of it, as of now."""
        now = self._now()
        return _Request(
            business=call.business,
            idempotency_key=call.idempotency_key,
            digest=call.digest,
            at=datetime.fromtimestamp(now, UTC).isoformat(),
            visible_at=now * 1000 + self._history_lag(call),
        )


def _fits(event: HistoryEvent, query: Mapping[str, str]) -> bool:
    """Tell whether a line of history has the code and receipt that are asked for, and is newer than `after`."""
    return (
        query.get("code", event.code) == event.code
        and query.get("receipt", event.receipt) == event.receipt
        # times of one zone and format are in the order of their texts; every time is later than an empty one
        and event.at > query.get("after", "")
    )


def _count(body: JsonObject) -> int:
    count = body.get("count")
    # `type`, for `true` is an int to `isinstance`
    if type(count) is not int or not 1 <= count <= _MOST_STAMPS:
        raise Refusal(422, "invalid", detail="count: a whole number from 1")
    return count


def _text(body: JsonObject, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_TEXT:
        raise Refusal(422, "invalid", detail=f"{name}: a text of 1 to {_LONGEST_TEXT} characters")
    return value


def _phone(text: str) -> str:
    """Return a phone in E.164. Raises `Refusal`."""
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        raise Refusal(422, "invalid", detail="phone: international form, beginning with +") from None
    if not phonenumbers.is_possible_number(number):
        raise Refusal(422, "invalid", detail="phone: no such number is possible")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _email(text: str) -> str:
    """Return an email in small letters, by which cards are found. Raises `Refusal`."""
    if not re.fullmatch(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+", text):
        raise Refusal(422, "invalid", detail="email: not an address")
    return text.lower()
