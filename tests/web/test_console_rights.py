"""Nobody crosses from one business to another, by any route or id, with forged cookies or forms, or by guessing."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
from starlette.requests import HTTPConnection

from connector_sdk.rule import StampRule
from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.domain.connection import Health
from connectors.services import SubscriptionRequest
from connectors.sevenstamp.sandbox import Faults
from connectors.store import access, ledger, queries
from connectors.store.access.sessions import StaffRole
from connectors.store.schema import metadata
from connectors.web.console import key_rechecks
from connectors.web.console.clients import Clients
from connectors.web.console.routers import ROUTERS
from connectors.web.console.routing import Role, local_path
from poster_connector.sandbox import Account
from tests.installation import ANNA, KEY, Installation, build
from tests.served_installation import keep_passkey
from tests.web.browser import Browsers, open_browsers
from tests.web.clock import MovableClock, StoppedClock

OTHER_BUSINESS_KEY = "7loc_sc_another_business_77aa"
OTHER_TOKEN = "861053:5a9e1570ff9af128e93c5a771055bb21"
ROUTES = [route for router in ROUTERS for route in router.routes]


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def connect_with_history(installation: Installation) -> dict[str, str]:
    """Make a connection with a receipt, a rejected operation and a passkey; return their ids as routes name them."""
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE9")
    await installation.sync()
    connection = installation.connection
    receipt = (
        await installation.host.store.read(
            lambda tx: queries.receipts.search(tx, connection, [queries.receipts.SearchTerm(receipt="330660")])
        )
    )[0].id
    rejected = next(o.id for o in await installation.operations() if o.state == "rejected")
    principal = access.sessions.Principal(connection.business_id, "Cafe Lviv", "UTC", "till", KEY)
    passkey = await keep_passkey(installation.host, principal, "Cafe Lviv's")
    colleague = await installation.host.store.write(
        lambda tx: access.colleagues.add(tx, connection.business_id, "Dana", StaffRole.counter, "till")
    )
    assert colleague is not None
    request = SubscriptionRequest("https://93.184.216.34/hook")
    made = await installation.host.services.subscriptions.create(connection.business_id, request)
    return {
        "connection": connection.id,
        "subscription": made.subscription.id,
        "token": (await installation.host.services.tokens.make(connection.business_id, "Zapier", ["read"]))[0].id,
        "receipt": receipt,
        "operation": rejected,
        "act": "acknowledge",
        "colleague": colleague.id,
        "part": "title",
        "passkey": passkey,
    }


async def dump(
    installation: Installation, *, without: tuple[str, ...] = ("console_item", "console_session", "counter", "draft")
) -> str:
    def read(tx: Any) -> str:
        digest = hashlib.sha256()
        for name, table in sorted(metadata.tables.items()):
            if name not in without:
                for row in tx.run(sqlalchemy.select(table)):
                    digest.update(repr(tuple(row)).encode())
        return digest.hexdigest()

    return await installation.host.store.read(read)


async def test_every_route_of_another_business_is_404_and_changes_nothing(
    installation: Installation, browsers: Browsers
) -> None:
    ids = await connect_with_history(installation)
    mine, theirs = await browsers.new().sign_in(), await browsers.new().sign_in(OTHER_BUSINESS_KEY)
    drafted = await mine.post("/connect/poster")
    ids["draft"] = drafted.headers["location"].split("/")[2]
    device = (
        await installation.host.store.read(lambda tx: access.sessions.devices(tx, installation.connection.business_id))
    )[0].id_hash
    before, tried = await dump(installation), 0
    for route in ROUTES:
        if route.role is Role.anyone or "{" not in route.path or route.path == "/connect/{connector}":
            continue
        path = route.path.format(**{"token": "x", **ids, "device": device, "venue": "x"})
        if route.method == "GET":
            answer = await theirs.get(path)
        else:
            answer = await theirs.post(
                path, title="stolen", email="thief@example.com", key=OTHER_BUSINESS_KEY, secret=OTHER_BUSINESS_KEY
            )
        assert answer.status_code == 404, (route.method, path, answer.status_code)
        assert "Cafe Lviv" not in answer.text
        assert "330660" not in answer.text
        tried += 1
    assert tried >= 25
    assert await dump(installation) == before
    for path in ("/", "/devices", "/security"):
        assert installation.connection.id not in (await theirs.get(path)).text
    # one's own security log names one's own sign-in only, and signing out everywhere ends nobody else's session
    assert (await theirs.get("/security")).text.count("<tr><td>") == 1
    await theirs.post("/devices/sign-out-everywhere")
    assert device not in (await theirs.get("/devices")).text
    # and the draft is still its owner's
    assert (await mine.get(f"/connect/{ids['draft']}/authorise")).status_code == 200


async def test_ids_of_one_business_do_not_open_parts_of_another(
    installation: Installation, browsers: Browsers, tmp_path: Any
) -> None:
    """A connection of one's own in the address does not let in the receipt or operation of somebody else's."""
    ids = await connect_with_history(installation)
    theirs = await browsers.new().sign_in(OTHER_BUSINESS_KEY)
    second = Account(token=OTHER_TOKEN, name="other")
    installation.till.accounts[second.token] = second
    own = await installation.host.services.onboarding.connect(
        "poster", {"access_token": second.token}, OTHER_BUSINESS_KEY, lambda _account: StampRule()
    )
    base = f"/connections/{own.id}"
    assert (await theirs.get(base)).status_code == 200
    assert (await theirs.get(f"{base}/receipts/{ids['receipt']}")).status_code == 404
    for path in (
        f"receipts/{ids['receipt']}/find-card",
        f"receipts/{ids['receipt']}/give",
        f"operations/{ids['operation']}/retry",
    ):
        answer = await theirs.post(f"{base}/{path}", who=ANNA, claim="x", digits="0000")
        assert answer.status_code == 404, path
    assert "/receipts/" not in (await theirs.get(f"{base}/receipts?q=330660")).text


async def test_without_a_session_everything_leads_to_signing_in(installation: Installation, browsers: Browsers) -> None:
    ids = await connect_with_history(installation)
    nobody = browsers.new()
    before = await dump(installation)
    for route in ROUTES:
        if route.role is Role.anyone:
            continue
        path = route.path.format(
            **{**ids, "device": "x", "draft": "x", "connector": "poster", "token": "x", "venue": "x"}
        )
        answer = await (nobody.get(path) if route.method == "GET" else nobody.post(path))
        assert answer.status_code in (303, 401), (route.method, path)
        assert route.method == "POST" or path.endswith("/events") or answer.headers["location"].startswith("/sign-in")
        assert "Cafe Lviv" not in answer.text
    assert await dump(installation) == before


async def test_the_operators_pages_are_the_operators(installation: Installation, browsers: Browsers) -> None:
    ids = await connect_with_history(installation)
    mine, operator = await browsers.new().sign_in(), await browsers.new().as_operator()
    assert (await mine.get("/operator")).status_code == 404
    assert (await mine.post(f"/operator/link/{ids['connection']}")).status_code == 404
    assert "Cafe Lviv" in (await operator.get("/operator")).text
    assert (await operator.get(f"/connections/{ids['connection']}")).status_code == 200


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43, "0" * 4000, "'; DROP TABLE console_session; --", "\x7f"])
async def test_a_forged_cookie_is_nobody(installation: Installation, browsers: Browsers, cookie: str) -> None:
    await connect_with_history(installation)
    nobody = browsers.new()
    nobody.client.headers["cookie"] = f"console={cookie}"
    assert (await nobody.get("/")).headers["location"].startswith("/sign-in")


async def test_the_database_alone_opens_no_session(installation: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    cookie = mine.client.cookies["console"]
    stored = await installation.host.store.read(
        lambda tx: tx.run(sqlalchemy.text("SELECT * FROM console_session")).all()
    )
    assert cookie not in repr(stored)
    assert KEY not in repr(stored)
    thief = browsers.new()
    thief.client.cookies.set("console", stored[0].id_hash)
    assert (await thief.get("/")).status_code == 303


async def test_every_change_needs_the_csrf_token_of_this_browsers_own_pages(
    installation: Installation, browsers: Browsers
) -> None:
    ids = await connect_with_history(installation)
    mine, theirs = await browsers.new().sign_in(), await browsers.new().sign_in(OTHER_BUSINESS_KEY)
    foreign = await theirs.csrf_token()
    before = await dump(installation)
    for route in ROUTES:
        if route.method != "POST" or route.role is Role.operator:
            continue
        path = route.path.format(
            **{**ids, "device": "x", "draft": "x", "connector": "poster", "token": "x", "venue": "x"}
        )
        for token in ("", "0" * 32, foreign):
            assert (await mine.post(path, csrf_token=token)).status_code == 403, (path, token)
    token = await mine.csrf_token()
    forged = await mine.client.post(
        f"/connections/{ids['connection']}/pause", data={"proof": token}, headers={"sec-fetch-site": "cross-site"}
    )
    assert forged.status_code == 403
    for origin in ("http://evil.example", "http://host:8080", "null"):
        headers = {"origin": origin}
        forged = await mine.client.post(
            f"/connections/{ids['connection']}/pause", data={"proof": token}, headers=headers
        )
        assert forged.status_code == 403, origin
    assert await dump(installation) == before
    assert (await mine.post(f"/connections/{ids['connection']}/pause", csrf_token=token)).status_code == 303


async def test_guessing_gets_slower_for_an_address_and_stays_fast_for_others(
    installation: Installation, browsers: Browsers
) -> None:
    guesser, other = browsers.new(), browsers.new(address="203.0.113.9")
    statuses = [(await guesser.post("/sign-in", key=f"7loc_sc_guess{n}", next="/")).status_code for n in range(8)]
    assert statuses[0] == 303  # the sandbox knows any key
    await guesser.post("/sign-out")
    installation.sevenstamp.key = KEY
    statuses = [(await guesser.post("/sign-in", key=f"7loc_sc_guess{n}", next="/")).status_code for n in range(8)]
    assert statuses[:4] == [422] * 4
    assert set(statuses[4:]) == {429}
    # a forwarded header changes nothing where no proxy is trusted
    guesser.client.headers["x-forwarded-for"] = "192.0.2.1"
    assert (await guesser.post("/sign-in", key="7loc_sc_guess", next="/")).status_code == 429
    assert (await other.post("/sign-in", key=KEY, next="/")).status_code == 303


async def test_a_right_key_does_not_forgive_wrong_passwords(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # on a busy machine a wait would be over before the next try
    store = installation.host.store
    monkeypatch.setattr(store, "clock", StoppedClock(store.clock.now()))
    guesser, statuses = browsers.new(), []
    for number in range(9):
        statuses.append((await guesser.post("/sign-in/operator", password=f"p{number}", next="/")).status_code)
        if number % 3 == 2:
            await guesser.post("/sign-in", key=KEY, next="/")
            await guesser.post("/sign-out")
    assert statuses == [422] * 4 + [429] * 5


async def test_behind_a_trusted_proxy_the_forwarded_address_counts(tmp_path: Any, monkeypatch: Any) -> None:
    async with (
        build(tmp_path, monkeypatch, trusted_proxies="10.0.0.0/8") as installation,
        open_browsers(installation) as browsers,
    ):
        installation.sevenstamp.key = KEY
        for number in range(8):
            browser = browsers.new(address="10.1.2.3")
            browser.client.headers["x-forwarded-for"] = f"1.1.1.1, 192.0.2.{number}"
            assert (await browser.post("/sign-in", key="7loc_sc_wrong", next="/")).status_code == 422
        secure = browsers.new(address="10.1.2.3", base="http://host")
        secure.client.headers["x-forwarded-proto"] = "https"
        answer = await secure.get("/sign-in")
        assert "__Host-visitor=" in answer.headers["set-cookie"]
        assert "Secure" in answer.headers["set-cookie"]


async def test_a_flood_of_keys_is_not_passed_on(installation: Installation, browsers: Browsers) -> None:
    calls = 0
    sevenstamp = installation.sevenstamp

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        nonlocal calls
        calls += 1
        await type(sevenstamp).__call__(sevenstamp, scope, receive, send)

    assert installation.host.sevenstamp is not None
    original = installation.host.sevenstamp.exchange

    async def exchange(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await original(*arguments, **options)

    installation.host.sevenstamp.exchange = exchange  # type: ignore[method-assign]
    sevenstamp.key = KEY
    answers = [
        (
            await browsers.new(address=f"198.51.{n // 200}.{n % 200}").post("/sign-in", key="7loc_sc_wrong", next="/")
        ).status_code
        for n in range(60)
    ]
    assert calls <= 30
    assert 429 in answers
    assert (await browsers.new().post("/sign-in", key="no key at all", next="/")).status_code in (422, 429)


async def test_a_session_ends_within_five_minutes_of_its_key(installation: Installation, browsers: Browsers) -> None:
    installation.host.store.clock = clock = MovableClock()
    mine = await browsers.new().sign_in(remember="1")
    other = await browsers.new().sign_in(f"{KEY}--anna", remember="1")
    installation.sevenstamp.revoked.add(KEY)
    clock.ahead = 5 * MINUTE
    assert (await mine.get("/")).headers["location"].startswith("/sign-in")
    assert (await other.get("/")).status_code == 200


async def test_sessions_end_by_idleness_and_age_and_by_hand(installation: Installation, browsers: Browsers) -> None:
    installation.host.store.clock = clock = MovableClock()
    mine, phone = await browsers.new().sign_in(), await browsers.new().sign_in(remember="1")
    clock.ahead = 9 * HOUR
    assert (await mine.get("/")).status_code == 303
    assert (await phone.get("/")).status_code == 200
    laptop = await browsers.new().sign_in()
    devices = await installation.host.store.read(lambda tx: access.sessions.devices(tx, _business(tx)))
    phone_session = next(session for session in devices if session.remembered)
    assert (await laptop.post(f"/devices/{phone_session.id_hash}/sign-out")).status_code == 303
    assert (await phone.get("/")).status_code == 303
    clock.ahead += 91 * DAY
    assert (await laptop.get("/")).status_code == 303


def _business(tx: Any) -> str:
    return str(tx.run(sqlalchemy.text("SELECT business_id FROM console_session LIMIT 1")).scalar_one())


async def test_a_new_key_takes_the_place_of_a_dead_one(installation: Installation, browsers: Browsers) -> None:
    await connect_with_history(installation)
    connection_id = installation.connection.id
    installation.sevenstamp.revoked.add(KEY)
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert (await installation.host.services.connections.get(connection_id)).health is Health.needs_authorisation
    browser = await browsers.new().sign_in(f"{KEY}--borys")
    assert "7stamp refuses the key of 1 till." in (await browser.get("/")).text
    await browser.post("/keys/replace")
    assert (await installation.host.services.connections.get(connection_id)).health is Health.active
    assert (await installation.host.services.connections.get(connection_id)).key_login == "borys"
    lines = await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, connection_id))
    assert [line.by for line in lines if line.message.id == "connection.edited.key"] == ["borys"]


async def test_disconnecting_and_diagnostics_ask_for_a_key_of_this_business(
    installation: Installation, browsers: Browsers
) -> None:
    ids = await connect_with_history(installation)
    mine = await browsers.new().sign_in()
    for path in ("disconnect", "diagnostics"):
        for secret in ("", "7loc_sc_somebody_elses_key"):
            answer = await mine.post(f"/connections/{ids['connection']}/{path}", secret=secret)
            assert answer.status_code == 422, (path, secret)
    file = await mine.post(f"/connections/{ids['connection']}/diagnostics", secret=KEY)
    assert file.headers["content-type"] == "application/zip"
    assert (await mine.post(f"/connections/{ids['connection']}/disconnect", secret=KEY)).status_code == 303
    assert await installation.host.services.connections.list_all() == []


async def test_the_headers_leave_no_way_for_others(installation: Installation, browsers: Browsers) -> None:
    answer = await browsers.new().get("/sign-in")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert re.search(r"form-action 'self' http://127\.0\.0\.1:\d+;", policy)  # the till's consent page
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


@pytest.mark.parametrize(
    "address", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "evil"]
)
def test_no_form_leads_to_another_site(address: str) -> None:
    assert local_path(address) == "/"
    assert local_path("/connections/x?q=1") == "/connections/x?q=1"


async def test_what_cafes_and_tills_call_things_is_shown_as_text(
    installation: Installation, browsers: Browsers
) -> None:
    await connect_with_history(installation)
    await installation.host.services.connections.edit(installation.connection.id, {}, title="<script>alert(1)</script>")
    mine = await browsers.new().sign_in()
    for path in (
        "/",
        f"/connections/{installation.connection.id}",
        f"/connections/{installation.connection.id}/receipts?q=<script>alert(1)</script>",
    ):
        text = (await mine.get(path)).text
        assert "<script>alert(1)</script>" not in text
        assert "&lt;script&gt;alert(1)" in text


async def test_a_key_is_never_shown_again(installation: Installation, browsers: Browsers) -> None:
    ids = await connect_with_history(installation)
    mine = await browsers.new().sign_in()
    draft = (await mine.post("/connect/poster")).headers["location"].split("/")[2]
    text = (await mine.post(f"/connect/{draft}/authorise", **{"set.access_token": installation.cafe.token + "0"})).text
    for path in ("", "/settings", "/rule", "/welcome", "/disconnect", "/diagnostics", "/receipts?q=1"):
        text += (await mine.get(f"/connections/{ids['connection']}{path}")).text
    text += (await mine.get("/devices")).text + (await mine.get(f"/connect/{draft}/key")).text
    await mine.post(f"/connect/{draft}/authorise", **{"set.access_token": installation.cafe.token})
    await mine.get(f"/connect/{draft}/key")  # takes the session's own key
    text += (await mine.get(f"/connect/{draft}/key")).text + (await mine.get(f"/connect/{draft}/where")).text
    assert KEY not in text
    assert installation.cafe.token not in text
    assert installation.cafe.token.partition(":")[2] not in text
    assert "ending in 9f81" in text


async def test_a_link_ends_with_whatever_allowed_it(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rechecks, "ANSWER_LIFETIME", 0.0)
    installation.host.store.clock = clock = MovableClock()

    async def opens(path: str) -> bool:
        fresh = browsers.new()
        await fresh.post(path)
        return await fresh.is_signed_in()

    mine = await browsers.new().sign_in()
    assert await opens(await mine.make_link())
    # the device that made it is signed out
    link = await mine.make_link()
    await mine.post("/sign-out")
    assert not await opens(link)
    # the operator's password changes
    operator = await browsers.new().as_operator()
    link = await operator.make_link()
    await installation.host.store.write(lambda tx: access.operator_password.set_password_hash(tx, "another"))
    assert not await opens(link)
    # the key is refused: a chain of links does not outlive it
    cafe = await browsers.new().sign_in()
    link = await cafe.make_link()
    installation.sevenstamp.revoked.add(KEY)
    clock.ahead = 2 * MINUTE
    assert not await opens(link)


async def test_what_a_page_asks_by_itself_does_not_keep_a_session_alive(
    installation: Installation, browsers: Browsers
) -> None:
    await connect_with_history(installation)
    installation.host.store.clock = clock = MovableClock()
    mine = await browsers.new().sign_in()
    for _ in range(9):
        clock.ahead += HOUR
        answer = await mine.get(f"/connections/{installation.connection.id}?part=now")
    assert answer.status_code == 401
    assert (await mine.get("/")).status_code == 303


async def test_forms_of_strangers_are_not_saved(installation: Installation, browsers: Browsers) -> None:
    stranger = browsers.new()
    for size in (10, 20_000):
        answer = await stranger.post("/connect/x/authorise", csrf_token="", **{"set.access_token": "\u00ff" * size})
        assert answer.status_code == 401
        assert re.search(r'name="kept" value=""', answer.text)


async def test_sessions_links_and_searches_are_bounded(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect_with_history(installation)
    browser = await browsers.new().sign_in()
    sessions = await installation.host.store.read(
        lambda tx: access.sessions.devices(tx, installation.connection.business_id)
    )
    principal = sessions[0].principal
    for _ in range(103):
        await installation.host.store.write(
            lambda tx: access.sessions.begin(tx, principal, device="", remembered=False, lives=DAY)
        )
    browser = await browsers.new().sign_in()
    devices = await installation.host.store.read(
        lambda tx: access.sessions.devices(tx, installation.connection.business_id)
    )
    assert len(devices) == 100
    for _ in range(25):
        await browser.post("/devices/link")
    links = await installation.host.store.read(
        lambda tx: tx.run(sqlalchemy.text("SELECT count(*) FROM console_link")).scalar()
    )
    assert links == 20
    base = f"/connections/{installation.connection.id}"
    installation.cafe.sell(0)
    await installation.sync()
    receipts = await installation.host.store.read(
        lambda tx: queries.receipts.search(tx, installation.connection, [queries.receipts.SearchTerm(receipt="330661")])
    )
    # a slow machine must not fill the bucket between two searches
    monkeypatch.setattr("connectors.web.console.sign_in_limits.time", SimpleNamespace(monotonic=lambda: 0.0))
    answers = [
        await browser.post(f"{base}/receipts/{receipts[0].id}/find-card", who=f"{number:06d}") for number in range(25)
    ]
    assert "Too many tries" in answers[-1].text


async def test_what_7stamp_says_of_a_key_is_not_asked_at_every_look(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft = (await mine.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await mine.post(f"{draft}/authorise", **{"set.access_token": installation.cafe.token})
    assert installation.host.sevenstamp is not None
    calls, original = 0, installation.host.sevenstamp.exchange

    async def exchange(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await original(*arguments, **options)

    installation.host.sevenstamp.exchange = exchange  # type: ignore[method-assign]
    assert (await mine.get(f"{draft}/key")).status_code == 303
    for _ in range(20):
        assert (await mine.get(f"{draft}/key")).status_code == 200
    assert calls == 1


@pytest.mark.parametrize(
    ("peer", "lines", "address"),
    [
        ("10.1.2.3", ["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["6.6.6.6, 203.0.113.9:4711"], "203.0.113.9"),
        ("::ffff:10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["not an address"], "10.1.2.3"),
        ("198.51.100.7", ["203.0.113.9"], "198.51.100.7"),
        ("2001:db8:1:2::9", [], "2001:db8:1::/48"),
    ],
)
async def test_a_forwarded_address_is_read_as_proxies_write_it(
    tmp_path: Any, monkeypatch: Any, peer: str, lines: list[str], address: str
) -> None:
    async with build(tmp_path, monkeypatch, trusted_proxies="10.0.0.0/8") as installation:
        headers = [(b"x-forwarded-for", line.encode()) for line in lines]
        scope = {"type": "http", "client": (peer, 1), "headers": headers}
        assert Clients(installation.host).address(HTTPConnection(scope)) == address


async def test_whoever_comes_by_a_link_waits_until_7stamp_vouches_for_the_key(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    link = await mine.make_link()
    installation.sevenstamp.faults = Faults(status_500=1.0)
    other = browsers.new()
    await other.post(link)
    assert {answer.status_code for answer in await asyncio.gather(*(other.get("/") for _ in range(4)))} == {303}
