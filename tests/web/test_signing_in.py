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
from connectors.store import access
from connectors.store.access.sessions import OPERATOR
from connectors.store.access.sessions import Visitor as Whose
from poster_connector.sandbox import Account
from tests.stage import OTHER, PASSWORD
from tests.town import KEY, Town, build
from tests.web.visitor import Browsers, Visitor, browsers

THEIRS = "7loc_sc_another_business_77aa"
WRONG = "7loc_sc_wrong_key"
PROXY = "10.1.2.3"


@pytest.fixture
async def proxied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Town]:
    async with build(tmp_path, monkeypatch, trusted_proxies="10.0.0.0/8") as town:
        yield town


@pytest.fixture
async def doors(proxied: Town) -> AsyncIterator[Browsers]:
    async with browsers(proxied) as made:
        yield made


def at(doors: Browsers, address: str) -> Visitor:
    """A browser at an address, behind the proxy."""
    visitor = doors.new(address=PROXY)
    visitor.client.headers["x-forwarded-for"] = address
    return visitor


async def signed_in(visitor: Visitor) -> bool:
    return (await visitor.get("/devices")).status_code == 200


def link_in(text: str) -> str:
    found = re.search(r"/link/[\w-]+", text)
    assert found
    return found[0]


async def open_link(visitor: Visitor, path: str) -> Visitor:
    assert (await visitor.post(path)).status_code == 303
    assert await signed_in(visitor)
    return visitor


# --- what was opened ends -------------------------------------------------------------------------------------------


async def opened_by_the_operator(town: Town, doors: Browsers) -> tuple[list[Visitor], list[str]]:
    """Sessions and unused links that the operator opened, each in another way."""
    await town.connect()
    operator = await doors.new().as_operator()
    page = f"/operator/link/{town.connection.id}"
    guest = await open_link(doors.new(), link_in((await operator.post(page)).text))
    guests_guest = await open_link(doors.new(), link_in((await guest.post("/devices/link")).text))
    business = Whose(town.connection.business_id, "Cafe Lviv", "Europe/Kyiv", OPERATOR)
    command = await town.host.store.write(lambda tx: access.sessions.make_link(tx, business))
    by_command = await open_link(doors.new(), f"/link/{command}")
    unused = [
        link_in((await operator.post(page)).text),
        link_in((await operator.post("/devices/link")).text),
        link_in((await guest.post("/devices/link")).text),
        f"/link/{await town.host.store.write(lambda tx: access.sessions.make_link(tx, business))}",
    ]
    return [operator, guest, guests_guest, by_command], unused


async def assert_all_ended(doors: Browsers, visitors: list[Visitor], links: list[str]) -> None:
    assert [await signed_in(visitor) for visitor in visitors] == [False] * len(visitors)
    for link in links:
        assert (await doors.new().post(link)).status_code == 410


async def test_whatever_the_operator_opened_ends_when_the_password_changes(proxied: Town, doors: Browsers) -> None:
    visitors, links = await opened_by_the_operator(proxied, doors)
    cafe = await doors.new().sign_in()
    changed = proxied.settings.model_copy(update={"operator_password": SecretStr("quite another password")})
    async with Host(changed) as next_start:
        assert await next_start.operator_password() is None
    await assert_all_ended(doors, visitors, links)
    assert await signed_in(cafe)


async def test_the_operator_signs_out_everywhere(proxied: Town, doors: Browsers) -> None:
    visitors, links = await opened_by_the_operator(proxied, doors)
    cafe, second = await doors.new().sign_in(), await doors.new().as_operator()
    assert (await second.post("/devices/sign-out-everywhere")).headers["location"] == "/sign-in"
    await assert_all_ended(doors, [*visitors, second], links)
    assert await signed_in(cafe)


async def test_a_cafe_signs_out_everywhere_and_no_other_cafe_with_it(proxied: Town, doors: Browsers) -> None:
    visitors, links = await opened_by_the_operator(proxied, doors)
    cafe, phone, other = await doors.new().sign_in(), await doors.new().sign_in(), await doors.new().sign_in(THEIRS)
    links.append(link_in((await phone.post("/devices/link")).text))
    operator, operators_link = visitors.pop(0), links.pop(1)
    await cafe.post("/devices/sign-out-everywhere")
    await assert_all_ended(doors, [*visitors, cafe, phone], links)
    assert await signed_in(operator)
    assert await signed_in(other)
    await open_link(doors.new(), operators_link)


# --- bounds ---------------------------------------------------------------------------------------------------------


async def test_strangers_do_not_shut_out_a_cafe_that_signs_in(proxied: Town, doors: Browsers) -> None:
    proxied.sevenstamp.key = KEY
    strangers = [at(doors, f"203.{n // 250}.{n % 250}.9") for n in range(120)]
    refused = [await stranger.post("/sign-in", key=WRONG, next="/") for stranger in strangers]
    assert {answer.status_code for answer in refused} == {422}
    honest = at(doors, "198.51.100.7")
    assert (await honest.post("/sign-in", key=f"{WRONG}_mistyped", next="/")).status_code == 422
    assert (await honest.post("/sign-in", key=KEY, next="/")).status_code == 303


async def test_strangers_do_not_shut_out_the_operator(proxied: Town, doors: Browsers) -> None:
    for number in range(60):
        await at(doors, f"203.0.{number}.9").post("/sign-in/operator", password="guessed", next="/")
    honest = at(doors, "198.51.100.7")
    assert (await honest.post("/sign-in/operator", password="mistyped", next="/")).status_code == 422
    assert (await honest.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 303


async def test_a_network_of_strangers_is_bounded_however_many_addresses_it_has(proxied: Town, doors: Browsers) -> None:
    proxied.sevenstamp.key = KEY
    for network in ("203.0.113.{}", "2001:db8:{:x}::9"):
        answers = [
            (await at(doors, network.format(number)).post("/sign-in", key=WRONG, next="/")).status_code
            for number in range(60)
        ]
        assert answers[0] == 422
        assert 429 in answers


async def test_a_key_that_is_known_here_signs_in_whatever_its_address_has_done(proxied: Town, doors: Browsers) -> None:
    await proxied.connect()
    proxied.sevenstamp.key = KEY
    answers = [(await at(doors, "203.0.113.9").post("/sign-in", key=WRONG, next="/")).status_code for _ in range(6)]
    assert answers[-1] == 429
    assert (await at(doors, "203.0.113.9").post("/sign-in", key=KEY, next="/")).status_code == 303


async def test_a_browser_that_was_the_operators_is_not_held_up_by_its_address(proxied: Town, doors: Browsers) -> None:
    mine = await at(doors, "203.0.113.9").as_operator()
    await mine.post("/sign-out")
    stranger = at(doors, "203.0.113.9")
    answers = [(await stranger.post("/sign-in/operator", password="guessed", next="/")).status_code for _ in range(6)]
    assert answers[-1] == 429
    assert (await mine.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 303


async def test_a_browser_signed_in_as_a_cafe_is_a_stranger_to_the_operators_password(
    proxied: Town, doors: Browsers
) -> None:
    cafe = await at(doors, "203.0.113.9").sign_in()
    await cafe.post("/sign-out")
    answers = [(await cafe.post("/sign-in/operator", password="guessed", next="/")).status_code for _ in range(6)]
    assert answers == [422] * 4 + [429] * 2
    other = at(doors, "203.0.113.9")
    assert (await other.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 429


async def test_a_cafes_sign_of_having_been_here_is_not_taken_for_the_operators(proxied: Town, doors: Browsers) -> None:
    cafe = await at(doors, "203.0.113.9").sign_in()
    await cafe.post("/sign-out")
    cafe.client.cookies.set("operator-was-here", cafe.client.cookies["business-was-here"])
    answers = [(await cafe.post("/sign-in/operator", password="guessed", next="/")).status_code for _ in range(6)]
    assert answers[-1] == 429
    other = at(doors, "203.0.113.9")  # it was a stranger's address that tried, and that has to wait
    assert (await other.post("/sign-in/operator", password=PASSWORD, next="/")).status_code == 429


async def test_few_tries_of_strangers_are_checked_at_once_and_whoever_is_known_does_not_wait_for_them(
    proxied: Town, doors: Browsers
) -> None:
    cafe = await at(doors, "198.51.100.7").sign_in()
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
    strangers = [at(doors, f"203.0.{number}.9") for number in range(30)]
    tries = [asyncio.create_task(stranger.post("/sign-in", key=WRONG, next="/")) for stranger in strangers]
    async with asyncio.timeout(20):
        while len(asked) < 4:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)
        assert (await at(doors, "198.51.100.8").post("/sign-in", key=KEY, next="/")).status_code == 303  # a known key
        renewed = await cafe.post("/sign-in", key="7loc_sc_a_key_renewed_wrongly", next="/")  # a known browser
        assert renewed.status_code == 422
    assert asked.count(WRONG) == 4
    release.set()
    assert {answer.status_code for answer in await asyncio.gather(*tries)} == {422}
    assert asked.count(WRONG) == 30


async def test_a_cafe_that_floods_confirmations_does_not_stop_another_cafes(proxied: Town, doors: Browsers) -> None:
    await proxied.connect()
    other = Account(token=OTHER, name="other")
    proxied.till.accounts[other.token] = other
    thief, honest = await doors.new(address=PROXY).sign_in(THEIRS), await doors.new(address=PROXY).sign_in()
    draft = (await thief.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await thief.post(f"{draft}/authorise", **{"set.access_token": other.token})
    proxied.sevenstamp.key = KEY
    proof, path = await thief.proof(), f"/connections/{proxied.connection.id}/diagnostics"
    honest_proof = await honest.proof()

    async def confirm(visitor: Visitor, where: str, network: int, **form: str) -> Response:
        return await visitor.client.post(where, data=form, headers={"x-forwarded-for": f"203.0.{network}.9"})

    flood = [confirm(thief, f"{draft}/key", n, proof=proof, key=f"{WRONG}{n}") for n in range(150)]
    assert {answer.status_code for answer in await asyncio.gather(*flood)} == {422}
    assert (await confirm(honest, path, 200, proof=honest_proof, secret=f"{WRONG}_mistyped")).status_code == 422
    right = [confirm(honest, path, n, proof=honest_proof, secret=KEY) for n in range(200, 208)]
    files = await asyncio.gather(*right)
    assert {file.headers["content-type"] for file in files} == {"application/zip"}
    anew = at(doors, "198.51.100.7")
    assert (await anew.post("/sign-in", key=KEY, next="/")).status_code == 303


# --- links ----------------------------------------------------------------------------------------------------------


async def test_a_link_names_whom_it_lets_in_and_looking_at_it_changes_nothing(proxied: Town, doors: Browsers) -> None:
    cafe = await doors.new().sign_in()
    link = link_in((await cafe.post("/devices/link")).text)
    business = re.search(r'class="plain">(Cafe \w+)</a>', (await cafe.get("/devices")).text)
    assert business
    phone = doors.new()
    for _ in range(3):
        page = await phone.get(link)
        assert page.status_code == 200
        assert f"Sign this device in to {business[1]}?" in page.text
        assert not await signed_in(phone)
    await open_link(phone, link)
    assert "This link is used up" in (await doors.new().get(link)).text
    operator = await doors.new().as_operator()
    assert "as the operator" in (await phone.get(link_in((await operator.post("/devices/link")).text))).text


async def test_a_link_asks_before_it_ends_the_session_of_whoever_opens_it(proxied: Town, doors: Browsers) -> None:
    await proxied.connect()
    thief, cafe = await doors.new().as_operator(), await doors.new().sign_in()
    link = link_in((await thief.post("/devices/link")).text)
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
    assert not await signed_in(thief)
