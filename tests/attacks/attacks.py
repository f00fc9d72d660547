"""The attacks, by name: each sends its worst for so many seconds, and counts what it was answered."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from urllib.parse import urlencode

import httpx

from connector_sdk.signatures import BodyHmac
from tests.attacks.client import Attacker, request
from tests.attacks.plugin import PLUGIN_SECRET
from tests.attacks.target import PROXY, REVOKED_KEY, SECRET, STRANGER

KIB, MIB = 1024, 1024 * 1024
MOST_BODY = 256 * KIB
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to hurt a host; `title` is what a table says of it."""

    name: str
    title: str
    run: Callable[[Attacker], Awaitable[None]]


ATTACKS: dict[str, Attack] = {}

_Run = Callable[[Attacker], Awaitable[None]]


def attack(title: str) -> Callable[[_Run], _Run]:
    """Register a function under its name."""

    def register(run: _Run) -> _Run:
        ATTACKS[run.__name__] = Attack(run.__name__, title, run)
        return run

    return register


def signed(path: str, body: bytes) -> bytes:
    """A hook that proves to be of the attacker's own till."""
    return request("POST", path, body, {"X-Signature": BodyHmac(SECRET).sign(body)})


def sale(number: object, **more: object) -> bytes:
    """A receipt of the attacker's till."""
    at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    return json.dumps({"no": f"x{number}", "sum": "2.50", "at": at, "phone": "+34600999888", **more}).encode()


def numbers() -> Callable[[], str]:
    """A function that returns another receipt number at each call."""
    start, count = random.randrange(10**9), itertools.count()
    return lambda: f"{start}-{next(count)}"


# --- bodies that are costly to read ---------------------------------------------------------------------------------


@attack("256 KiB of white space to every hook address")
async def white_space(attacker: Attacker) -> None:
    body = b" " * (MOST_BODY - 1) + b"x"
    paths = itertools.cycle(("/hooks/tills/poster", attacker.target.hook, "/hooks/tills/webhook/nobody"))
    await attacker.flood(lambda: request("POST", next(paths), body))


@attack("signed status of 16,000 letters")
async def long_status(attacker: Attacker) -> None:
    number, statuses = numbers(), itertools.cycle(("a" * 16_000, "ab " * 5_333, "ab" + " " * 15_998))
    await attacker.flood(lambda: signed(attacker.target.hook, sale(number(), status=next(statuses))))


async def _costly_paths(attacker: Attacker, size: int) -> None:
    items = [{"a": "c"}] * (size // len('{"a": "c"}, ') - 20)
    number = numbers()
    await attacker.flood(lambda: signed(attacker.target.costly_hook, sale(number(), x=items)))


@attack("twelve costly paths, signed bodies of 24 KiB")
async def costly_paths(attacker: Attacker) -> None:
    await _costly_paths(attacker, 24 * KIB)


@attack("twelve costly paths, signed bodies of 256 KiB")
async def costly_paths_large(attacker: Attacker) -> None:
    await _costly_paths(attacker, 256 * KIB)


async def _plugin(attacker: Attacker, kind: str) -> None:
    body = kind.encode() + b":" + b" " * 250_000 + b"x"
    hook = request("POST", attacker.target.plugin_hooks[kind], body, {"X-Secret": PLUGIN_SECRET})
    await attacker.flood(lambda: hook, connections=4)


@attack("a plugin whose reading is quadratic")
async def plugin_quadratic(attacker: Attacker) -> None:
    await _plugin(attacker, "quadratic")


@attack("a plugin that hangs")
async def plugin_hanging(attacker: Attacker) -> None:
    await _plugin(attacker, "hanging")


@attack("a plugin that takes all memory")
async def plugin_growing(attacker: Attacker) -> None:
    await _plugin(attacker, "growing")


# --- signing in -----------------------------------------------------------------------------------------------------


def form(attacker: Attacker, path: str, headers: dict[str, str] | None = None, **values: str) -> bytes:
    """A form as the attacker's browser posts it."""
    body = urlencode({"proof": attacker.target.proof, **values}).encode()
    return request("POST", path, body, {**FORM, "Cookie": attacker.target.cookie, **(headers or {})})


def anywhere() -> dict[str, str]:
    """The header by which the proxy says that a request comes from some other address each time."""
    return {"X-Forwarded-For": str(ip_address(random.randrange(0x0B000000, 0x7F000000)))}


@attack("wrong keys from ever new addresses, through a proxy")
async def keys_from_everywhere(attacker: Attacker) -> None:
    cookie = visitor_only(attacker)
    await attacker.flood(
        lambda: form(attacker, "/sign-in", {**anywhere(), "Cookie": cookie}, key=REVOKED_KEY, next="/"),
        connections=64,
        address=PROXY,
    )


@attack("wrong operator's passwords from ever new addresses, through a proxy")
async def passwords_from_everywhere(attacker: Attacker) -> None:
    cookie = visitor_only(attacker)
    await attacker.flood(
        lambda: form(attacker, "/sign-in/operator", {**anywhere(), "Cookie": cookie}, password="x" * 30, next="/"),
        connections=64,
        address=PROXY,
    )


def visitor_only(attacker: Attacker) -> str:
    """The attacker's cookies without the session."""
    return "; ".join(pair for pair in attacker.target.cookie.split("; ") if pair.startswith("visitor="))


@attack("a signed-in cafe posts wrong confirmations")
async def confirmations(attacker: Attacker) -> None:
    path = f"/connections/{attacker.target.connection}/disconnect"
    await attacker.flood(lambda: form(attacker, path, secret=REVOKED_KEY), connections=16)


# --- headers and addresses ------------------------------------------------------------------------------------------


@attack("63 KiB of headers in each request")
async def large_headers(attacker: Attacker) -> None:
    large = request("GET", "/healthz", headers={"X-Large": "a" * 63 * KIB})
    many = request("GET", "/sign-in", headers={f"X-{number}": "a" * 50 for number in range(900)})
    requests = itertools.cycle((large, many))
    await attacker.flood(lambda: next(requests), connections=32)


@attack("63 KiB of headers, never finished")
async def unfinished_headers(attacker: Attacker) -> None:
    beginning = b"GET /healthz HTTP/1.1\r\nHost: host\r\nX-Large: " + b"a" * 63 * KIB
    await attacker.hold(lambda _: beginning, connections=1000, address=PROXY)


@attack("addresses of 100 MiB")
async def long_address(attacker: Attacker) -> None:
    address = b"GET /" + b"a" * 100 * MIB + b" HTTP/1.1\r\nHost: host\r\n\r\n"
    await attacker.flood(lambda: address, connections=4)


@attack("cookies of 16 MiB")
async def large_cookie(attacker: Attacker) -> None:
    cookie = b"GET / HTTP/1.1\r\nHost: host\r\nCookie: a=" + b"a" * 16 * MIB + b"\r\n\r\n"
    await attacker.flood(lambda: cookie, connections=4)


@attack("cookies full of escapes")
async def escaped_cookies(attacker: Attacker) -> None:
    escaped = 'visitor="' + "\\101" * 15_000 + '"'
    await attacker.flood(lambda: request("GET", "/sign-in", headers={"Cookie": escaped}), connections=16)


# --- much of everything ---------------------------------------------------------------------------------------------


@attack("20 drafts filled with headers and bodies")
async def full_drafts(attacker: Attacker) -> None:
    hooks = await _drafts(attacker, 20)
    paths, headers = itertools.cycle(hooks), {"X-Large": "a" * 60 * KIB}
    body = json.dumps({"x": "y" * (MOST_BODY - 100)}).encode()
    await attacker.flood(lambda: request("POST", next(paths), body, headers))


async def _drafts(attacker: Attacker, number: int) -> list[str]:
    """Begin to connect so many tills; return their hook addresses."""
    target, hooks = attacker.target, []
    async with httpx.AsyncClient(
        base_url=f"http://{target.host}:{target.port}",
        headers={"Cookie": target.cookie},
        transport=httpx.AsyncHTTPTransport(local_address=STRANGER),
        timeout=60,
    ) as browser:
        for _ in range(number):
            begun = await browser.post("/connect/webhook", data={"proof": target.proof})
            page = await browser.get(begun.headers["location"])
            hooks += re.findall(r"/hooks/tills/webhook/[\w-]+", page.text)[:1]
    if len(hooks) < number:
        raise RuntimeError("a page of a draft shows no hook address")
    return hooks


@attack("signed hooks as fast as possible")
async def signed_hooks(attacker: Attacker) -> None:
    number = numbers()
    await attacker.flood(lambda: signed(attacker.target.hook, sale(number(), status="paid")), connections=16)


@attack("forged hooks as fast as possible")
async def forged_hooks(attacker: Attacker) -> None:
    hook = {
        "account": "861052",
        "object": "transaction",
        "object_id": 1,
        "action": "closed",
        "time": "1",
        "verify": "x",
    }
    forged = itertools.cycle(
        (
            request("POST", "/hooks/tills/poster", json.dumps(hook).encode()),
            request("POST", attacker.target.hook, sale(1), {"X-Signature": "00" * 32}),
            request("POST", "/hooks/tills/webhook/nobody", sale(1)),
        )
    )
    await attacker.flood(lambda: next(forged), connections=32)


def _beginning(number: int) -> bytes:
    if number % 2:
        return b"GET /healthz HTTP/1.1\r\nHost: host\r\nX-Slow: a"
    return b"POST /hooks/tills/poster HTTP/1.1\r\nHost: host\r\nContent-Length: 262144\r\n\r\n" + b" " * 1000


@attack("1,000 unfinished requests of one address")
async def unfinished_requests(attacker: Attacker) -> None:
    await attacker.hold(_beginning, connections=1000)


@attack("1,000 unfinished requests through a proxy")
async def unfinished_through_proxy(attacker: Attacker) -> None:
    await attacker.hold(_beginning, connections=1000, address=PROXY)


@attack("600 anonymous bodies of 256 KiB at once, through a proxy")
async def anonymous_bodies(attacker: Attacker) -> None:
    hook = request("POST", "/hooks/tills/poster", b"x" * MOST_BODY)
    await attacker.flood(lambda: hook, connections=600, address=PROXY)


@attack("pages of the console, as many as possible")
async def console_pages(attacker: Attacker) -> None:
    path = f"/connections/{attacker.target.connection}"
    paths = itertools.cycle(
        ("/", path, f"{path}?q=2.50", f"{path}/unread", f"{path}/settings", "/security", "/devices")
    )
    await attacker.flood(
        lambda: request("GET", next(paths), headers={"Cookie": attacker.target.cookie}), connections=32
    )


@attack("live streams and pages that nobody reads")
async def slow_readers(attacker: Attacker) -> None:
    """Ask for more than fits into any buffer and read none of it, while hooks make news for the streams."""
    path, number = f"/connections/{attacker.target.connection}", numbers()
    cookie = {"Cookie": attacker.target.cookie}
    stream, pages = request("GET", f"{path}/events", headers=cookie), request("GET", path, headers=cookie) * 8
    await asyncio.gather(
        *(_never_reads(attacker, stream if reader % 2 else pages) for reader in range(120)),
        attacker.flood(lambda: signed(attacker.target.hook, sale(number(), status="paid")), connections=2),
    )


async def _never_reads(attacker: Attacker, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    while attacker.left:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.bind((STRANGER, 0))
            try:
                await loop.sock_connect(client, (attacker.target.host, attacker.target.port))
                await loop.sock_sendall(client, data)
                attacker.answers["not read"] += 1
                await asyncio.sleep(min(5.0, attacker.left))
            except OSError:
                attacker.answers["closed"] += 1
                await asyncio.sleep(0.05)
