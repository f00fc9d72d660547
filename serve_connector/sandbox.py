"""A stand-in Serve that behaves as `openapi.yaml` says, and a cafe that sells, corrects, refunds and voids.

Owns the till's side: checks with their revisions, the pages of the API, and the signed events it sends.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector_sdk.money import Money
from connector_sdk.sandbox import Post, TillSandbox
from connector_sdk.signatures import TimestampedHmac
from serve_connector.wire import MOST_PER_PAGE

TOKEN = "serve_test_5f1c0a77d9e24b"  # noqa: S105 - of the sandbox only
SECRET = "whs_9d2e41b07c6f48a5"  # noqa: S105 - the same
_MENU = {
    "FLATWHITE": ("coffee", "Flat white", "3.20"),
    "ESPRESSO": ("coffee", "Espresso", "1.90"),
    "CROISSANT": ("pastry", "Croissant", "2.40"),
    "CHEESECAKE": ("pastry", "Cheesecake", "4.80"),
}
_MONTHS_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Cafe:
    """One Serve account with two venues. `page_size` bounds its pages below what the API allows."""

    token: str = TOKEN
    secret: str = SECRET
    id: str = "acc_31"
    currency: str = "EUR"
    zone: str = "Europe/Madrid"
    page_size: int = MOST_PER_PAGE
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    changes: list[tuple[datetime, str]] = field(default_factory=list)
    """When each check last changed, oldest change first."""
    fail_next: list[Any] = field(default_factory=list)
    """Answers to give instead of the next ones: an HTTP status, or bytes."""
    calls: int = 0

    # --- what a waiter does -----------------------------------------------------------------------------------

    def open(self, *, phone: str | None = None, email: str | None = None, venue: str = "vn_12") -> str:
        """Open a check; its id."""
        number = 9001 + len(self.checks)
        one = f"chk_{number}"
        guest = {"id": f"g_{number}", "phone": phone, "email": email, "loyalty_code": None} if phone or email else None
        self.checks[one] = {
            "id": one,
            "number": str(number),
            "revision": 0,
            "status": "open",
            "opened_at": _text(self.now()),
            "closed_at": None,
            "currency": self.currency,
            "total": self.money("0"),
            "discount": self.money("0"),
            "tip": self.money("0"),
            "refunded": self.money("0"),
            "items": [],
            "payments": [],
            "guest": guest,
            "promo_codes": [],
            "venue_id": venue,
        }
        self._changed(one)
        return one

    def money(self, amount: str) -> str:
        """As the wire writes it: with the currency's own digits."""
        return Money.from_decimal(amount, self.currency).decimal

    def add(self, check: str, sku: str, quantity: str = "1") -> None:
        category, name, price = _MENU[sku]
        items = self.checks[check]["items"]
        total = Decimal(price) * Decimal(quantity)
        items.append(
            {
                "id": f"li_{len(items) + 1}",
                "sku": sku,
                "category": category,
                "name": name,
                "quantity": quantity,
                "unit_price": price,
                "total": str(total),
            }
        )
        self.checks[check]["total"] = self.money(str(Decimal(self.checks[check]["total"]) + total))
        self._changed(check)

    def close(self, check: str, total: str | None = None, *, tip: str = "0", codes: Sequence[str] = ()) -> None:
        """Take the money, with a tip on top."""
        facts = self.checks[check]
        facts["total"] = self.money(total) if total is not None else facts["total"]
        facts["tip"], facts["promo_codes"] = self.money(tip), list(codes)
        facts["payments"] = [{"kind": "card", "amount": str(Decimal(facts["total"]) + Decimal(facts["tip"]))}]
        facts["status"], facts["closed_at"] = "closed", _text(self.now())
        self._changed(check)

    def sell(self, total: str = "12.50", *, phone: str | None = None, email: str | None = None, **more: Any) -> str:
        """Open and close at once; the check's id."""
        one = self.open(phone=phone, email=email)
        self.close(one, total, **more)
        return one

    def correct(self, check: str, total: str) -> None:
        self.checks[check]["total"] = self.money(total)
        self._changed(check)

    def refund(self, check: str, amount: str | None = None) -> None:
        """Give back an amount, or everything."""
        facts = self.checks[check]
        left = Decimal(facts["total"]) - Decimal(facts["refunded"])
        back = Decimal(amount) if amount is not None else left
        facts["refunded"] = self.money(str(Decimal(facts["refunded"]) + back))
        if back == left:
            facts["status"] = "refunded"
        self._changed(check)

    def void(self, check: str) -> None:
        self.checks[check]["status"] = "voided"
        self._changed(check)

    def _changed(self, check: str) -> None:
        self.checks[check] = {**self.checks[check], "revision": self.checks[check]["revision"] + 1}
        self.changes = [(at, one) for at, one in self.changes if one != check]
        self.changes.append((self.now(), check))

    # --- the API ----------------------------------------------------------------------------------------------

    def venues(self) -> list[dict[str, Any]]:
        shared = {
            "account_id": self.id,
            "account_name": "Cafe Central",
            "currency": self.currency,
            "time_zone": self.zone,
            "country": "ES",
        }
        return [{"id": "vn_12", "name": "Bar", **shared}, {"id": "vn_13", "name": "Terrace", **shared}]

    def page(self, since: datetime, cursor: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Checks by their last change; a cursor names the change it comes after, so nothing is missed meanwhile."""
        after = json.loads(urlsafe_b64decode(cursor)) if cursor else None
        size = min(limit, self.page_size)
        found = [
            (at, one)
            for at, one in sorted(self.changes)
            if at >= since and (after is None or [at.timestamp(), one] > after)
        ]
        some = found[:size]
        token = json.dumps([some[-1][0].timestamp(), some[-1][1]]).encode() if len(found) > size else b""
        return [self.checks[one] for _, one in some], urlsafe_b64encode(token).decode() or None

    # --- events -----------------------------------------------------------------------------------------------

    def event(self, check: str, kind: str = "check.closed") -> bytes:
        """The body of an event about a check as it is now."""
        facts = dict(self.checks[check])
        venue = next(one for one in self.venues() if one["id"] == facts.pop("venue_id"))
        return json.dumps(
            {
                "id": f"evt_{secrets.token_hex(4)}",
                "type": kind,
                "created_at": _text(self.now()),
                "venue": {"id": venue["id"], "name": venue["name"]},
                "check": facts,
            }
        ).encode()

    def signed(self, body: bytes, *, secrets_: Sequence[str] = (), at: int | None = None) -> dict[str, str]:
        """The headers of an event, signed by each secret (two while one is rotated)."""
        at = at if at is not None else int(self.now().timestamp())
        first, *others = [TimestampedHmac(secret).sign(body, at) for secret in secrets_ or (self.secret,)]
        more = "".join(f",{one.partition(',')[2]}" for one in others)
        return {"content-type": "application/json", "serve-signature": first + more}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ServeSandbox(TillSandbox):
    """The sandbox as the host's commands use it."""

    def __init__(self, *cafes: Cafe) -> None:
        self.cafes = {one.token: one for one in cafes or (Cafe(),)}
        self.cafe = next(iter(self.cafes.values()))
        self.hooks_url: str | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self._application = Starlette(
            routes=[
                Route("/v1/venues", self._venues),
                Route("/v1/checks", self._checks),
                Route("/v1/checks/{check}", self._check),
                Route("/_sandbox/{what}", self._control, methods=["POST"]),
            ]
        )

    def application(self) -> Any:
        return self._application

    def environment(self, origin: str) -> Mapping[str, str]:
        return {"SERVE_API_URL": origin}

    def settings(self) -> Mapping[str, str]:
        return {"access_token": self.cafe.token, "signing_secret": self.cafe.secret}

    # --- the API ----------------------------------------------------------------------------------------------

    def _door(self, request: Request) -> Cafe | Response:
        """Whose token it is, or the answer that takes the place of the proper one."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        cafe = self.cafes.get(token)
        if cafe is None:
            return _error(401, "unauthorized", "this token opens nothing")
        cafe.calls += 1
        if cafe.fail_next:
            failure = cafe.fail_next.pop(0)
            if isinstance(failure, bytes):
                return Response(failure, media_type="application/json")
            headers = {"Retry-After": "1"} if failure == 429 else {}
            return _error(failure, "made_to_fail", "made to fail", headers)
        return cafe

    async def _venues(self, request: Request) -> Response:
        cafe = self._door(request)
        return cafe if isinstance(cafe, Response) else JSONResponse({"data": cafe.venues(), "next_cursor": None})

    async def _checks(self, request: Request) -> Response:
        cafe = self._door(request)
        if isinstance(cafe, Response):
            return cafe
        query = request.query_params
        try:
            since = datetime.fromisoformat(query.get("updated_since", _text(_MONTHS_AGO)))
            limit = int(query.get("limit", "50"))
            if not 1 <= limit <= MOST_PER_PAGE or since.tzinfo is None:
                raise ValueError
            found, cursor = cafe.page(since, query.get("cursor", ""), limit)
        except (ValueError, TypeError):
            return _error(400, "bad_request", "updated_since, cursor or limit cannot be understood")
        return JSONResponse({"data": found, "next_cursor": cursor})

    async def _check(self, request: Request) -> Response:
        cafe = self._door(request)
        if isinstance(cafe, Response):
            return cafe
        found = cafe.checks.get(request.path_params["check"])
        return JSONResponse(found) if found is not None else _error(404, "not_found", "there is no such check")

    # --- for a person or script -------------------------------------------------------------------------------

    async def _control(self, request: Request) -> Response:
        """`sell`, `correct`, `refund`, `void`, `hooks`, `receipts`."""
        try:
            values = json.loads(await request.body() or b"{}")
            return JSONResponse(self._do(request.path_params["what"], values))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            return _error(422, "not_understood", f"{type(error).__name__} {error}")

    def _do(self, what: str, values: Mapping[str, Any]) -> Any:
        cafe, check = self.cafe, str(values.get("receipt_id", ""))
        match what:
            case "sell":
                check = cafe.sell(
                    str(values.get("paid", "12.50")),
                    phone=values.get("phone"),
                    email=values.get("email"),
                    codes=values.get("promo_codes", ()),
                )
                self._send(check, "check.closed")
            case "correct":
                cafe.correct(check, str(values["paid"]))
                self._send(check, "check.updated")
            case "refund":
                cafe.refund(check, str(values["amount"]) if "amount" in values else None)
                self._send(check, "check.refunded")
            case "void":
                cafe.void(check)
                self._send(check, "check.voided")
            case "hooks":
                self.hooks_url = values.get("url")
            case "receipts":
                return list(cafe.checks.values())
            case other:
                raise ValueError(f"there is no {other!r}; known: sell, correct, refund, void, hooks, receipts")
        return {"receipt_id": check}

    def _send(self, check: str, kind: str) -> None:
        if self.hooks_url is None:
            return
        body = self.cafe.event(check, kind)
        task = asyncio.get_running_loop().create_task(_post(self.hooks_url, body, self.cafe.signed(body)))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    def two_weeks(self, customers: list[str]) -> None:
        """Fourteen days of a cafe before today, now and then with nobody attached, or a refund."""
        cafe, chance = self.cafe, random.Random(14)  # noqa: S311 - the same weeks every time
        now, clock = cafe.now(), cafe.now
        for ago in range(14, 0, -1):
            opens = (now - timedelta(days=ago)).replace(hour=7, minute=0, second=0)
            for number in range(chance.randint(12, 24)):
                at = opens + timedelta(minutes=27 * number)
                cafe.now = lambda at=at: at  # type: ignore[misc]
                check = self._order(chance, customers)
                if chance.random() < 0.03:
                    cafe.refund(check)
        cafe.now = clock

    def _order(self, chance: random.Random, customers: list[str]) -> str:
        check = self.cafe.open(phone=chance.choice([*customers, *customers, None]))
        for _ in range(chance.randint(1, 7)):
            self.cafe.add(check, chance.choice(list(_MENU)))
        self.cafe.close(check, tip=chance.choice(["0", "0", "1.00"]))
        return check

    async def busy_morning(self, customers: list[str], post: Post, pause: Callable[[], Awaitable[None]]) -> None:
        """Most people buy a coffee; some checks are corrected, refunded in part, or voided."""
        cafe, chance = self.cafe, random.Random(7)  # noqa: S311 - the same morning every time

        async def tell(check: str, kind: str) -> None:
            body = cafe.event(check, kind)
            await post(body, cafe.signed(body))

        closed: list[str] = []
        while True:
            closed.append(self._order(chance, customers))
            await tell(closed[-1], "check.closed")
            await pause()
            if len(closed) > 4 and chance.random() < 0.4:
                earlier = closed.pop(chance.randrange(len(closed)))
                match chance.randrange(3):
                    case 0:
                        cafe.refund(earlier, "1.00")
                        await tell(earlier, "check.refunded")
                    case 1:
                        cafe.void(earlier)
                        await tell(earlier, "check.voided")
                    case _:
                        cafe.correct(earlier, str(Decimal(cafe.checks[earlier]["total"]) * 2))
                        await tell(earlier, "check.updated")
                await pause()


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=dict(headers or {}))


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(url, content=body, headers=dict(headers))
