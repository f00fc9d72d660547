"""What pages are made of: marks of tills, cards, lists of codes, questions, and what stands where there is nothing."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from connector_sdk.connector import ConnectorInfo
from connector_sdk.teaching import Leaf
from connectors.services import Refusal, SubscriptionRequest
from connectors.services.subscriptions import KNOWN_EVENTS, SubscriptionService
from connectors.store import access
from connectors.store.access.sessions import Principal
from connectors.web.console.code_lists import choices_of
from connectors.web.console.rendering import load_templates
from connectors.web.console.sample_view import shown_value
from connectors.web.console.settings_form import build_fields
from tests.browser.test_click_counts import REFUSED
from tests.installation import ANNA, Installation
from tests.web.browser import Browsers, open_browsers
from tests.web.test_voucher_at_a_till import words
from webhook_connector.connector import WebhookConnector


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


# --- marks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ['M0 0"/><script>', "M0 0<", "url(#a)", "M" + "1" * 1000])
def test_a_mark_is_a_paths_data_and_nothing_else(mark: str) -> None:
    with pytest.raises(ValueError, match="the data of an SVG path"):
        ConnectorInfo(name="kettle", title="Kettle", mark=mark)


def test_a_till_without_a_mark_shows_its_first_letter() -> None:
    drawn = load_templates().get_template("_parts.html").module.till_mark  # type: ignore[attr-defined]
    assert ">K</span>" in drawn(ConnectorInfo(name="kettle", title="Kettle"))
    assert '<path d="M1 1h2"/>' in drawn(ConnectorInfo(name="kettle", title="Kettle", mark="M1 1h2"))
    assert ">?</span>" in drawn(None)  # its connector is not installed any more


async def test_the_marks_of_our_tills_stand_on_their_tiles(installation: Installation, browsers: Browsers) -> None:
    page = await (await browsers.new().sign_in()).get("/")
    for connector_class in installation.host.services.offered_connectors():
        assert f'<path d="{connector_class.info.mark}"/>' in page.text


# --- cards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "goal", "filled", "places"), [(3, 8, 3, 8), (0, 8, 0, 8), (8, 8, 8, 8), (5, 40, 0, 0)]
)
def test_a_card_has_a_place_for_each_stamp_and_its_gift_last(stamps: int, goal: int, filled: int, places: int) -> None:
    module = load_templates().get_template("_stamps.html").module
    drawn = module.stamp_card("Cafe", "card ending 1234", stamps, goal, "so many stamps")  # type: ignore[attr-defined]
    dots = re.findall(r"<span( class=\"on\")?>(<svg)?", drawn.partition('class="dots')[2].partition("</p>")[0])
    assert (len([on for on, _ in dots if on]), len(dots)) == (filled, places)
    assert [bool(gift) for _, gift in dots] == [False] * (places - 1) + [True] * bool(places)
    assert "so many stamps" in drawn  # for a goal that cannot be drawn, and for whoever does not see it


# --- lists ----------------------------------------------------------------------------------------------------------


def test_codes_are_chosen_by_their_names_in_the_readers_language() -> None:
    assert dict(choices_of("currency", "en"))["MYR"] == "Malaysian Ringgit (MYR)"
    assert dict(choices_of("country", "uk"))["ES"] == "Іспанія"
    assert dict(choices_of("zone", "en"))["America/New_York"] == "America/New York"
    assert {"ZZ", "EU", "IC"}.isdisjoint(dict(choices_of("country", "en")))
    assert "UTC" in dict(choices_of("zone", "en"))
    assert "DEM" not in dict(choices_of("currency", "en"))  # no till is paid in it any more
    for kind in ("currency", "country"):
        names = [name.casefold() for _, name in choices_of(kind, "es")]
        assert names == sorted(names)


def test_a_code_that_no_list_has_stays_as_it_was_stored() -> None:
    stored = {"till_name": "Corner", "currency": "DEM", "zone": "Etc/GMT-3", "country": ""}
    fields = {field.name: field for field in build_fields(WebhookConnector, stored, "en")}
    assert fields["currency"].choices[0] == ("DEM", "DEM")
    assert fields["zone"].choices[0] == ("Etc/GMT-3", "Etc/GMT-3")
    assert fields["country"].choices[0] == ("", "–")  # optional: it can be left open again
    assert fields["currency"].kind == fields["zone"].kind == fields["country"].kind == "choice"


@pytest.mark.parametrize(
    ("place", "value", "shown"),
    [
        (("items", 0, "name"), "Flat white", True),
        (("order", "line_items", 1, "title"), "Flat white", True),
        (("customer", "items", 0, "name"), "Flat white", False),
        (("items", 0, "customer", "name"), "Anna Smith", False),
        (("items", 0, "waiter", "name"), "Anna Smith", False),
        (("items", 0, "recipient", "name"), "Anna Smith", False),
        (("items", "name"), "Anna Smith", False),
        (("name",), "Anna Smith", False),
        (("items", 0, "name"), "+380501112201", False),
    ],
)
def test_what_goods_are_called_is_shown_and_nobodys_name(place: tuple[str | int, ...], value: str, shown: bool) -> None:
    assert (shown_value(Leaf(place, "a.path", value)) == value) is shown


# --- questions and empty pages --------------------------------------------------------------------------------------


async def test_the_question_mark_leads_to_the_answers_of_each_page(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    browser, one = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    for path in ("/", "/people", one, f"{one}/receipts", f"{one}/customers", f"{one}/rule", f"{one}/numbers",
                 f"{one}/settings", f"{one}/unread",
                 f"{one}/history", f"{one}/vouchers", "/devices", f"/till/{installation.connection.id}"):  # fmt: skip
        page = (await browser.get(path)).text
        assert '<button class="ask" popovertarget="help">' in page, path
        assert len(re.findall(r'<aside popover class="help account" id="help".*?<details>', page, re.DOTALL)) == 1, path
    assert 'popovertarget="help"' not in (await browser.get("/my-till")).text  # where nobody asks, nothing is offered


async def test_empty_pages_show_what_they_will_look_like(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    browser, one = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    example = "So it looks once sales arrive:"
    assert example in (await browser.get(f"{one}/receipts")).text
    assert example not in (await browser.get(f"{one}/receipts?kind=refunded")).text
    installation.cafe.sell(installation.cafe.client(ANNA), paid=4500)
    await installation.sync()
    for path in ("", "/receipts"):
        assert example not in (await browser.get(one + path)).text


# --- the first page, and devices ------------------------------------------------------------------------------------


async def test_a_tile_says_why_its_till_needs_somebody(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    browser = await browsers.new().sign_in()
    assert "Working" in words(await browser.get("/"))
    installation.cafe.fail_next = [REFUSED]
    await installation.sync_quietly()
    said = words(await browser.get("/"))
    assert "Needs you" in said
    assert "refuses" in said.partition("Needs you")[2][:200]


async def test_a_device_is_called_as_its_owner_says(installation: Installation, browsers: Browsers) -> None:
    mine, other = await browsers.new().sign_in(), await browsers.new().sign_in()
    await mine.post("/devices/name", name="  The tablet\n\u202e at the  bar ")
    page = await other.get("/devices")
    assert "The tablet at the bar" in page.text
    await mine.post("/devices/name", name="x" * 500)
    assert "x" * 60 in (await other.get("/devices")).text
    assert "x" * 61 not in (await other.get("/devices")).text
    await mine.post("/devices/name", name=" ")
    assert "xxx" not in (await other.get("/devices")).text


async def test_any_till_begins_with_one_sale_and_asks_the_rest_after_it(
    installation: Installation, browsers: Browsers
) -> None:
    browser = await browsers.new().sign_in()
    first = (await browser.post("/connect/webhook")).headers["location"]
    folded = "Fill everything in without a sale"
    before = (await browser.get(first)).text
    assert before.index(folded) < before.index("How we know that it is your till")
    assert "<details open><summary>" + folded not in before
    # what is refused is not hidden
    refused = (await browser.post(first, **{"set.till_name": "Corner"})).text
    assert "<details open><summary>" + folded in refused
    # by a ready-made mapping, or once a sale was shown, there is nothing to fold away
    assert folded not in (await browser.get(f"{first}?ready=woocommerce")).text
    await browser.post(first.replace("/authorise", "/sample"), pasted='{"number": "A-1", "sum": 12.5}')
    assert folded not in (await browser.get(first)).text


async def test_every_page_opens_for_whoever_was_signed_in_by_a_link(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA), paid=4500)
    await installation.sync()
    # the operator's link brings no key
    keyless = Principal(installation.connection.business_id, "Cafe Lviv", "UTC", "operator")
    token = await installation.host.store.write(lambda tx: access.sessions.make_link(tx, keyless))
    browser = browsers.new()
    assert (await browser.post(f"/link/{token}")).status_code == 303
    waiting, seen = ["/"], set[str]()
    while waiting:
        path = waiting.pop().partition("#")[0].replace("&amp;", "&")
        if path in seen:
            continue
        seen.add(path)
        answer = await browser.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
        page = answer.text.partition("</head>")[2]
        waiting += re.findall(r'href="(/[^"]*)"', page) if len(seen) < 80 else []
    assert {"/people", "/devices", f"/connections/{installation.connection.id}/settings"} <= seen


async def test_every_event_can_be_chosen_once_under_what_it_is_about(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    page = await (await browsers.new().sign_in()).get(f"/connections/{installation.connection.id}/subscriptions")
    chosen = re.findall(r'name="event" value="([^"]+)"', page.text)
    assert sorted(chosen) == sorted(KNOWN_EVENTS)
    about = re.findall(r'<fieldset class="group"><legend>([^<]+)</legend>', page.text)
    assert about == ["Cards", "Stamps and rewards", "Vouchers", "Customers", "Receipts and tills"]


@pytest.mark.parametrize(
    ("url", "chosen", "shape"),
    [
        ("https://hooks.slack.com/services/T0/B0/x", "", "slack"),
        ("https://hooks.slack.com/services/T0/B0/x", "standard", "standard"),
        ("https://hooks.slack.com.example.com/x", "", "standard"),
        ("https://hooks.zapier.com/hooks/catch/1/x", "", "standard"),
        ("https://[not-an-address/", "", "standard"),
    ],
)
async def test_slack_gets_sentences_unless_somebody_says_otherwise(
    installation: Installation,
    browsers: Browsers,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    chosen: str,
    shape: str,
) -> None:
    await installation.connect()
    asked: list[SubscriptionRequest] = []

    # making one looks the address up in the world's names, which tests do without
    async def create(_self: SubscriptionService, _business: str, request: SubscriptionRequest) -> None:
        asked.append(request)
        raise Refusal("no", field="url")

    monkeypatch.setattr(SubscriptionService, "create", create)
    page = f"/connections/{installation.connection.id}/subscriptions"
    await (await browsers.new().sign_in()).post(page, url=url, event="card_issued", shape=chosen)
    assert [request.shape for request in asked] == [shape]
