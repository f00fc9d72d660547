"""A stand-in 7stamp that speaks our contract, with faults, over an in-memory or on-disk state.

Owns the behaviour that `wire/sevenstamp.md` describes; serving it on a port is the caller's.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import phonenumbers

SETTLE_MS = 10_000
_KEY_PREFIX = "7loc_sc_"
_MOST_BODY = 64 * 1024


class Cut(Exception):
    """Close the connection without (the rest of) an answer."""


class _Refusal(Exception):
    def __init__(self, status: int, code: str, **more: Any) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"type": "about:blank", "title": code.replace("_", " "), "status": status, "code": code, **more}


@dataclass(slots=True)
class Faults:
    """Probabilities from 0 to 1; ranges in milliseconds as `[from, to]` or one number."""

    drop_before: float = 0.0
    drop_after: float = 0.0
    status_500: float = 0.0
    status_429: float = 0.0
    garbage: float = 0.0
    latency_ms: Sequence[float] = (0, 0)
    apply_late_ms: Sequence[float] = (0, 0)
    history_lag_ms: Sequence[float] = (0, 0)
    ignore_idempotency_keys: bool = False
    seed: int | None = None

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Faults:
        """From JSON. Raises `ValueError` that names the field."""
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown fault {unknown[0]!r}; known: {', '.join(sorted(known))}")
        faults = cls(**values)
        for name in ("latency_ms", "apply_late_ms", "history_lag_ms"):
            given = getattr(faults, name)
            low, high = (given, given) if isinstance(given, int | float) else given
            most = 60_000 if name == "latency_ms" else SETTLE_MS
            if not 0 <= low <= high <= most:
                raise ValueError(f"{name}: a range from 0 to {most}")
            setattr(faults, name, (low, high))
        for name in ("drop_before", "drop_after", "status_500", "status_429", "garbage"):
            if not 0 <= getattr(faults, name) <= 1:
                raise ValueError(f"{name}: a probability from 0 to 1")
        return faults


@dataclass(slots=True)
class _Card:
    id: str
    business: str
    number: str
    phone: str | None
    email: str | None
    issued_at: str
    stamps: int = 0
    goals: int = 0
    lots: list[list[Any]] = field(default_factory=list)
    """What each receipt earned and no reward has used: [receipt, stamps], oldest first."""
    events: list[dict[str, Any]] = field(default_factory=list)

    def shown(self, goal: int, vouchers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "number": self.number,
            "active": True,
            "issued_at": self.issued_at,
            "customer": {"phone": self.phone, "email": self.email},
            "stamps": self.stamps,
            "goal": goal,
            "goal_index": self.goals,
            "vouchers": [dict(voucher) for voucher in vouchers],
            "wallet_pass_id": f"wp_{self.id}",
            "save_url": f"https://wallet.invalid/{self.id}",
        }


@dataclass(slots=True)
class State:
    """Everything the sandbox knows. With a file, every change is a line of it, read back at the next start."""

    goal: int = 8
    allowed: int | None = None
    file: Path | None = None
    cards: dict[str, _Card] = field(default_factory=dict)
    vouchers: dict[str, dict[str, Any]] = field(default_factory=dict)
    operations: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """(business, idempotency key) → (body digest, answer), of 2xx only."""
    by_name: dict[tuple[str, str], _Card] = field(default_factory=dict)
    used: dict[str, int] = field(default_factory=dict)

    def load(self) -> None:
        if self.file is not None and self.file.exists():
            for line in self.file.read_text().splitlines():
                self.apply(json.loads(line))

    def record(self, change: dict[str, Any]) -> dict[str, Any]:
        """Apply a change and keep it."""
        result = self.apply(change)
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(change) + "\n")
        return result

    def apply(self, change: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self, f"_{change['do']}")(change)
        operation = {name: change[name] for name in ("card_id", "kind", "count", "code", "idempotency_key", "at")}
        self.operations.append(operation)
        if change["kind"] != "card_issued":
            self.used[change["business"]] = self.used.get(change["business"], 0) + 1
        if change["idempotency_key"]:
            self.answers[f"{change['business']} {change['idempotency_key']}"] = (change["digest"], answer)
        return answer

    def _issue(self, change: dict[str, Any]) -> dict[str, Any]:
        card = _Card(
            change["card_id"], change["business"], change["number"], change["phone"], change["email"], change["at"]
        )
        self.cards[card.id] = card
        for name in (card.number, card.phone, card.email):
            if name:
                self.by_name.setdefault((card.business, name), card)
        self._event(card, change, "card_issued", 0)
        return card.shown(self.goal, [])

    def _add(self, change: dict[str, Any]) -> dict[str, Any]:
        card = self.cards[change["card_id"]]
        card.stamps += change["count"]
        card.lots.append([change["receipt"], change["count"]])
        self._event(card, change, "stamp_added", change["count"])
        rewards = []
        while card.stamps >= self.goal:
            card.stamps -= self.goal
            card.goals += 1
            rewards.append(self._reward(card, change))
        return {"operation_id": f"op_{len(self.operations)}", "card": self.show(card), "rewards": rewards}

    def _reward(self, card: _Card, change: dict[str, Any]) -> dict[str, Any]:
        used = self.goal
        while used:
            taken = min(used, card.lots[0][1])
            card.lots[0][1] -= taken
            used -= taken
            if not card.lots[0][1]:
                card.lots.pop(0)
        voucher = {
            "id": f"v_{card.id}_{card.goals}",
            "business": card.business,
            "card_id": card.id,
            "title": "Reward",
            "redeem_code": f"GIFT{card.number}{card.goals}",
            "status": "active",
            "redeemed_by_code": None,
            "redeemed_at": None,
            "code": change["code"],
        }
        self.vouchers[f"{card.business} {voucher['redeem_code']}"] = voucher
        return {"type": "voucher", "voucher_id": voucher["id"], "redeem_code": voucher["redeem_code"]}

    def _reverse(self, change: dict[str, Any]) -> dict[str, Any]:
        card = self.cards[change["card_id"]]
        left = change["count"]
        for lot in reversed(card.lots):
            if lot[0] == change["receipt"] and left:
                taken = min(left, lot[1])
                lot[1] -= taken
                left -= taken
        card.lots = [lot for lot in card.lots if lot[1]]
        card.stamps -= change["count"]
        self._event(card, change, "stamp_reversed", -change["count"])
        return {"operation_id": f"op_{len(self.operations)}", "card": self.show(card), "rewards": []}

    def _voucher(self, change: dict[str, Any]) -> dict[str, Any]:
        voucher = {**change["voucher"], "business": change["business"]}
        self.vouchers[f"{change['business']} {voucher['redeem_code']}"] = voucher
        return shown_voucher(voucher)

    def _redeem(self, change: dict[str, Any]) -> dict[str, Any]:
        voucher = self.vouchers[f"{change['business']} {change['redeem_code']}"]
        voucher.update(status="redeemed", redeemed_by_code=change["code"], redeemed_at=change["at"])
        return {"operation_id": f"op_{len(self.operations)}", "voucher": shown_voucher(voucher)}

    def _event(self, card: _Card, change: dict[str, Any], type_: str, stamps: int) -> None:
        card.events.append(
            {
                "id": f"ev_{card.id}_{len(card.events) + 1}",
                "type": type_,
                "at": change["at"],
                "code": change["code"],
                "receipt": change.get("receipt"),
                "stamps": stamps,
                "visible_at": change.get("visible_at", 0),
            }
        )

    def show(self, card: _Card) -> dict[str, Any]:
        mine = [shown_voucher(v) for v in self.vouchers.values() if v["card_id"] == card.id] if card.goals else []
        return card.shown(self.goal, mine)


def shown_voucher(voucher: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in voucher.items() if name != "business"}


@dataclass(slots=True)
class _Call:
    """One request: whose, which path parts, and what was sent."""

    business: str
    parts: tuple[str, ...]
    query: dict[str, str]
    body: dict[str, Any]
    idempotency_key: str | None
    digest: str
    login: str


Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Sandbox:
    """The ASGI application. `now` gives UTC seconds; pauses go through asyncio, so a test's loop may bend time."""

    def __init__(
        self,
        *,
        key: str | None = None,
        state: Path | None = None,
        goal: int = 8,
        allowed: int | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.key = key
        self.state = State(goal=goal, allowed=allowed, file=state)
        self.state.load()
        self.faults = Faults()
        self.revoked: set[str] = set()
        self._now = now or (lambda: datetime.now(UTC).timestamp())
        self._random = random.Random()  # noqa: S311 - faults, not secrets
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        body = await _read_body(receive)
        try:
            status, answer, more = await self._respond(scope, body)
        except Cut:
            if await _cut(receive):
                return
            raise
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        kind = b"application/json" if status < 400 else b"application/problem+json"
        headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode()), *more]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _respond(self, scope: Scope, body: bytes) -> tuple[int, Any, list[tuple[bytes, bytes]]]:
        try:
            if scope["path"].startswith("/_sandbox/"):
                return 200, self._control(scope["method"], scope["path"], body), []
            return await self._with_faults(scope, body)
        except _Refusal as refusal:
            return refusal.status, refusal.body, []

    async def _with_faults(self, scope: Scope, body: bytes) -> tuple[int, Any, list[tuple[bytes, bytes]]]:
        faults, chance = self.faults, self._random.random
        await asyncio.sleep(self._random.uniform(*faults.latency_ms) / 1000)
        if chance() < faults.drop_before:
            raise Cut
        if chance() < faults.status_429:
            refusal = _Refusal(429, "rate_limited")
            return 429, refusal.body, [(b"retry-after", b"1")]
        if chance() < faults.status_500:
            if chance() < 0.5:
                self._handle(scope, body, 0)
            return 500, {"title": "internal error", "status": 500, "code": "internal"}, []
        if scope["method"] == "POST" and chance() < faults.drop_after:
            late = self._random.uniform(*faults.apply_late_ms)
            if late:
                self._apply_later(scope, body, late)
            else:
                self._handle(scope, body, 0)
            raise Cut
        status, answer = self._handle(scope, body, 0)
        if chance() < faults.garbage:
            return status, b"<html>bad gateway", []
        return status, answer, []

    def _apply_later(self, scope: Scope, body: bytes, late_ms: float) -> None:
        async def later() -> None:
            await asyncio.sleep(late_ms / 1000)
            try:
                self._handle(scope, body, late_ms)
            except _Refusal:
                return

        task = asyncio.get_running_loop().create_task(later())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # --- the contract -------------------------------------------------------------------------------------------

    def _handle(self, scope: Scope, body: bytes, late_ms: float) -> tuple[int, Any]:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        business = self._business(headers.get("authorization", ""))
        path = scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1")
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        handler = self._route(scope["method"], parts)
        values = self._body(body) if scope["method"] == "POST" else {}
        key = headers.get("idempotency-key")
        call = _Call(
            business,
            parts,
            dict(parse_qsl(scope["query_string"].decode("latin-1"))),
            values,
            key,
            hashlib.sha256(scope["path"].encode() + body).hexdigest(),
            headers.get("authorization", "").partition("--")[2],
        )
        if key and not self.faults.ignore_idempotency_keys:
            known = self.state.answers.get(f"{business} {key}")
            if known is not None:
                if known[0] != call.digest:
                    raise _Refusal(409, "idempotency_conflict")
                return 200, known[1]
        return handler(call, late_ms)

    def _business(self, authorization: str) -> str:
        scheme, _, key = authorization.partition(" ")
        good = key.startswith(_KEY_PREFIX) and len(key) > len(_KEY_PREFIX)
        if scheme.lower() != "bearer" or not good or (self.key and key != self.key) or key in self.revoked:
            raise _Refusal(401, "invalid_key")
        # several keys of one business differ in what follows two dashes, their staff login: `7loc_sc_cafe--anna`
        return "b_" + hashlib.sha256(key.partition("--")[0].encode()).hexdigest()[:10]

    def _route(self, method: str, parts: tuple[str, ...]) -> Callable[[_Call, float], tuple[int, Any]]:
        match (method, *parts):
            case ("GET", "v1", "me"):
                return self._me
            case ("GET", "v1", "cards"):
                return self._find_cards
            case ("POST", "v1", "cards"):
                return self._issue_card
            case ("GET", "v1", "cards", _):
                return self._card
            case ("GET", "v1", "cards", _, "history"):
                return self._history
            case ("POST", "v1", "cards", _, "stamps"):
                return self._add_stamps
            case ("POST", "v1", "cards", _, "stamps", "reversals"):
                return self._reverse_stamps
            case ("POST", "v1", "vouchers"):
                return self._issue_voucher
            case ("GET", "v1", "vouchers"):
                return self._find_vouchers
            case ("GET", "v1", "vouchers", _):
                return self._show_voucher
            case ("POST", "v1", "vouchers", _, "redeem"):
                return self._redeem_voucher
        raise _Refusal(404, "not_found")

    @staticmethod
    def _body(body: bytes) -> dict[str, Any]:
        try:
            values = json.loads(body)
        except (ValueError, RecursionError):
            values = None
        if len(body) > _MOST_BODY or not isinstance(values, dict):
            raise _Refusal(422, "invalid", detail="the body is a JSON object of at most 64 KiB")
        return values

    def _me(self, call: _Call, _late: float) -> tuple[int, Any]:
        business = call.business
        return 200, {
            "business": {
                "id": business,
                "name": f"Cafe {business[-4:]}",
                "country": "UA",
                "currency": "UAH",
                "timezone": "Europe/Kyiv",
                "language": "en",
            },
            "location_id": "loc_1",
            "staff_login": call.login or "till",
            "key_status": "active",
            "operations": {"used": self.state.used.get(business, 0), "allowed": self.state.allowed},
        }

    def _find_cards(self, call: _Call, _late: float) -> tuple[int, Any]:
        names = [(name, call.query[name]) for name in ("phone", "email", "number", "token") if name in call.query]
        if len(names) != 1:
            raise _Refusal(422, "invalid", detail="exactly one of phone, email, number, token")
        kind, value = names[0]
        card = self.state.by_name.get((call.business, _phone(value) if kind == "phone" else value.lower()))
        return 200, [self.state.show(card)] if card else []

    def _issue_card(self, call: _Call, _late: float) -> tuple[int, Any]:
        phone, email = call.body.get("phone"), call.body.get("email")
        if bool(phone) == bool(email):
            raise _Refusal(422, "invalid", detail="exactly one of phone, email")
        name = _phone(str(phone)) if phone else _email(str(email))
        card = self.state.by_name.get((call.business, name))
        if card is not None:
            return 200, self.state.show(card)
        number = f"{100000 + len(self.state.cards) * 7919 % 900000:06d}"
        change = self._change(call, "issue", "card_issued", 1, f"card_{len(self.state.cards) + 1:04d}", 0)
        change.update(number=number, phone=name if phone else None, email=None if phone else name)
        return 201, self.state.record(change)

    def _card(self, call: _Call, _late: float) -> tuple[int, Any]:
        return 200, self.state.show(self._own_card(call))

    def _own_card(self, call: _Call) -> _Card:
        card = self.state.cards.get(call.parts[2])
        if card is None or card.business != call.business:
            raise _Refusal(404, "card_not_found")
        return card

    def _history(self, call: _Call, _late: float) -> tuple[int, Any]:
        events = [event for event in self._own_card(call).events if event["visible_at"] <= self._now() * 1000]
        for name in ("code", "receipt"):
            if name in call.query:
                events = [event for event in events if event[name] == call.query[name]]
        if "after" in call.query:
            events = [event for event in events if event["at"] > call.query["after"]]
        return 200, [{k: v for k, v in event.items() if k != "visible_at"} for event in events]

    def _add_stamps(self, call: _Call, late: float) -> tuple[int, Any]:
        card, count, code = self._own_card(call), _count(call.body), _text(call.body, "code")
        receipt = _text(call.body, "receipt")
        self._within_plan(call.business)
        change = self._change(call, "add", "stamps_added", count, card.id, late, code)
        return 201, self.state.record({**change, "receipt": receipt})

    def _reverse_stamps(self, call: _Call, late: float) -> tuple[int, Any]:
        card, count, code = self._own_card(call), _count(call.body), _text(call.body, "code")
        receipt = _text(call.body, "receipt")
        if sum(stamps for lot, stamps in card.lots if lot == receipt) < count:
            raise _Refusal(409, "nothing_to_reverse")
        self._within_plan(call.business)
        change = self._change(call, "reverse", "stamps_reversed", count, card.id, late, code)
        return 201, self.state.record({**change, "receipt": receipt})

    def _within_plan(self, business: str) -> None:
        if self.state.allowed is not None and self.state.used.get(business, 0) >= self.state.allowed:
            raise _Refusal(402, "plan_limit")

    def _issue_voucher(self, call: _Call, late: float) -> tuple[int, Any]:
        code = _text(call.body, "code")
        redeem_code = str(call.body.get("redeem_code") or f"V{len(self.state.vouchers) + 1:07d}")
        if not re.fullmatch(r"[\w-]{3,64}", redeem_code) or f"{call.business} {redeem_code}" in self.state.vouchers:
            raise _Refusal(422, "invalid", detail="redeem_code: 3 to 64 letters, digits, - and _, not used before")
        card_id = call.body.get("card_id")
        change = self._change(call, "voucher", "voucher_issued", 1, card_id, late, code)
        change["voucher"] = {
            "id": f"v_{len(self.state.vouchers) + 1}",
            "card_id": card_id,
            "title": str(call.body.get("title") or call.body.get("template_id") or "Voucher"),
            "redeem_code": redeem_code,
            "status": "active",
            "redeemed_by_code": None,
            "redeemed_at": None,
            "code": code,
        }
        return 201, self.state.record(change)

    def _find_vouchers(self, call: _Call, _late: float) -> tuple[int, Any]:
        mine = [v for v in self.state.vouchers.values() if v["business"] == call.business]
        return 200, [shown_voucher(v) for v in mine if v["code"] == call.query.get("code")]

    def _own_voucher(self, call: _Call) -> dict[str, Any]:
        voucher = self.state.vouchers.get(f"{call.business} {call.parts[2]}")
        if voucher is None:
            raise _Refusal(404, "voucher_not_found")
        return voucher

    def _show_voucher(self, call: _Call, _late: float) -> tuple[int, Any]:
        return 200, shown_voucher(self._own_voucher(call))

    def _redeem_voucher(self, call: _Call, late: float) -> tuple[int, Any]:
        voucher, code = self._own_voucher(call), _text(call.body, "code")
        if voucher["status"] == "redeemed":
            raise _Refusal(
                409,
                "already_redeemed",
                redeemed_at=voucher["redeemed_at"],
                redeemed_by_code=voucher["redeemed_by_code"],
            )
        if voucher["status"] == "expired":
            raise _Refusal(410, "voucher_expired")
        change = self._change(call, "redeem", "voucher_redeemed", 1, voucher["card_id"], late, code)
        return 200, self.state.record({**change, "redeem_code": voucher["redeem_code"]})

    def _change(
        self, call: _Call, do: str, kind: str, count: int, card_id: str | None, late: float, code: str | None = None
    ) -> dict[str, Any]:
        # what is applied late is visible late, but never later than `settle` after the caller gave up
        lag = min(self._random.uniform(*self.faults.history_lag_ms), max(0.0, SETTLE_MS - late))
        now = self._now()
        return {
            "do": do,
            "business": call.business,
            "card_id": card_id,
            "kind": kind,
            "count": count,
            "code": code,
            "idempotency_key": call.idempotency_key,
            "digest": call.digest,
            "at": datetime.fromtimestamp(now, UTC).isoformat(),
            "visible_at": now * 1000 + lag,
        }

    # --- control ----------------------------------------------------------------------------------------------

    def _control(self, method: str, path: str, body: bytes) -> Any:
        match (method, path):
            case ("GET", "/_sandbox/operations"):
                return self.state.operations
            case ("POST", "/_sandbox/faults"):
                try:
                    self.faults = Faults.read(self._body(body))
                except (TypeError, ValueError) as error:
                    raise _Refusal(422, "invalid", detail=str(error)) from None
                if self.faults.seed is not None:
                    self._random.seed(self.faults.seed)
                return {"ok": True}
            case ("POST", "/_sandbox/plan"):
                self.state.allowed = self._body(body).get("allowed")
                return {"ok": True}
            case ("POST", "/_sandbox/keys"):
                values = self._body(body)
                (self.revoked.add if values.get("revoked") else self.revoked.discard)(str(values.get("key")))
                return {"ok": True}
        raise _Refusal(404, "not_found")


def _count(body: Mapping[str, Any]) -> int:
    count = body.get("count")
    if type(count) is not int or not 1 <= count <= 10_000:
        raise _Refusal(422, "invalid", detail="count: a whole number from 1")
    return count


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 400:
        raise _Refusal(422, "invalid", detail=f"{name}: a text of 1 to 400 characters")
    return value


def _phone(text: str) -> str:
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        raise _Refusal(422, "invalid", detail="phone: international form, beginning with +") from None
    if not phonenumbers.is_possible_number(number):
        raise _Refusal(422, "invalid", detail="phone: no such number is possible")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _email(text: str) -> str:
    if not re.fullmatch(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+", text):
        raise _Refusal(422, "invalid", detail="email: not an address")
    return text.lower()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > _MOST_BODY:
            return bytes(body)


async def _cut(receive: Receive) -> bool:
    """Close uvicorn's connection under its feet, ASGI having no word for that; whether there was one."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        return False
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
    return True
