"""Colleagues come in by an invitation, do what their role may and nothing else, and are gone when they are removed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy

from connectors.domain.clock import DAY, MINUTE
from connectors.store import access, ledger, queries
from connectors.store.access.colleagues import MOST
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import Principal, StaffRole
from connectors.web.console import key_rechecks
from connectors.web.console.routers import ROUTERS
from connectors.web.console.routing import Role
from tests.installation import ANNA, BORYS, KEY, Installation
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.clock import MovableClock
from tests.web.test_console_rights import OTHER_BUSINESS_KEY, connect_with_history, dump

ROUTES = [route for router in ROUTERS for route in router.routes if route.role is not Role.anyone]
C, T = "/connections/{connection}", "/till/{connection}"
AT_THE_COUNTER = {
    "/", "/till", T, f"{T}/find", f"{T}/card", f"{T}/give", f"{T}/redeem", f"{C}/events",
    f"{C}/receipts/{{receipt}}", f"{C}/receipts/{{receipt}}/find-card", f"{C}/receipts/{{receipt}}/give",
    f"{C}/receipts/{{receipt}}/make-card", f"{C}/receipts/{{receipt}}/take-back",
}  # fmt: skip
A_MANAGERS = AT_THE_COUNTER | {
    "/my-till", C, f"{C}/sync", f"{C}/pause", f"{C}/resume", f"{C}/recheck", f"{C}/plan", f"{C}/numbers",
    f"{C}/numbers.csv",
    f"{C}/receipts", f"{C}/customers", f"{C}/rule", f"{C}/preview", f"{C}/unread",
    f"{C}/operations/{{operation}}/{{act}}",
    f"{C}/venues/{{venue}}/take", f"{C}/venues/{{venue}}/leave", f"{C}/vouchers", f"{C}/vouchers/issue",
    f"{C}/vouchers/show", f"{C}/vouchers/redeem", f"{C}/import", f"{C}/import/file", f"{C}/import/try",
    f"{C}/import/run", f"{C}/history", f"{C}/history/count", f"{C}/history/run",
    "/messages", "/messages/{device}/choices", "/messages/{device}/test", "/messages/{device}/remove",
}  # fmt: skip


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def invite(owner: Browser, name: str, role: str) -> str:
    """Invite a colleague, and return the path of the invitation."""
    page = await owner.post_and_follow("/people", name=name, role=role)
    match = re.search(r"/join/[\w-]+", page)
    assert match, page
    assert "/join/" not in (await owner.get("/people")).text, "it is shown once"
    return match[0]


async def joined(browsers: Browsers, owner: Browser, name: str, role: str) -> Browser:
    """A colleague's browser, signed in by an invitation."""
    browser = browsers.new()
    answer = await browser.post(await invite(owner, name, role))
    assert answer.status_code == 303, answer.text
    return browser


async def _id_of(installation: Installation, name: str) -> str:
    business_id = installation.connection.business_id
    listed = await installation.host.store.read(lambda tx: access.colleagues.of_business(tx, business_id))
    return next(one.id for one in listed if one.name == name)


# --- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "may"), [("counter", AT_THE_COUNTER), ("manager", A_MANAGERS)])
async def test_a_role_reaches_its_own_routes_and_no_other(
    installation: Installation, browsers: Browsers, role: str, may: set[str]
) -> None:
    ids = await connect_with_history(installation)
    owner = await browsers.new().sign_in()
    browser = await joined(browsers, owner, "Olena", role)
    drafted = await owner.post("/connect/poster")
    ids["draft"] = drafted.headers["location"].split("/")[2]
    before, refused = await dump(installation), 0
    for route in ROUTES:
        if route.role is Role.operator or route.path in may:
            continue
        path = route.path.format(**{"device": "x", "venue": "x", "connector": "poster", **ids})
        answer = await (browser.get(path) if route.method == "GET" else browser.post(path, role="owner", name="x"))
        assert answer.status_code == 403, (route.method, path, answer.status_code)
        assert "an owner" in answer.text, path
        assert "Cafe Lviv" not in re.sub(r"<header.*?</header>", "", answer.text, flags=re.DOTALL), path
        refused += 1
    assert refused > 40
    assert await dump(installation) == before
    for route in ROUTES:
        if route.path in may and route.method == "GET" and not route.path.endswith("/events"):
            answer = await browser.get(route.path.format(**{**ids, "venue": "x"}))
            # what this till's connector does not have, such as an import, is not there for an owner either
            assert answer.status_code in (200, 303, 404), (route.path, answer.status_code)
    for path in may:
        assert path in {route.path for route in ROUTES}, path


@pytest.mark.parametrize("role", ["counter", "manager"])
async def test_no_page_of_a_role_leads_where_it_may_not_go(
    installation: Installation, browsers: Browsers, role: str
) -> None:
    ids = await connect_with_history(installation)
    installation.cafe.sell(0)
    installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()
    browser = await joined(browsers, await browsers.new().sign_in(), "Olena", role)
    patterns = [(re.compile(re.sub(r"\\\{\w+\\\}", r"[^/]+", re.escape(route.path)) + "$"), route) for route in ROUTES]
    waiting, seen = (
        ["/", f"/till/{ids['connection']}", f"/connections/{ids['connection']}/receipts/{ids['receipt']}"],
        set(),
    )
    if role == "manager":
        waiting += [f"/connections/{ids['connection']}{path}" for path in ("", "/unread", "/vouchers")]
    while waiting:
        path = waiting.pop().partition("#")[0]
        if path in seen or len(seen) > 150:
            continue
        seen.add(path)
        answer = await browser.get(path, follow_redirects=True)
        assert answer.status_code == 200, (path, answer.status_code)
        text = answer.text.replace("&amp;", "&")
        waiting += re.findall(r'href="(/[^"]*)"', re.sub(r"<link[^>]*>", "", text))
        for action in re.findall(r'action="(/[^"?]*)', text):
            routes = [route for pattern, route in patterns if pattern.match(action) and route.method == "POST"]
            names = A_MANAGERS if role == "manager" else AT_THE_COUNTER
            assert not routes or any(route.path in names for route in routes), (path, action)
    assert len(seen) > (3 if role == "counter" else 10)


async def test_a_counter_gives_stamps_and_their_name_stands_beside_it(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    business_id = installation.connection.business_id
    await installation.host.services.cards.issue_card(business_id, phone=ANNA, email=None)
    receipt = installation.cafe.sell(0)
    await installation.sync()
    browser = await joined(browsers, await browsers.new().sign_in(), "Olena  B.", "counter")
    connection = installation.connection
    sale = (
        await installation.host.store.read(
            lambda tx: queries.receipts.search(tx, connection, [queries.receipts.SearchTerm(receipt=str(receipt))])
        )
    )[0]
    base = f"/connections/{connection.id}/receipts/{sale.id}"
    page = await browser.post(f"{base}/find-card", who=ANNA)
    claim = re.search(r'name="claim" value="([^"]+)"', page.text)
    assert claim, page.text
    assert (await browser.post(f"{base}/give", claim=claim[1])).status_code == 303
    lines = await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, connection.id))
    assert "Olena B." in [line.by for line in lines]
    assert "by a person signed in as Olena B." in (await browser.get(base)).text


async def test_whoever_may_not_is_told_whom_to_ask(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    browser = await joined(browsers, await browsers.new().sign_in(f"{KEY}--borys"), "Olena", "manager")
    answer = await browser.get(f"/connections/{installation.connection.id}/settings")
    assert answer.status_code == 403
    assert "Only an owner can do this" in answer.text
    assert "Ask borys, who invited you. You are signed in as Olena." in answer.text
    assert (await browser.get("/operator")).status_code == 404


async def test_an_invited_owner_may_all_and_a_link_of_theirs_ends_with_them(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in()
    invited = await joined(browsers, owner, "Olena", "owner")
    assert (await invited.get(f"/connections/{installation.connection.id}/settings")).status_code == 200
    # a device of the same person has the same name, and no rights of its own
    tablet = browsers.new()
    await tablet.post(await invited.make_link())
    assert await tablet.is_signed_in()
    link = await invited.make_link()
    await owner.post(f"/people/{await _id_of(installation, 'Olena')}/remove")
    for browser in (invited, tablet):
        assert (await browser.get("/")).headers["location"].startswith("/sign-in")
    late = browsers.new()
    assert (await late.post(link)).status_code == 410


# --- invitations ----------------------------------------------------------------------------------------------------


async def test_an_invitation_opens_one_browser_once_and_not_by_being_looked_at(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    path = await invite(await browsers.new().sign_in(), "Olena", "counter")
    first, second = browsers.new(), browsers.new()
    for _ in range(3):
        assert "invites you, Olena" in (await first.get(path)).text
    assert (await first.post(path)).status_code == 303
    assert (await second.post(path)).status_code == 410
    assert "used up" in (await second.get(path)).text
    assert (await second.get("/")).headers["location"].startswith("/sign-in")
    assert (await first.get("/", follow_redirects=True)).url.path == f"/till/{installation.connection.id}"


async def test_an_invitation_ends_after_three_days_and_with_its_key_and_with_everything(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rechecks, "ANSWER_LIFETIME", 0.0)
    await installation.connect()
    installation.host.store.clock = clock = MovableClock()
    owner = await browsers.new().sign_in(remember="1")

    async def opens(path: str) -> bool:
        browser = browsers.new()
        await browser.post(path)
        return (await browser.get("/till")).status_code == 303 and "sign-in" not in (await browser.get("/")).headers[
            "location"
        ]

    path = await invite(owner, "One", "counter")
    clock.ahead += 3 * DAY + MINUTE
    assert not await opens(path)
    # a second one takes the place of the first
    path = await invite(owner, "Two", "counter")
    again = await owner.post_and_follow(f"/people/{await _id_of(installation, 'Two')}/invite")
    assert not await opens(path)
    assert await opens(re.search(r"/join/[\w-]+", again)[0])  # type: ignore[index]
    path = await invite(owner, "Three", "counter")
    await owner.post("/devices/sign-out-everywhere")
    assert not await opens(path)
    # the key that it stands on is refused: before anything is shown, and whatever was open
    owner = await browsers.new().sign_in(f"{KEY}--borys", remember="1")
    olena = await joined(browsers, owner, "Olena", "counter")
    path = await invite(owner, "Four", "counter")
    installation.sevenstamp.revoked.add(f"{KEY}--borys")
    clock.ahead += 5 * MINUTE
    assert not await opens(path)
    assert (await olena.get("/till")).headers["location"].startswith("/sign-in")


async def test_another_role_counts_at_once_on_each_device(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in()
    olena = await joined(browsers, owner, "Olena", "counter")
    numbers = f"/connections/{installation.connection.id}/numbers"
    assert (await olena.get(numbers)).status_code == 403
    colleague = await _id_of(installation, "Olena")
    assert (await owner.post(f"/people/{colleague}/role", role="manager")).status_code == 303
    assert (await olena.get(numbers)).status_code == 200
    assert (await owner.post(f"/people/{colleague}/role", role="god")).status_code == 422
    await owner.post(f"/people/{colleague}/role", role="counter")
    assert (await olena.get(numbers)).status_code == 403
    # a colleague raises nobody, themself least of all
    assert (await olena.post(f"/people/{colleague}/role", role="owner")).status_code == 403


async def test_a_session_of_a_colleague_is_unknown_to_a_version_without_roles(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    olena = await joined(browsers, await browsers.new().sign_in(), "Olena", "counter")
    cookie = olena.client.cookies["console"]
    before = installation.host.store.vault.hash("console session", cookie)  # as versions up to 1.1 look one up
    stored = await installation.host.store.read(
        lambda tx: list(tx.run(sqlalchemy.text("SELECT id_hash FROM console_session")).scalars())
    )
    assert before not in stored
    assert len(stored) == 2


@pytest.mark.parametrize(
    ("name", "role", "said"),
    [
        ("", "counter", "Type a name."),
        (" \t ", "counter", "Type a name."),
        ("x" * 61, "counter", "A name has at most 60 characters."),
        ("Ole\u202ena", "counter", "A name has letters, digits and signs only."),
        ("Operator", "counter", "Somebody has this name already"),
        ("OLENA", "manager", "Somebody has this name already"),
        ("Dana", "god", "Choose what they may do."),
        ("Dana", "", "Choose what they may do."),
    ],
)
async def test_what_cannot_be_invited_is_said_at_its_field(
    installation: Installation, browsers: Browsers, name: str, role: str, said: str
) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in()
    await invite(owner, "Olena", "counter")
    answer = await owner.post("/people", name=name, role=role)
    assert answer.status_code == 422
    assert said in answer.text
    assert "/join/" not in answer.text
    assert (await owner.get("/people")).text.count("New invitation") == 1


async def test_an_invitation_is_shown_by_its_page_and_session_alone_whatever_is_opened_meanwhile(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in()
    assert (await owner.post("/people", name="Olena", role="counter")).status_code == 303
    for path in ("/", "/devices", "/nowhere", f"/connections/{installation.connection.id}/tokens"):
        assert "/join/" not in (await owner.get(path)).text
    notice = owner.client.cookies["notice"]
    other = await browsers.new().sign_in()
    other.client.cookies.set("notice", notice)
    assert "/join/" not in (await other.get("/people")).text
    assert "/join/" in (await owner.get("/people")).text
    assert "/join/" not in (await owner.get("/people")).text


async def test_a_business_has_fifty_colleagues_at_most(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    business_id = installation.connection.business_id

    def fill(tx: Any) -> None:
        for number in range(MOST):
            assert access.colleagues.add(tx, business_id, f"N{number}", StaffRole.counter, "till")

    await installation.host.store.write(fill)
    owner = await browsers.new().sign_in()
    answer = await owner.post("/people", name="One more", role="counter")
    assert "There are as many people as fit" in answer.text
    await owner.post(f"/people/{await _id_of(installation, 'N7')}/remove")
    await invite(owner, "One more", "counter")


async def test_only_a_key_of_the_business_lets_others_in(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    connection = installation.connection
    keyless = Principal(connection.business_id, "Cafe Lviv", "UTC", "operator")
    token = await installation.host.store.write(lambda tx: access.sessions.make_link(tx, keyless))
    browser = browsers.new()
    assert (await browser.post(f"/link/{token}")).status_code == 303
    answer = await browser.post("/people", name="Olena", role="owner")
    assert answer.status_code == 422
    assert "Sign in with a 7stamp key to invite somebody" in answer.text
    # the page itself takes a key, and then is the one that invites
    assert "Make an invitation" not in (await browser.get("/people")).text
    signed_in = await browser.post("/sign-in", key=KEY, next="/people")
    assert signed_in.headers["location"] == "/people"
    assert "Make an invitation" in (await browser.get("/people")).text
    assert (await (await browsers.new().as_operator()).get("/people")).status_code == 404


async def test_nobody_sees_or_changes_the_people_of_another_business(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    await invite(await browsers.new().sign_in(), "Olena", "counter")
    theirs = await browsers.new().sign_in(OTHER_BUSINESS_KEY)
    colleague = await _id_of(installation, "Olena")
    assert "Olena" not in (await theirs.get("/people")).text
    for act in ("invite", "role", "remove"):
        assert (await theirs.post(f"/people/{colleague}/{act}", role="owner")).status_code == 404
    assert await _id_of(installation, "Olena") == colleague


async def test_the_security_log_tells_who_was_invited_and_came_in(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in(f"{KEY}--borys")
    await joined(browsers, owner, "Olena", "counter")
    colleague = await _id_of(installation, "Olena")
    await owner.post(f"/people/{colleague}/role", role="manager")
    await owner.post(f"/people/{colleague}/remove")
    text = (await owner.get("/security")).text
    for said in (
        "borys invited Olena: at the counter.",
        "Olena came in by an invitation.",
        "borys gave Olena another role: manager.",
        "borys removed Olena.",
    ):
        assert said in text, said
    events = await installation.host.store.read(
        lambda tx: access.security_log.list_newest(tx, installation.connection.business_id, before=None, limit=20)
    )
    assert [event.kind for event in events].count(EventKind.people_changed) == 3


async def test_whoever_may_invite_no_more_comes_back_by_no_invitation(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in()
    olena = await joined(browsers, owner, "Olena", "owner")
    for end in ("remove", "role"):
        kept = await invite(olena, f"Zoe {end}", "owner")
        await owner.post(f"/people/{await _id_of(installation, 'Olena')}/{end}", role="counter")
        assert (await browsers.new().post(kept)).status_code == 410, end
        if end == "remove":
            olena = await joined(browsers, owner, "Olena", "owner")
    # a device that another signs out, as one does with a stolen one
    phone = await browsers.new().sign_in()
    kept = await invite(phone, "Zoe", "owner")
    sessions = await installation.host.store.read(
        lambda tx: access.sessions.devices(tx, installation.connection.business_id)
    )
    newest = max((one for one in sessions if one.principal.colleague_id is None), key=lambda one: one.made_at)
    assert (await owner.post(f"/devices/{newest.id_hash}/sign-out")).status_code == 303
    assert (await browsers.new().post(kept)).status_code == 410


async def test_a_session_that_began_while_its_colleague_was_removed_is_none(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    olena = await joined(browsers, await browsers.new().sign_in(), "Olena", "counter")
    # as if the removal's end of sessions had run just before this one was stored
    await installation.host.store.write(lambda tx: tx.run(sqlalchemy.text("DELETE FROM colleague")))
    assert (await olena.get("/till")).headers["location"].startswith("/sign-in")


@pytest.mark.parametrize("name", ["till", "TILL", "ｏperator", "API: Zapier", "borys", "Ｂorys"])
async def test_nobody_is_named_as_somebody_else_is_journalled(
    installation: Installation, browsers: Browsers, name: str
) -> None:
    await installation.connect()
    owner = await browsers.new().sign_in(f"{KEY}--borys")
    answer = await owner.post("/people", name=name, role="counter")
    assert answer.status_code == 422
    assert "Somebody has this name already" in answer.text
