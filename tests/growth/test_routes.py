"""Every route costs twice as much for a request twice as long, not four times: requests by walking the routes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from connector_sdk import TillAccount
from connector_sdk.errors import BadPayload
from connector_sdk.hooks import HookRequest
from connectors.services import SubscriptionRequest
from connectors.sevenstamp.events import UnreadableEvent, read_event
from connectors.web import app as web
from connectors.web.api.application import ROUTERS
from serve_connector.sandbox import Cafe
from tests.growth.step_counter import count_steps
from tests.installation import Installation, build
from tests.sync.test_unread_retries import BASE
from tests.web.api.program import token_for
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.test_teaching_pages import begun
from tests.webhook.test_way_of_a_request import connect
from webhook_connector import ready_made
from webhook_connector.teaching import TEACHING

SHORT = 2500
SLACK = 4000  # steps that come or not whatever is sent: a cache that is cold, a session that is touched
Text = Callable[[int], bytes]

BODIES: dict[str, Text] = {
    "white space": lambda n: b" \t\r\n" * (n // 4),
    "one letter": lambda n: b"a" * n,
    "numbers": lambda n: b"[" + b"1," * (n // 2) + b"1]",
    "a deep list": lambda n: b"[" * (n // 2) + b"]" * (n // 2),
    "a deep object": lambda n: b'{"id":' * (n // 7) + b"1" + b"}" * (n // 7),
    "many names": lambda n: json.dumps({f"n{number}": "x" for number in range(n // 12)}).encode(),
    "one long value": lambda n: json.dumps({"id": "1", "sum": "Anna Smith" * (n // 10), "phone": "a@" * n}).encode(),
    "many receipts": lambda n: json.dumps([{"id": str(at), "sum": "x"} for at in range(n // 24)]).encode(),
    "many lines": lambda n: json.dumps(
        {"id": "1", "at": "2026-11-20T08:15:30Z", "sum": "1.00", "lines": [{"sku": "A"} for _ in range(n // 14)]}
    ).encode(),
    "escapes": lambda n: b'"' + b"\\u0041" * (n // 6) + b'"',
    "a form": lambda n: b"a=1&" * (n // 4),
    "a form of escapes": lambda n: b"a=" + b"%41" * (n // 3),
}
# a page reads forms, and of anything else only how long it is
OF_FORMS = ("white space", "one letter", "a deep list", "a form", "a form of escapes")
PROOF_PART = b'--x\r\ncontent-disposition: form-data; name="proof"\r\n\r\n'
PART = b'--x\r\ncontent-disposition: form-data; name="a"\r\n\r\n'
FILE_PART = b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\ncontent-type: text/csv\r\n\r\n'
UPLOADS: dict[str, Text] = {
    "fields": lambda n: PART * (n // len(PART)),
    "a head of a field": lambda n: b"--x\r\n" + b"a: b\r\n" * (n // 6),
    "a file": lambda n: FILE_PART + b"a" * n + b"\r\n--x--\r\n",
    "a file of rows": lambda n: FILE_PART + b"no;sum\n" + b"1;2.50\n" * (n // 7) + b"\r\n--x--\r\n",
    "a file of columns": lambda n: FILE_PART + b"a;" * (n // 2) + b"\r\n--x--\r\n",
    "a file of quotes": lambda n: FILE_PART + b'a\n"b\n' * (n // 5) + b"\r\n--x--\r\n",
    "boundaries": lambda n: FILE_PART + b"\r\n--" * (n // 4),
}
IN_ADDRESSES: dict[str, Text] = {
    "fields": lambda n: b"a=1&" * (n // 4),
    "escapes": lambda n: b"q=" + b"%2B" * (n // 3),
    "words": lambda n: b"q=" + b"12.50+" * (n // 6),
}
COOKIES: dict[str, Text] = {
    "pairs": lambda n: b"a=b; " * (n // 5),
    "escapes": lambda n: b'console="' + b"\\073" * (n // 4) + b'"',
    "equals": lambda n: b"=;" * (n // 2),
}


@dataclass(frozen=True)
class RouteRequest:
    """Where a request goes: a route with its parts filled in."""

    method: str
    path: str
    headers: dict[str, str]


async def every_request(installation: Installation, browser: Browser, draft: str, hook: str) -> list[RouteRequest]:
    """Every route of the application, and every way of its hooks."""
    connection_id = installation.connection.id
    own = str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    values = {"connection": connection_id, "draft": draft, "connector": "webhook", "token": "x" * 32, "part": "title"}
    request = SubscriptionRequest("http://127.0.0.1:9/nobody", ("card_opened",))
    made = await installation.host.services.subscriptions.create(installation.connection.business_id, request)
    values["subscription"] = made.subscription.id
    (source,) = installation.sevenstamp.webhooks.subscriptions.values()
    requests: list[RouteRequest] = []
    for route in browser.client._transport.app.routes:  # type: ignore[attr-defined]
        if not isinstance(route, Route) or route.path.endswith("/events"):
            continue
        path = route.path
        for name in route.param_convertors:
            path = path.replace(f"{{{name}}}", values.get(name, "x")).replace(f"{{{name}:path}}", "x")
        requests += [
            RouteRequest(method, path, {}) for method in sorted(route.methods or ()) if method in ("GET", "POST")
        ]
    hooks = [own, hook, *(f"/hooks/tills/{name}" for name in ("poster", "serve", "webhook"))]
    hooks.append(source.url.removeprefix(installation.host.public_url))
    return requests + [RouteRequest("POST", path, {}) for path in hooks]


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    quotas: dict[str, Any] = {"hooks_per_minute": 1_000_000, "hook_mib_per_day": 100_000, "relay_hosts": "127.0.0.1",
        "api_calls_per_minute": 1_000_000}  # fmt: skip
    async with build(tmp_path, monkeypatch, **quotas) as made:
        yield made


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def too_costly(browser: Browser, place: RouteRequest) -> list[str]:
    """In which ways a longer request costs more than it is longer."""
    bad: list[str] = []
    bodies = BODIES if place.path.startswith("/hooks/") else {name: BODIES[name] for name in OF_FORMS}
    families = [("body", bodies)] if place.method == "POST" else [("address", IN_ADDRESSES)]
    # cookies are read in one place, before any handler: a page for strangers, one for whoever is signed in and one of
    # the API show it, and others need not again
    reads_cookies = place.method == "GET" and place.path in ("/sign-in", "/devices", "/api/v1/me", "/healthz")
    for what, texts in [*families, *([("cookie", COOKIES)] if reads_cookies else [])]:
        for name, text in texts.items():
            bad += await _steps_too_many(browser, place, what, name, text)
    return bad


async def _steps_too_many(browser: Browser, place: RouteRequest, what: str, name: str, text: Text) -> list[str]:
    """What twice as much costs beside once, where that is too much."""
    # a page is asked for it: not while steps are counted, and once
    proof = await browser.csrf_token() if what == "upload" or _is_form(place, what, text(64)) else ""
    await _send(browser, place, what, text(64), proof)  # whatever is only done once
    short = await count_steps(lambda: _send(browser, place, what, text(SHORT), proof))
    long = await count_steps(lambda: _send(browser, place, what, text(2 * SHORT), proof))
    if long <= 2.2 * short + SLACK:
        return []
    return [f"{place.method} {place.path}: {what} of {name}: {short} steps, then {long}"]


def _is_form(place: RouteRequest, what: str, text: bytes) -> bool:
    return what == "body" and b"=" in text[:2] and "Authorization" not in place.headers


async def _send(browser: Browser, place: RouteRequest, what: str, text: bytes, proof: str) -> None:
    headers = dict(place.headers)
    path, body = place.path, b""
    if what == "address":
        path = f"{path}?{text.decode()}"
    elif what == "cookie":
        headers["cookie"] = "; ".join(
            [text.decode(), *(f"{cookie.name}={cookie.value}" for cookie in browser.client.cookies.jar)]
        )
    elif what == "upload":
        headers["content-type"] = "multipart/form-data; boundary=x"
        body = PROOF_PART + proof.encode() + b"\r\n" + text
    else:
        body = text
        if _is_form(place, what, text):
            headers["content-type"] = "application/x-www-form-urlencoded"
            body = f"proof={proof}&".encode() + text
    await browser.client.request(place.method, path, content=body, headers=headers, follow_redirects=what == "upload")


async def test_no_route_costs_more_than_what_is_sent_is_long(installation: Installation, browsers: Browsers) -> None:
    await connect(installation, {**BASE, "map_paid": "sum", "map_lines": "lines", "map_product": "sku"})
    browser = await browsers.new().sign_in()
    draft, hook = await begun(browser)
    bad: list[str] = []
    tried = await every_request(installation, browser, draft.rsplit("/", 1)[1], hook)
    for place in tried:
        if place.path not in ("/sign-out", "/devices/sign-out-everywhere") and not place.path.endswith("/remove"):
            bad += await too_costly(browser, place)
    assert len(tried) > 60
    assert bad == []


async def test_no_uploaded_file_costs_more_than_it_is_long(installation: Installation, browsers: Browsers) -> None:
    await connect(installation, {**BASE, "map_paid": "sum"})
    browser = await browsers.new().sign_in()
    page = f"/connections/{installation.connection.id}/import"
    place = RouteRequest("POST", f"{page}/file", {})
    bad: list[str] = []
    for name, text in UPLOADS.items():
        bad += await _steps_too_many(browser, place, "upload", name, text)
    assert bad == []
    body = PROOF_PART + (await browser.csrf_token()).encode() + b"\r\n" + UPLOADS["a file of rows"](SHORT)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    shown = await browser.client.post(place.path, content=body, headers=headers, follow_redirects=True)
    assert "2.50" in shown.text, "these are not the bodies of uploads"


SALE: dict[str, Any] = {
    "connection": "{connection}",
    "receipt": "1",
    "closed_at": "2026-11-26T09:00:00Z",
    "paid": "12.50",
}
WHOLE: dict[str, Callable[[int], dict[str, Any]]] = {
    "sell": lambda n: {**SALE, "lines": [{"product": "A", "paid": "1.00"} for _ in range(n // 32)]},
    "subscribe": lambda n: {"url": "http://127.0.0.1:9/x", "events": ["stamp_added"] * (n // 16)},
    "changeSubscription": lambda n: {"filter": "||".join(["data.code=='x'"] * (n // 16))},
    "issueVoucher": lambda n: {"title": "A", "description": "a" * n},
}
"""Bodies that are read to the end, or are the longest of their kind that are."""


def _text_of(whole: Callable[[int], dict[str, Any]], connection: str) -> Text:
    return lambda n: json.dumps(whole(n)).replace("{connection}", connection).encode()


async def test_no_call_of_the_api_costs_more_than_what_is_sent_is_long(
    installation: Installation, browsers: Browsers
) -> None:
    await connect(installation, {**BASE, "map_paid": "sum"})
    browser, token = browsers.new(), await token_for(installation)
    made = await installation.host.services.subscriptions.create(
        installation.connection.business_id, SubscriptionRequest("http://127.0.0.1:9/nobody", ("card_opened",))
    )
    ids = {"connection": installation.connection.id, "subscription": made.subscription.id, "redeem_code": "COFFEE9"}
    json_headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    bad: list[str] = []
    tried = 0
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            (method,) = route.methods or ()
            if method == "DELETE":
                continue
            path = "/api/v1" + route.path.format_map(defaultdict(lambda: "x", ids))
            place = RouteRequest(method, path, json_headers)
            texts = dict(BODIES if method in ("POST", "PATCH") else IN_ADDRESSES)
            if whole := WHOLE.get(str(route.operation_id)):
                texts["a whole one"] = _text_of(whole, installation.connection.id)
            what = "address" if method == "GET" else "body"
            for name, text in texts.items():
                bad += await _steps_too_many(browser, place, what, name, text)
            tried += 1
    assert tried >= 29
    assert bad == []


async def test_a_route_that_is_quadratic_is_found(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = web._hook

    async def slow(request: Any, public_url: str) -> Any:
        hook = await read(request, public_url)
        if isinstance(hook, HookRequest):
            _quadratic(hook.body)
        return hook

    monkeypatch.setattr(web, "_hook", slow)
    await connect(installation, {**BASE, "map_paid": "sum"})
    own = str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    assert await too_costly(browsers.new(), RouteRequest("POST", own, {})) != []


def _quadratic(body: bytes) -> None:
    for start in range(0, len(body), 16):
        for _ in range(start, len(body), 16):
            pass


async def test_a_proven_event_of_7stamp_costs_what_it_is_long() -> None:
    async def read(body: bytes) -> None:
        with suppress(UnreadableEvent):
            read_event(body, "msg_1", datetime.now(UTC)).model_dump_json()

    for name, text in BODIES.items():
        for key in ("further", "card", "voucher", "campaign"):
            wrapped = lambda n, text=text, key=key: b'{"event": "campaign_sent", "%s": %s}' % (key.encode(), text(n))  # type: ignore[misc]  # noqa: E731
            await read(wrapped(64))
            short = await count_steps(lambda wrapped=wrapped: read(wrapped(SHORT)))  # type: ignore[misc]
            long = await count_steps(lambda wrapped=wrapped: read(wrapped(2 * SHORT)))  # type: ignore[misc]
            assert long <= 2.2 * short + SLACK, (name, key)


async def test_a_proven_check_of_serve_costs_what_it_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_connector.connector import ServeConnector
    from serve_connector.settings import ServeSettings

    account = Cafe()
    settings = ServeSettings(access_token=account.token, signing_secret=account.secret)
    place = TillAccount(id="1", name="Cafe", currency="EUR", zone="UTC")
    till = ServeConnector(settings, account=place)

    async def read(body: bytes) -> None:
        hook = HookRequest("POST", account.signed(body), {}, body)
        till.prove(hook)
        with suppress(BadPayload):
            till.receive(hook)

    for name, text in BODIES.items():
        wrapped = lambda n, text=text: b'{"type": "check.closed", "check": ' + text(n) + b"}"  # type: ignore[misc]  # noqa: E731
        await read(wrapped(64))
        short = await count_steps(lambda wrapped=wrapped: read(wrapped(SHORT)))  # type: ignore[misc]
        long = await count_steps(lambda wrapped=wrapped: read(wrapped(2 * SHORT)))  # type: ignore[misc]
        assert long <= 2.2 * short + SLACK, name


@pytest.mark.parametrize("ready", ready_made.ALL, ids=lambda ready: ready.name)
async def test_teaching_costs_what_a_request_is_long(ready: Any) -> None:
    values = dict(ready.settings)

    async def ask(body: bytes) -> None:
        TEACHING.questions(values, body)
        TEACHING.sketch(values, body)
        for field in ("map_receipts", "map_paid", "map_closed_at"):
            TEACHING.leaves(values, body, field)
            TEACHING.taken(values, body, field, "id")
        TEACHING.proof(HookRequest("POST", {"x-signature": body.decode("latin-1")}, {}, body))

    for name, text in BODIES.items():
        await ask(text(64))
        short = await count_steps(lambda text=text: ask(text(SHORT)))  # type: ignore[misc]
        long = await count_steps(lambda text=text: ask(text(2 * SHORT)))  # type: ignore[misc]
        assert long <= 2.4 * short + SLACK, (name, short, long)
