"""A stand-in Poster over HTTP, and a cafe that opens, closes, corrects and refunds receipts in it.

Owns addresses, OAuth pages, made-up failures and what a person or script may do to the till; what an account holds and
answers is `sandbox_account`'s.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from html import escape
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from connector_sdk.sandbox import Post, TillSandbox
from poster_connector.sandbox_account import MENU, SECRET, TOKEN, Account, Failure, PosterError

__all__ = ["APPLICATION", "SECRET", "TOKEN", "Account", "PosterSandbox"]

APPLICATION = "76"
_CONTROL = "/_sandbox/"
_KNOWN_COMMANDS = "sell, refund, remove, correct, hooks, receipts"
_USUAL_SALE = 2750  # in hundredths
_SATURDAY = 5


class PosterSandbox(TillSandbox):
    """The sandbox as the host's commands use it; an ASGI application itself."""

    def __init__(self, *accounts: Account) -> None:
        self.accounts = {account.token: account for account in accounts or (Account(),)}
        self.account = next(iter(self.accounts.values()))
        self.hooks_url: str | None = None
        self.codes: dict[str, str] = {}
        """OAuth codes given and not yet traded, with the address each was given to."""
        self._posting: set[asyncio.Task[None]] = set()

    def application(self) -> PosterSandbox:
        """Return the ASGI application, which is the sandbox itself."""
        return self

    def environment(self, origin: str) -> Mapping[str, str]:
        """Return the environment variables that point the connector here."""
        return {
            "POSTER_API_URL": f"{origin}/api",
            "POSTER_APPLICATION_ID": APPLICATION,
            "POSTER_APPLICATION_SECRET": SECRET,
        }

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the first account."""
        return {"access_token": self.account.token}

    # --- HTTP -------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _serve_lifespan(receive, send)
            return
        request = Request(scope, receive)
        response = self._respond(scope["path"], _parse_query(scope["query_string"]), await request.body())
        await response(scope, receive, send)

    def _respond(self, path: str, query: Mapping[str, str], body: bytes) -> Response:
        match path:
            case "/api/auth":
                return self._ask_for_consent(query)
            case "/api/auth/answer":
                return self._leave_consent(query)
            case "/api/v2/auth/access_token":
                return _json_response(self._trade_code(_parse_query(body)))
        if path.startswith(_CONTROL):
            return self._control(path, body)
        # what a method changes comes as a form
        return self._call_method(path, {**_parse_query(body), **query})

    def _call_method(self, path: str, query: Mapping[str, str]) -> Response:
        """Answer a method of the API, or fail as the account was told to. A wrong token is the first account's."""
        # the account itself refuses a token that is not its own
        account = self.accounts.get(query.get("token", ""), self.account)
        if account.fail_next:
            return _failed_response(account.fail_next.pop(0))
        try:
            return _json_response({"response": account.answer(path.rpartition("/")[2], query)})
        except PosterError as error:
            return _json_response(error.answer)  # with HTTP 200, as Poster does

    # --- OAuth ------------------------------------------------------------------------------------------------

    def _ask_for_consent(self, query: Mapping[str, str]) -> Response:
        """Show the page that asks a cafe's owner."""
        if not _is_known_application(query):
            return _unknown_application()
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{escape(value)}">'
            for name, value in (("redirect_uri", query["redirect_uri"]), ("application_id", APPLICATION))
        )
        page = (
            '<!doctype html><html lang="en"><title>Poster sandbox</title><h1>Let 7stamp read your receipts?</h1>'
            f'<form action="/api/auth/answer">{hidden}<button name="allow" value="1">Allow</button> '
            '<button name="allow" value="0">Refuse</button></form></html>'
        )
        return Response(page.encode(), headers={"content-type": "text/html; charset=utf-8"})

    def _leave_consent(self, query: Mapping[str, str]) -> Response:
        """Send the browser back with a code or a refusal."""
        if not _is_known_application(query):
            return _unknown_application()
        if query.get("allow") == "1":
            return Response(status_code=302, headers={"location": self.allow(query)})
        return Response(
            status_code=302, headers={"location": _with_query(query["redirect_uri"], {"error": "access_denied"})}
        )

    def allow(self, query: Mapping[str, str]) -> str:
        """Let the application of a consent page's query in; return the address to which the browser goes then."""
        back, code = query["redirect_uri"], secrets.token_hex(16)
        self.codes[code] = back
        return _with_query(back, {"code": code, "account": self.account.name})

    def _trade_code(self, form: Mapping[str, str]) -> Mapping[str, object]:
        """Trade a code for a token: once, for the application and the address it was given to."""
        if form.get("application_id") != APPLICATION:
            return {"error": 143, "message": "Requested code's application doesn't exist", "field": "application_id"}
        good = form.get("application_secret") == SECRET and form.get("grant_type") == "authorization_code"
        given_to = self.codes.pop(form.get("code", ""), None)
        if not good or given_to is None or given_to != form.get("redirect_uri"):
            return {"code": 400, "error_type": "OAuthException", "error_message": "No matching code found"}
        return {"access_token": self.account.token, "account_number": self.account.number}

    # --- for a person or script -------------------------------------------------------------------------------

    def _control(self, path: str, body: bytes) -> Response:
        """Do one of `sell`, `refund`, `remove`, `correct`, `hooks`, `receipts`; 422 says what is not understood."""
        try:
            return _json_response(self._do(path.removeprefix(_CONTROL), json.loads(body or b"{}")))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return _json_response({"error": f"not understood: {type(error).__name__} {error}"}, 422)

    def _do(self, command: str, values: Mapping[str, object]) -> object:
        """Do a command and send the hook that the till sends of it. Raises `KeyError`, `TypeError` or `ValueError`."""
        account, receipt = self.account, _whole(values.get("receipt_id", 0))
        match command:
            case "sell":
                receipt = self._sell(values)
            case "refund":
                account.refund(receipt)
                self._send_hook(receipt, "changed")
            case "remove":
                account.remove(receipt)
                self._send_hook(receipt, "removed")
            case "correct":
                account.correct(receipt, _whole(values["paid"]))
                self._send_hook(receipt, "changed")
            case "hooks":
                self.hooks_url = _optional_text(values.get("url"))
            case "receipts":
                return list(account.receipts.values())
            case _:
                raise ValueError(f"there is no {command!r}; known: {_KNOWN_COMMANDS}")
        return {"receipt_id": receipt}

    def _sell(self, values: Mapping[str, object]) -> int:
        phone = _optional_text(values.get("phone"))
        client = self.account.client(phone) if phone else 0
        paid, comment = _whole(values.get("paid", _USUAL_SALE)), _optional_text(values.get("comment"))
        receipt = self.account.sell(client, paid, comment=comment)
        self._send_hook(receipt, "closed")
        return receipt

    def _send_hook(self, receipt: int, action: str) -> None:
        """Post a hook in the background, where an address for them was given."""
        if self.hooks_url is None:
            return
        task = asyncio.get_running_loop().create_task(_post(self.hooks_url, self.account.hook(receipt, action)))
        self._posting.add(task)  # the loop itself holds no reference, and the task might be collected
        task.add_done_callback(self._posting.discard)

    # --- the cafe ---------------------------------------------------------------------------------------------

    def two_weeks(self, customers: list[str]) -> None:
        """Fill fourteen days before today: busier on Saturdays, now and then nobody attached, or a refund."""
        cafe, chance = self.account, random.Random(14)  # noqa: S311 - the same weeks every time
        clients = [cafe.client(phone) for phone in customers]
        now, clock = cafe.now(), cafe.now
        for days_ago in range(14, 0, -1):
            opens = (now - timedelta(days=days_ago)).astimezone(ZoneInfo(cafe.zone)).replace(hour=8, minute=0, second=0)
            self._sell_for_a_day(opens, clients, chance)
        cafe.now = clock

    def _sell_for_a_day(self, opens: datetime, clients: list[int], chance: random.Random) -> None:
        cafe, minute = self.account, 0
        for _ in range(chance.randint(14, 20) + (10 if opens.weekday() == _SATURDAY else 0)):
            minute += chance.randint(4, 30)
            cafe.now = _clock_at(opens + timedelta(minutes=minute))
            receipt = cafe.open(_somebody(clients, chance))
            self._add_products(receipt, chance)
            cafe.close(receipt)
            if chance.random() < 0.03:
                cafe.refund(receipt)

    def _add_products(self, receipt: int, chance: random.Random) -> None:
        for _ in range(chance.randint(1, 3)):
            self.account.add(receipt, chance.choice(list(MENU)))

    async def busy_morning(self, customers: list[str], post: Post, pause: Callable[[], Awaitable[None]]) -> None:
        """Play a morning: most people buy a coffee; some receipts are corrected, refunded, removed, or nobody's."""
        cafe, chance = self.account, random.Random(7)  # noqa: S311 - the same morning every time
        clients = [cafe.client(phone) for phone in customers]
        closed: list[int] = []
        while True:
            closed.append(await self._serve_customer(_somebody(clients, chance), chance, post))
            await pause()
            # a few receipts stay as they are, so that there is something to look at
            if len(closed) > 4 and chance.random() < 0.4:
                receipt = closed.pop(chance.randrange(len(closed)))
                await self._post_hook(receipt, self._change_receipt(receipt, chance), post)
                await pause()

    async def _serve_customer(self, client: int, chance: random.Random, post: Post) -> int:
        """Open, fill and close a receipt, with a hook for each; return its id."""
        receipt = self.account.open(client)
        await self._post_hook(receipt, "added", post)
        self._add_products(receipt, chance)
        await self._post_hook(receipt, "changed", post)
        self.account.close(receipt)
        await self._post_hook(receipt, "closed", post)
        return receipt

    def _change_receipt(self, receipt: int, chance: random.Random) -> str:
        """Refund, remove or correct a closed receipt; return the action that Poster's hook names."""
        cafe = self.account
        match chance.randrange(3):
            case 0:
                cafe.refund(receipt)
            case 1:
                cafe.remove(receipt)
                return "removed"
            case _:
                cafe.correct(receipt, int(cafe.receipts[receipt]["payed_sum"]) * 2)
        return "changed"

    async def _post_hook(self, receipt: int, action: str, post: Post) -> None:
        await post(self.account.hook(receipt, action), {"content-type": "application/json"})


# --- HTTP, in detail ------------------------------------------------------------------------------------------------


async def _serve_lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and end, at which nothing is to be done."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def _parse_query(query: bytes) -> dict[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def _json_response(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content).encode(), status, media_type="application/json")


def _failed_response(failure: Failure) -> Response:
    match failure:
        case bytes():
            return Response(failure, media_type="application/json")
        case str():
            return Response(b"{}", int(failure), media_type="application/json")
    return _json_response({"error": {"code": failure, "message": "made to fail"}})


def _is_known_application(query: Mapping[str, str]) -> bool:
    return query.get("redirect_uri", "").startswith("http") and query.get("application_id") == APPLICATION


def _unknown_application() -> Response:
    return Response(b"there is no such application", 400, headers={"content-type": "text/plain"})


def _whole(value: object) -> int:
    """Read a number of a command, written as a number or a text. Raises `TypeError` or `ValueError`."""
    if not isinstance(value, int | float | str):
        raise TypeError(f"{type(value).__name__} is no number")
    return int(value)


def _optional_text(value: object) -> str | None:
    """Read a text of a command. Raises `TypeError`."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} is no text")
    return value


def _somebody(clients: list[int], chance: random.Random) -> int:
    """Choose a client; now and then nobody, who is client 0."""
    return chance.choice([*clients, *clients, 0])


def _clock_at(at: datetime) -> Callable[[], datetime]:
    """Make a clock that stands still."""
    return lambda: at


async def _post(url: str, body: bytes) -> None:
    """Post one hook; a till whose hook fails says nothing, and a sandbox does not send it again."""
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.post(url, content=body, headers={"content-type": "application/json"})


def _with_query(address: str, values: Mapping[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(values)}"
