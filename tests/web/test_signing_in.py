"""Signing in: nobody's tries shut somebody else out, a link says whom it lets in, and what was opened can be ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Response
from pydantic import SecretStr

from connectors.runtime.host import Host
from connectors.runtime.operator_password import ensure_operator_password
from connectors.store import access
from connectors.store.access.sessions import OPERATOR, Principal
from poster_connector.sandbox import Account
from tests.installation import KEY, Installation, build
from tests.served_installation import OTHER, PASSWORD
from tests.web.browser import Browser, Browsers, open_browsers

THEIRS = "7loc_sc_another_business_77aa"
WRONG = "7loc_sc_wrong_key"
PROXY = "10.1.2.3"


@pytest.fixture
async def proxied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch, trusted_proxies="10.0.0.0/8") as installation:
        yield installation


@pytest.fixture
async def browsers(proxied: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(proxied) as browsers:
        yield browsers


def at(browsers: Browsers, address: str) -> Browser:
    """A browser at an address, behind the proxy."""
    browser = browsers.new(address=PROXY)
    browser.client.headers["x-forwarded-for"] = address
    return browser


def link_in(text: str) -> str:
    match = re.search(r'(/link/[\w-]+)" readonly', text)
    assert match
    return match[1]


async def open_link(browser: Browser, path: str) -> Browser:
    assert (await browser.post(path)).status_code == 303
    assert await browser.is_signed_in()
    return browser


# --- what was opened ends -------------------------------------------------------------------------------------------


async def opened_by_the_operator(installation: Installation, browsers: Browsers) -> tuple[list[Browser], list[str]]:
    """Sessions and unused links that the operator opened, each in another way."""
    await installation.connect()
    operator = await browsers.new().as_operator()
    page = f"/operator/link/{installation.connection.id}"
    guest = await open_link(browsers.new(), link_in(await operator.post_and_follow(page)))
    guests_guest = await open_link(browsers.new(), await guest.make_link())
    business = Principal(installation.connection.business_id, "Cafe Lviv", "Europe/Kyiv", OPERATOR)
    command = await installation.host.store.write(lambda tx: access.sessions.make_link(tx, business))
    by_command = await open_link(browsers.new(), f"/link/{command}")
    unused = [
        link_in(await operator.post_and_follow(page)),
        await operator.make_link(),
        await guest.make_link(),
        f"/link/{await installation.host.store.write(lambda tx: access.sessions.make_link(tx, business))}",
    ]
    return [operator, guest, guests_guest, by_command], unused


async def assert_all_ended(browsers: Browsers, signed_in_browsers: list[Browser], links: list[str]) -> None:
    assert [await browser.is_signed_in() for browser in signed_in_browsers] == [False] * len(signed_in_browsers)
    for link in links:
        assert (await browsers.new().post(link)).status_code == 410


async def test_whatever_the_operator_opened_ends_when_the_password_changes(
    proxied: Installation, browsers: Browsers
) -> None:
    signed_in_browsers, links = await opened_by_the_operator(proxied, browsers)
    cafe = await browsers.new().sign_in()
    changed = proxied.settings.model_copy(update={"operator_password": SecretStr("quite another password")})
    async with Host(changed) as next_start:
        assert await ensure_operator_password(next_start.store, next_start.settings.operator_password) is None
    await assert_all_ended(browsers, signed_in_browsers, links)
    assert await cafe.is_signed_in()


async def test_the_operator_signs_out_everywhere(proxied: Installation, browsers: Browsers) -> None:
    signed_in_browsers, links = await opened_by_the_operator(proxied, browsers)
    cafe, second = await browsers.new().sign_in(), await browsers.new().as_operator()
    assert (await second.post("/devices/sign-out-everywhere")).headers["location"] == "/sign-in"
    await assert_all_ended(browsers, [*signed_in_browsers, second], links)
    assert await cafe.is_signed_in()


async def test_a_cafe_signs_out_everywhere_and_no_other_cafe_with_it(proxied: Installation, browsers: Browsers) -> None:
    signed_in_browsers, links = await opened_by_the_operator(proxied, browsers)
    cafe, phone, other = (
        await browsers.new().sign_in(),
        await browsers.new().sign_in(),
        await browsers.new().sign_in(THEIRS),
    )
    links.append(await phone.make_link())
    operator, operators_link = signed_in_browsers.pop(0), links.pop(1)
    await cafe.post("/devices/sign-out-everywhere")
    await assert_all_ended(browsers, [*signed_in_browsers, cafe, phone], links)
    assert await operator.is_signed_in()
    assert await other.is_signed_in()
    await open_link(browsers.new(), operators_link)


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_strangers_do_not_shut_out_a_cafe_that_signs_in(proxied: Installation, browsers: Browsers) -> None:
    proxied.sevenstamp.key = KEY
    strangers = [at(browsers, f"203.{n // 250}.{n % 250}.9") for n in range(120)]
    refused = [await stranger.post("/sign-in", key=WRONG, next="/") for stranger in strangers]
    assert {answer.status_code for answer in refused} == {422}
    honest = at(browsers, "198.51.100.7")
    assert (await honest.post("/sign-in", key=f"{WRONG}_mistyped", next="/")).status_code == 422
    assert (await honest.post("/sign-in", key=KEY, next="/")).status_code == 303


async def test_strangers_do_not_shut_out_the_operator(proxied: Installation, browsers: Browsers) -> None:
    for number in range(60):
        await at(browsers, f"203.0.{number}.9").post("/sign-in/operator", password="guessed", next="/")
    honest = at(browsers, "198.51.100.7")
    assert (await honest.post("/sign-in/operator", password="mistyped", next="/")).status_code == 422
    assert (await honest.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 303


async def test_a_network_of_strangers_is_bounded_however_many_addresses_it_has(
    proxied: Installation, browsers: Browsers
) -> None:
    proxied.sevenstamp.key = KEY
    for network in ("203.0.113.{}", "2001:db8:{:x}::9"):
        answers = [
            (await at(browsers, network.format(number)).post("/sign-in", key=WRONG, next="/")).status_code
            for number in range(60)
        ]
        assert answers[0] == 422
        assert 429 in answers


async def test_a_key_that_is_known_here_signs_in_whatever_its_address_has_done(
    proxied: Installation, browsers: Browsers
) -> None:
    await proxied.connect()
    proxied.sevenstamp.key = KEY
    answers = [(await at(browsers, "203.0.113.9").post("/sign-in", key=WRONG, next="/")).status_code for _ in range(6)]
    assert answers[-1] == 429
    assert (await at(browsers, "203.0.113.9").post("/sign-in", key=KEY, next="/")).status_code == 303


async def test_a_browser_that_was_the_operators_is_not_held_up_by_its_address(
    proxied: Installation, browsers: Browsers
) -> None:
    mine = await at(browsers, "203.0.113.9").as_operator()
    await mine.post("/sign-out")
    stranger = at(browsers, "203.0.113.9")
    answers = [(await stranger.post("/sign-in/operator", password="guessed", next="/")).status_code for _ in range(6)]
    assert answers[-1] == 429
    assert (await mine.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 303


async def test_a_browser_signed_in_as_a_cafe_is_a_stranger_to_the_operators_password(
    proxied: Installation, browsers: Browsers
) -> None:
    cafe = await at(browsers, "203.0.113.9").sign_in()
    await cafe.post("/sign-out")
    answers = [(await cafe.post("/sign-in/operator", password="guessed", next="/")).status_code for _ in range(6)]
    assert answers == [422] * 4 + [429] * 2
    other = at(browsers, "203.0.113.9")
    assert (await other.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 429


async def test_a_cafes_mark_of_a_known_browser_is_not_taken_for_the_operators(
    proxied: Installation, browsers: Browsers
) -> None:
    cafe = await at(browsers, "203.0.113.9").sign_in()
    await cafe.post("/sign-out")
    cafe.client.cookies.set("operator-was-here", cafe.client.cookies["business-was-here"])
    answers = [(await cafe.post("/sign-in/operator", password="guessed", next="/")).status_code for _ in range(6)]
    assert answers[-1] == 429
    other = at(browsers, "203.0.113.9")  # it was a stranger's address that tried, and that has to wait
    assert (await other.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 429


async def test_few_attempts_of_strangers_are_checked_at_once_and_whoever_is_known_does_not_wait_for_them(
    proxied: Installation, browsers: Browsers
) -> None:
    cafe = await at(browsers, "198.51.100.7").sign_in()
    await cafe.post("/sign-out")
    await proxied.connect()
    assert proxied.host.sevenstamp is not None
    proxied.sevenstamp.key = KEY
    original, release, asked = proxied.host.services.checks.check_key, asyncio.Event(), list[str]()

    async def slow(key: str) -> Any:
        asked.append(key)
        if key == WRONG:
            await release.wait()
        return await original(key)

    proxied.host.services.checks.check_key = slow  # type: ignore[method-assign]
    strangers = [at(browsers, f"203.0.{number}.9") for number in range(30)]
    attempts = [asyncio.create_task(stranger.post("/sign-in", key=WRONG, next="/")) for stranger in strangers]
    async with asyncio.timeout(20):
        while len(asked) < 4:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)
        assert (
            await at(browsers, "198.51.100.8").post("/sign-in", key=KEY, next="/")
        ).status_code == 303  # a known key
        renewed = await cafe.post("/sign-in", key="7loc_sc_a_key_renewed_wrongly", next="/")  # a known browser
        assert renewed.status_code == 422
    assert asked.count(WRONG) == 4
    release.set()
    assert {answer.status_code for answer in await asyncio.gather(*attempts)} == {422}
    assert asked.count(WRONG) == 30


async def test_a_cafe_that_floods_confirmations_does_not_stop_another_cafes(
    proxied: Installation, browsers: Browsers
) -> None:
    await proxied.connect()
    other = Account(token=OTHER, name="other")
    proxied.till.accounts[other.token] = other
    thief, honest = await browsers.new(address=PROXY).sign_in(THEIRS), await browsers.new(address=PROXY).sign_in()
    draft = (await thief.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await thief.post(f"{draft}/authorise", **{"set.access_token": other.token})
    proxied.sevenstamp.key = KEY
    token, path = await thief.csrf_token(), f"/connections/{proxied.connection.id}/diagnostics"
    honest_token = await honest.csrf_token()

    async def confirm(browser: Browser, path: str, network: int, **form: str) -> Response:
        return await browser.client.post(path, data=form, headers={"x-forwarded-for": f"203.0.{network}.9"})

    flood = [confirm(thief, f"{draft}/key", n, proof=token, key=f"{WRONG}{n}") for n in range(150)]
    assert {answer.status_code for answer in await asyncio.gather(*flood)} == {422}
    assert (await confirm(honest, path, 200, proof=honest_token, secret=f"{WRONG}_mistyped")).status_code == 422
    right = [confirm(honest, path, n, proof=honest_token, secret=KEY) for n in range(200, 208)]
    files = await asyncio.gather(*right)
    assert {file.headers["content-type"] for file in files} == {"application/zip"}
    anew = at(browsers, "198.51.100.7")
    assert (await anew.post("/sign-in", key=KEY, next="/")).status_code == 303


# --- links ----------------------------------------------------------------------------------------------------------


async def test_a_link_names_whom_it_lets_in_and_looking_at_it_changes_nothing(
    proxied: Installation, browsers: Browsers
) -> None:
    cafe = await browsers.new().sign_in()
    link = await cafe.make_link()
    business = re.search(r'class="plain">(Cafe \w+)</a>', (await cafe.get("/devices")).text)
    assert business
    phone = browsers.new()
    for _ in range(3):
        page = await phone.get(link)
        assert page.status_code == 200
        assert f"Sign this device in to {business[1]}?" in page.text
        assert not await phone.is_signed_in()
    await open_link(phone, link)
    assert "This link is used up" in (await browsers.new().get(link)).text
    operator = await browsers.new().as_operator()
    assert "as the operator" in (await phone.get(await operator.make_link())).text


async def test_a_link_asks_before_it_ends_the_session_of_whoever_opens_it(
    proxied: Installation, browsers: Browsers
) -> None:
    await proxied.connect()
    thief, cafe = await browsers.new().as_operator(), await browsers.new().sign_in()
    link = await thief.make_link()
    before = cafe.client.cookies["console"]
    asked = await cafe.post(link, remember="1")  # a form that did not name the session it ends
    assert asked.status_code == 409
    assert "Signing in here ends that" in asked.text
    assert "Signing in here ends that" in (await cafe.get(link)).text
    assert cafe.client.cookies["console"] == before
    assert proxied.connection.title in (await cafe.get("/")).text
    replaces = re.search(r'name="replaces" value="(\w+)"', asked.text)
    assert replaces
    assert (await cafe.post(link, replaces=replaces[1])).headers["location"] == "/operator"
    assert (await cafe.get("/operator")).status_code == 200
    thief.client.cookies.set("console", before)
    assert not await thief.is_signed_in()
