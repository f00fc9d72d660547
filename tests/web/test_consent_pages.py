"""Consent at the till, page by page: what it gave stays while the form asks for the rest, and goes into no form."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import Field

from connector_sdk.messages import Message
from connectors.domain.connection import Health
from connectors.store import connections
from connectors.sync import health
from square_connector import SquareConnector
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_records import Place
from square_connector.settings import SquareSettings
from tests.installation import Installation, build
from tests.web.browser import Browser, Browsers, open_browsers


class WithRegion(SquareSettings):
    """Square's settings with one more that a cafe must fill in."""

    region: Annotated[str, Field(title="Region of the till")]


@pytest.fixture
async def square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    sandbox = SquareSandbox(redirect_uri="http://host/connect/return")
    async with build(tmp_path, monkeypatch, square=sandbox) as installation:
        yield installation


@pytest.fixture
async def browsers(square: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(square) as browsers:
        yield browsers


async def _begin(browser: Browser) -> tuple[str, str]:
    """Begin to connect Square and go to its consent page: the draft's address, and the page's."""
    draft = (await browser.post("/connect/square")).headers["location"].rpartition("/")[0]
    return draft, (await browser.post(f"{draft}/consent")).headers["location"]


def _allow(square: Installation, page: str) -> str:
    """Press Allow: the path to which the browser comes back."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
    application = square.till.square_application
    code = application.allow(application.read_consent(query), square.cafe.merchant_id)
    return f"/connect/return?response_type=code&code={code}&state={query['state']}"


async def test_the_redirect_address_is_the_same_for_everybody_and_every_time(
    square: Installation, browsers: Browsers
) -> None:
    mine, other = await browsers.new().sign_in(), await browsers.new().sign_in()
    pages = [(await _begin(browser))[1] for browser in (mine, mine, other)]
    queries = [parse_qs(urlsplit(page).query) for page in pages]
    assert {query["redirect_uri"][0] for query in queries} == {"http://host/connect/return"}
    assert len({query["state"][0] for query in queries}) == 3


async def test_what_was_granted_stays_in_the_draft_while_the_form_asks_for_the_rest(
    square: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SquareConnector, "settings_model", WithRegion)
    mine = await browsers.new().sign_in()
    draft, page = await _begin(mine)
    back = await mine.get(_allow(square, page))
    assert (back.status_code, back.headers["location"]) == (303, f"{draft}/authorise")
    form = html.unescape((await mine.get(f"{draft}/authorise")).text)
    assert "Square lets us in." in form
    assert "Region of the till" in form
    assert "set.access_token" not in form
    # nothing typed, and then what was asked for: the till is not asked for a consent again
    assert "This is needed." in (await mine.post(f"{draft}/authorise")).text
    done = await mine.post(f"{draft}/authorise", **{"set.region": "EU"})
    assert done.headers["location"] == f"{draft}/key"
    await mine.post(f"{draft}/key", use="own")
    await mine.post(f"{draft}/where", location=list(square.cafe.locations))
    made = await mine.post(f"{draft}/rule", kind="per_order", hold_days="30")
    assert made.headers["location"].endswith("/welcome")
    (connection,) = await square.host.services.connections.list_all()
    settings = square.host.services.connections.settings_of(connection)
    assert settings["region"] == "EU"
    assert "access_token" not in settings
    assert connection.grant is not None
    # the settings page offers the consent, and no field for a token
    page_ = html.unescape((await mine.get(f"/connections/{connection.id}/settings")).text)
    assert "Allow access at Square again" in page_
    assert "set.access_token" not in page_


async def test_a_token_that_is_pasted_after_a_consent_counts_instead(square: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    draft, page = await _begin(mine)
    await mine.get(_allow(square, page))
    token = square.till.settings()["access_token"]
    await mine.post(f"{draft}/authorise", **{"set.access_token": token})
    stored = await square.host.services.drafts.find("operator", draft.rpartition("/")[2])
    assert stored is None or stored.content.grant is None


async def test_consenting_again_is_two_clicks_and_a_line_that_names_no_settings(
    square: Installation, browsers: Browsers
) -> None:
    await square.connect(grant=await square.consent())
    connection = await square.host.services.connections.get(square.connection.id)
    await square.host.store.write(
        lambda tx: health.report_unwell(tx, connection, Health.needs_authorisation, Message("why.till_refuses"))
    )
    mine = await browsers.new().sign_in()
    assert "Allow access at Square again" in html.unescape((await mine.get(f"/connections/{connection.id}")).text)
    page = (await mine.post(f"/connections/{connection.id}/consent")).headers["location"]
    back = await mine.get(_allow(square, page))
    assert back.headers["location"].startswith(f"/connections/{connection.id}")
    assert (await square.host.services.connections.get(connection.id)).health is Health.active
    lines = await square.journal()
    assert any("asked for access anew" in line for line in lines)
    assert not any("settings were changed" in line for line in lines)


async def test_consent_for_another_account_is_refused_and_the_connection_stays_as_it_is(
    square: Installation, browsers: Browsers
) -> None:
    await square.connect(grant=await square.consent())
    before = await square.host.services.connections.get(square.connection.id)
    mine = await browsers.new().sign_in()
    page = (await mine.post(f"/connections/{before.id}/consent")).headers["location"]
    merchant, square.cafe.merchant_id = square.cafe.merchant_id, "MLSOMEBODY"
    square.till.square_application.sellers["MLSOMEBODY"] = square.cafe
    refused = await mine.get(_allow(square, page))
    square.cafe.merchant_id = merchant
    assert refused.status_code == 400
    after = await square.host.services.connections.get(square.connection.id)
    assert (after.grant, after.account.id) == (before.grant, before.account.id)


async def test_a_till_of_another_business_leaves_the_ways_to_another_till(
    square: Installation, browsers: Browsers
) -> None:
    await square.connect(grant=await square.consent())
    other = await browsers.new().sign_in("7loc_sc_another_business_77aa")
    draft, page = await _begin(other)
    back = await other.get(_allow(square, page))
    shown = html.unescape(back.text)
    assert "This till is connected for another business already." in shown
    assert "Go to Square" in shown
    assert "Square lets us in." not in shown
    again = html.unescape((await other.get(f"{draft}/authorise")).text)
    assert "Go to Square" in again
    assert (await other.post(f"{draft}/consent")).headers["location"].startswith("http")


# --- a venue that opens -----------------------------------------------------------------------------------------------


async def test_a_new_venue_is_asked_about_and_only_its_own_business_may_answer(
    square: Installation, browsers: Browsers
) -> None:
    first = next(iter(square.cafe.locations))
    await square.connect(grant=await square.consent(), locations=[first])
    harbour = square.cafe.open_location(Place("Harbour", "Europe/Dublin", "EUR", "IE"))
    id_ = square.connection.id
    await square.host.store.write(lambda tx: connections.schedule.check_account_soon(tx, id_))
    await square.sync()
    mine, other = await browsers.new().sign_in(), await browsers.new().sign_in("7loc_sc_another_business_77aa")
    assert "New place: Harbour. Whose stamps?" in html.unescape((await mine.get(f"/connections/{id_}")).text)
    assert (await other.post(f"/connections/{id_}/venues/{harbour}/take")).status_code == 404
    assert (await mine.post(f"/connections/{id_}/venues/nowhere/take")).status_code == 303
    assert (await square.host.services.connections.get(id_)).scope == (first,)
    await mine.post(f"/connections/{id_}/venues/{harbour}/take")
    assert (await square.host.services.connections.get(id_)).scope == (first, harbour)
    assert "Whose stamps?" not in html.unescape((await mine.get(f"/connections/{id_}")).text)


# --- the operator -----------------------------------------------------------------------------------------------------


async def test_the_operator_sees_that_hooks_are_refused_and_the_likely_reason(
    square: Installation, browsers: Browsers
) -> None:
    await square.connect(grant=await square.consent())
    hook = square.till.hook(square.cafe.sell(), "another key")
    await square.hook(hook.body, path="/hooks/tills/square", headers=dict(hook.headers))
    page = html.unescape((await (await browsers.new().as_operator()).get("/operator")).text)
    assert "Hooks came here and were refused" in page
    assert "the address entered at Square is not, to the letter, the one above" in page
