"""The page of settings: a line for each part with what it is now, and the part that needs somebody is open."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from connector_sdk.messages import Message
from connector_sdk.rule import Mode, StampRule
from connectors.domain.connection import Health
from connectors.store import connections
from connectors.store.engine import Transaction
from tests.installation import Installation
from tests.web.browser import Browsers, open_browsers


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


def parts(page: str) -> dict[str, bool]:
    """The page's parts in their order, and whether each is open."""
    found = re.findall(r'<details class="part"( open)?><summary>.*?</summary><div id="([\w-]+)">', page)
    return {name: bool(is_open) for is_open, name in found}


async def test_each_part_is_a_line_that_says_what_it_is_now(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    mine = await browsers.new().sign_in()
    address = f"/connections/{installation.connection.id}"
    page = (await mine.get(f"{address}/settings")).text
    assert parts(page) == dict.fromkeys(("name", "till", "key", "places", "claims", "email-card"), False)
    await mine.post(f"{address}/email", email="owner@cafe.example")
    lines = re.findall(
        r'<h2>(.*?)</h2><small class="quiet">(.*?)</small>', (await mine.get(f"{address}/settings")).text
    )
    said = dict(lines)
    assert said["Name"] == installation.connection.title
    assert said["Poster"] == "Cafe Lviv · 861052"
    assert said["7stamp key"].endswith("ending in 9f81.")
    assert said["Places"] == "Main hall, Terrace"
    assert said["Stamps with the receipt"] == "Switched off"
    assert said["Email"] == "owner@cafe.example"


@pytest.mark.parametrize(
    ("part", "path", "typed"),
    [
        ("name", "settings/title", {"title": " "}),
        ("key", "settings/key", {"key": "nonsense"}),
        ("places", "settings/places", {}),
        ("claims", "settings/claims", {"consent": "x" * 2000}),
        ("email-card", "email", {"email": "nobody"}),
        ("till", "settings/till", {"set.access_token": "nonsense"}),
    ],
)
async def test_what_was_refused_is_open_and_nothing_else(
    installation: Installation, browsers: Browsers, part: str, path: str, typed: dict[str, str]
) -> None:
    await installation.connect(StampRule(mode=Mode.both))
    mine = await browsers.new().sign_in()
    answer = await mine.post(f"/connections/{installation.connection.id}/{path}", **typed)
    assert answer.status_code == 422, answer.text
    assert [name for name, is_open in parts(answer.text).items() if is_open] == [part]
    assert 'aria-invalid="true"' in answer.text or 'role="alert"' in answer.text


async def test_where_the_till_lets_us_in_no_more_its_part_is_open(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    address = f"/connections/{installation.connection.id}/settings"
    installation.cafe.token, kept = "another", installation.cafe.token
    await installation.sync()
    mine = await browsers.new().sign_in()
    page = (await mine.get(address)).text
    assert [name for name, is_open in parts(page).items() if is_open] == ["till"]
    assert kept not in page


async def test_where_7stamp_refuses_the_key_its_part_is_open(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    mine = await browsers.new().sign_in()

    def refused(tx: Transaction) -> None:
        reason = Message("why.key_refused")
        connections.registry.set_health(tx, installation.connection.id, Health.needs_authorisation, reason)

    await installation.host.store.write(refused)
    page = (await mine.get(f"/connections/{installation.connection.id}/settings")).text
    assert [name for name, is_open in parts(page).items() if is_open] == ["key"]
