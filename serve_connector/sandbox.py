"""A stand-in Serve over HTTP, and a cafe that sells, corrects, refunds and voids checks in it.

Owns addresses, made-up failures and what a person or script may do to the till; what an account holds and says is
`sandbox_cafe`'s.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connector_sdk.sandbox import Post, TillSandbox
from serve_connector.sandbox_cafe import MENU, SECRET, TOKEN, Cafe, CheckPage, Failure, write_time
from serve_connector.wire import MOST_PER_PAGE

__all__ = ["SECRET", "TOKEN", "Cafe", "ServeSandbox"]

_MONTHS_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_KNOWN_COMMANDS = "sell, correct, refund, void, hooks, receipts"


class ServeSandbox(TillSandbox):
    """The sandbox as the host's commands use it."""

    def __init__(self, *cafes: Cafe) -> None:
        self.cafes = {cafe.token: cafe for cafe in cafes or (Cafe(),)}
        self.cafe = next(iter(self.cafes.values()))
        self.hooks_url: str | None = None
        self._posting: set[asyncio.Task[None]] = set()
        self._application = Starlette(
            routes=[
                Route("/v1/venues", self._list_venues),
                Route("/v1/checks", self._list_checks),
                Route("/v1/checks/{check}", self._get_check),
                Route("/_sandbox/{command}", self._control, methods=["POST"]),
            ]
        )

    def application(self) -> Starlette:
        """Return the ASGI application of the API."""
        return self._application

    def environment(self, origin: str) -> Mapping[str, str]:
        """Return the environment variables that point the connector here."""
        return {"SERVE_API_URL": origin}

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the first cafe's account."""
        return {"access_token": self.cafe.token, "signing_secret": self.cafe.secret}

    # --- the API ----------------------------------------------------------------------------------------------

    def _admit(self, request: Request) -> Cafe | Response:
        """Return the cafe whose token it is, or the answer that takes the place of the proper one."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        cafe = self.cafes.get(token)
        if cafe is None:
            return _error(401, "unauthorized", "this token opens nothing")
        # a call with a token that opens nothing is nobody's
        cafe.calls += 1
        return _failed_response(cafe.fail_next.pop(0)) if cafe.fail_next else cafe

    async def _list_venues(self, request: Request) -> Response:
        cafe = self._admit(request)
        return cafe if isinstance(cafe, Response) else JSONResponse({"data": cafe.venues(), "next_cursor": None})

    async def _list_checks(self, request: Request) -> Response:
        cafe = self._admit(request)
        if isinstance(cafe, Response):
            return cafe
        try:
            page = _read_page(cafe, request.query_params)
        except (ValueError, TypeError):
            return _error(400, "bad_request", "updated_since, cursor or limit cannot be understood")
        return JSONResponse({"data": page.checks, "next_cursor": page.next_cursor})

    async def _get_check(self, request: Request) -> Response:
        cafe = self._admit(request)
        if isinstance(cafe, Response):
            return cafe
        check = cafe.checks.get(request.path_params["check"])
        return JSONResponse(check) if check is not None else _error(404, "not_found", "there is no such check")

    # --- for a person or script -------------------------------------------------------------------------------

    async def _control(self, request: Request) -> Response:
        """Do one of `sell`, `correct`, `refund`, `void`, `hooks`, `receipts`; 422 says what is not understood."""
        try:
            values = json.loads(await request.body() or b"{}")
            return JSONResponse(self._do(request.path_params["command"], values))
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            return _error(422, "not_understood", f"{type(error).__name__} {error}")

    def _do(self, command: str, values: Mapping[str, object]) -> object:
        """Do a command and send the event that the till sends of it. Raises `KeyError`, `TypeError` or `ValueError`."""
        cafe, check = self.cafe, str(values.get("receipt_id", ""))
        match command:
            case "sell":
                check = self._sell(values)
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
                self.hooks_url = _optional_text(values.get("url"))
            case "receipts":
                return list(cafe.checks.values())
            case _:
                raise ValueError(f"there is no {command!r}; known: {_KNOWN_COMMANDS}")
        return {"receipt_id": check}

    def _sell(self, values: Mapping[str, object]) -> str:
        check = self.cafe.sell(
            str(values.get("paid", "12.50")),
            phone=_optional_text(values.get("phone")),
            email=_optional_text(values.get("email")),
            codes=_texts(values.get("promo_codes", [])),
        )
        self._send(check, "check.closed")
        return check

    def _send(self, check: str, kind: str) -> None:
        """Post an event in the background, where an address for them was given."""
        if self.hooks_url is None:
            return
        body = self.cafe.event(check, kind)
        task = asyncio.get_running_loop().create_task(_post(self.hooks_url, body, self.cafe.signed(body)))
        self._posting.add(task)  # the loop itself holds no reference, and the task might be collected
        task.add_done_callback(self._posting.discard)

    # --- the cafe ---------------------------------------------------------------------------------------------

    def two_weeks(self, customers: list[str]) -> None:
        """Fill fourteen days before today, now and then with nobody attached, or a refund."""
        cafe, chance = self.cafe, random.Random(14)  # noqa: S311 - the same weeks every time
        now, clock = cafe.now(), cafe.now
        for days_ago in range(14, 0, -1):
            opens = (now - timedelta(days=days_ago)).replace(hour=7, minute=0, second=0)
            for number in range(chance.randint(12, 24)):
                cafe.now = _clock_at(opens + timedelta(minutes=27 * number))
                check = self._serve_guest(chance, customers)
                if chance.random() < 0.03:
                    cafe.refund(check)
        cafe.now = clock

    def _serve_guest(self, chance: random.Random, customers: list[str]) -> str:
        """Open, fill and close a check, now and then nobody's; return its id."""
        check = self.cafe.open(phone=chance.choice([*customers, *customers, None]))
        for _ in range(chance.randint(1, 7)):
            self.cafe.add(check, chance.choice(list(MENU)))
        self.cafe.close(check, tip=chance.choice(["0", "0", "1.00"]))
        return check

    async def busy_morning(self, customers: list[str], post: Post, pause: Callable[[], Awaitable[None]]) -> None:
        """Play a morning: most people buy a coffee; some checks are corrected, refunded in part, or voided."""
        chance = random.Random(7)  # noqa: S311 - the same morning every time
        closed: list[str] = []
        while True:
            closed.append(self._serve_guest(chance, customers))
            await self._post_event(closed[-1], "check.closed", post)
            await pause()
            # a few checks stay as they are, so that there is something to look at
            if len(closed) > 4 and chance.random() < 0.4:
                check = closed.pop(chance.randrange(len(closed)))
                await self._post_event(check, self._change_check(check, chance), post)
                await pause()

    def _change_check(self, check: str, chance: random.Random) -> str:
        """Refund, void or correct a closed check; return the event that Serve sends of it."""
        cafe = self.cafe
        match chance.randrange(3):
            case 0:
                cafe.refund(check, "1.00")
                return "check.refunded"
            case 1:
                cafe.void(check)
                return "check.voided"
        cafe.correct(check, str(Decimal(cafe.checks[check]["total"]) * 2))
        return "check.updated"

    async def _post_event(self, check: str, kind: str, post: Post) -> None:
        body = self.cafe.event(check, kind)
        await post(body, self.cafe.signed(body))


# --- HTTP, in detail ------------------------------------------------------------------------------------------------


def _read_page(cafe: Cafe, query: QueryParams) -> CheckPage:
    """Return the page that a query asks for. Raises `ValueError` or `TypeError` where it cannot be understood."""
    since = datetime.fromisoformat(query.get("updated_since", write_time(_MONTHS_AGO)))
    limit = int(query.get("limit", "50"))
    # as strict as the contract, so that what the connector sends is held to it
    if not 1 <= limit <= MOST_PER_PAGE or since.tzinfo is None:
        raise ValueError
    return cafe.page(since, query.get("cursor", ""), limit)


def _failed_response(failure: Failure) -> Response:
    if isinstance(failure, bytes):
        return Response(failure, media_type="application/json")
    headers = {"Retry-After": "1"} if failure == 429 else {}
    return _error(failure, "made_to_fail", "made to fail", headers)


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers=dict(headers or {}))


def _optional_text(value: object) -> str | None:
    """Read a text of a command. Raises `TypeError`."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _texts(value: object) -> Sequence[str]:
    """Read a list of texts of a command. Raises `TypeError`."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise TypeError(f"{type(value).__name__} is no list of texts")
    return value


def _clock_at(at: datetime) -> Callable[[], datetime]:
    """Make a clock that stands still."""
    return lambda: at


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Post one event; a till whose event fails says nothing, and a sandbox does not send it again."""
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(url, content=body, headers=dict(headers))
