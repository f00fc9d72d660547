"""What pages do with bad input, and what they cost: at most five statements, whatever there is."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest
from pydantic import Field, SecretStr
from sqlalchemy import event

from connector_sdk.authorisation import Grant
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Mode, StampRule
from connectors.domain.clock import MINUTE, SteadyClock, micros, moment
from connectors.runtime.host import Host
from connectors.store import access, connections, ledger, queries
from connectors.sync import lifecycle
from poster_connector.connector import PosterConnector
from poster_connector.sandbox import Account
from poster_connector.settings import PosterSettings
from tests.installation import ANNA, KEY, Installation
from tests.served_installation import keep_passkey
from tests.web.browser import Browser, Browsers, open_browsers

OTHER_TOKEN = "861053:5a9e1570ff9af128e93c5a771055bb21"


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


# --- statements -----------------------------------------------------------------------------------------------------


@contextmanager
def statements(host: Host) -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            asked.append(statement)

    for engine in (host.store._engine, host.store._read_engine):
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        for engine in (host.store._engine, host.store._read_engine):
            event.remove(engine, "before_cursor_execute", note)


async def test_what_happens_while_a_page_is_put_together_is_news_to_it(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.connect()
    connection_id, store = installation.connection.id, installation.host.store
    read, overview, seen = store.read, queries.overviews.overview, []

    async def and_something_happens(work: Any) -> Any:
        result = await read(work)
        await store.write(lambda tx: ledger.journal.write(tx, connection_id, Message("connection.email")))
        return result

    def noted(tx: Any, connection_id: str) -> Any:
        seen.append(ledger.journal.newest_seq(tx, connection_id))
        return overview(tx, connection_id)

    mine = await browsers.new().sign_in()
    monkeypatch.setattr(store, "read", and_something_happens)
    monkeypatch.setattr(queries.overviews, "overview", noted)
    page = await mine.get(f"/connections/{connection_id}")
    after = re.search(r"/events\?after=([0-9]+)", page.text)
    assert after is not None
    assert 0 < int(after[1]) <= seen[0]


async def test_no_page_makes_more_than_five_queries(installation: Installation, browsers: Browsers) -> None:
    await installation.connect(StampRule(mode=Mode.both))
    for number in range(6):
        installation.cafe.sell(installation.cafe.client(ANNA) if number % 2 else 0, comment="FREECOFFEE9")
    await installation.sync()
    mine, operator = await browsers.new().sign_in(), await browsers.new().as_operator()
    draft = (await mine.post("/connect/poster")).headers["location"]
    base = f"/connections/{installation.connection.id}"
    receipts = await installation.host.store.read(
        lambda tx: queries.receipts.search(tx, installation.connection, [queries.receipts.SearchTerm(receipt="330661")])
    )
    somebody = access.sessions.Principal(installation.connection.business_id, "Cafe Lviv", "UTC", "till", KEY)
    passkey = await keep_passkey(installation.host, somebody, "Phone")
    await installation.host.services.cards.issue_card(installation.connection.business_id, phone=ANNA, email=None)
    card = (await mine.post(f"/till/{installation.connection.id}/find", who=ANNA)).headers["location"]
    pages = {
        mine: [
            "/",
            "/devices",
            "/people",
            "/messages",
            "/security",
            "/passkeys/add",
            f"/passkeys/{passkey}/remove",
            "/my-till",
            draft,
            base,
            f"{base}?part=now",
            f"{base}/receipts?q=330661",
            f"{base}/receipts?q=+380501112201 27.50",
        ]
        + [
            f"{base}/{part}"
            for part in (
                "rule",
                "settings",
                "welcome",
                "welcome?part=now",
                "disconnect",
                "diagnostics",
                "resume",
                "forget",
                "subscriptions",
                "tokens",
                "vouchers",
                "table-card",
                "numbers?period=month",
                "numbers.csv",
                "receipts",
                "receipts?kind=refunded&day=2026-01-15",
                "receipts?kind=waiting",
                "history",
                "customers",
            )
        ]
        + ["/till", f"/till/{installation.connection.id}", card]
        + [f"{base}/receipts/{receipts[0].id}"],
        operator: [
            "/operator",
            "/operator?q=cafe",
            "/devices",
            base,
            "/security",
            "/security?before=3",
            "/operator/quotas",
            "/operator/design",
        ],
    }
    for browser, paths in pages.items():
        for path in paths:
            with statements(installation.host) as asked:
                answer = await browser.get(path)
            assert answer.status_code in (200, 303), path
            assert len(asked) <= 5, (path, asked)


# --- OAuth ----------------------------------------------------------------------------------------------------------


async def _to_the_till(browser: Browser) -> tuple[str, str]:
    """Begin, and go to the till's consent page: the draft's address and the way back."""
    draft = (await browser.post("/connect/poster")).headers["location"].rpartition("/")[0]
    away = (await browser.post(f"{draft}/consent")).headers["location"]
    back = parse_qs(urlsplit(away).query)["redirect_uri"][0]
    return draft, back


async def _allow(back: str, installation: Installation) -> str:
    """Press Allow at the till: where it sends the browser."""
    origin = installation.environment["POSTER_API_URL"]
    async with httpx.AsyncClient(trust_env=False) as client:
        query = {"redirect_uri": back, "application_id": "76", "allow": "1"}
        return (await client.get(f"{origin}/auth/answer", params=query)).headers["location"]


def _path(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.path}?{parts.query}"


async def test_the_way_back_from_the_till_works_once_and_for_this_browser_only(
    installation: Installation, browsers: Browsers
) -> None:
    mine, other = await browsers.new().sign_in(), await browsers.new().sign_in(f"{KEY}--anna")
    draft, back = await _to_the_till(mine)
    good = _path(await _allow(back, installation))
    stolen = await other.get(good)
    assert (stolen.status_code, "We did not ask for this" in stolen.text) == (400, True)
    assert (await mine.get(good)).headers["location"] == f"{draft}/key"
    second = await mine.get(good)
    assert (second.status_code, "This has been done already" in second.text) == (400, True)
    assert draft in second.text
    assert await installation.host.services.connections.list_all() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"state": "forged"}, "We did not ask for this"),
        ({"state": ""}, "We did not ask for this"),
        ({"code": "wrong"}, "No matching code found"),
        ({"code": ""}, "did not say yes"),
        ({"account": "evil.example/"}, "the account that Poster named is none"),
        ({"account": ""}, "the account that Poster named is none"),
        ({"error": "access_denied"}, "did not say yes"),
    ],
)
async def test_a_bad_way_back_says_what_happened_and_stores_nothing(
    installation: Installation, browsers: Browsers, change: dict[str, str], text: str
) -> None:
    mine = await browsers.new().sign_in()
    draft, back = await _to_the_till(mine)
    parts = urlsplit(await _allow(back, installation))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | change
    answer = await mine.get("/connect/return", params={name: value for name, value in query.items() if value})
    assert answer.status_code == 400
    assert text in answer.text
    assert "Continue" in answer.text
    assert (await mine.get(draft)).headers["location"] == f"{draft}/authorise"
    assert await installation.host.services.connections.list_all() == []


class Later:
    ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


async def test_a_way_back_that_took_too_long_is_closed(installation: Installation, browsers: Browsers) -> None:
    installation.host.store.clock = Later()
    mine = await browsers.new().sign_in()
    _, back = await _to_the_till(mine)
    good = _path(await _allow(back, installation))
    installation.host.store.clock.ahead = 11 * MINUTE
    assert "That took too long" in (await mine.get(good)).text


async def test_a_second_question_mark_in_the_way_back_is_understood(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, back = await _to_the_till(mine)
    good = _path(await _allow(back, installation)).replace("&code", "?code")
    assert (await mine.get(good)).headers["location"] == f"{draft}/key"


async def test_authorising_again_with_another_account_is_refused_and_both_are_named(
    installation: Installation, browsers: Browsers
) -> None:
    other = Account(token=OTHER_TOKEN, name="other")
    await installation.connect()
    installation.till.accounts[other.token] = other
    installation.till.account = other
    mine = await browsers.new().sign_in()
    away = (await mine.post(f"/connections/{installation.connection.id}/consent")).headers["location"]
    answer = await mine.get(_path(await _allow(parse_qs(urlsplit(away).query)["redirect_uri"][0], installation)))
    assert answer.status_code == 400
    assert "861053" in answer.text
    assert "861052" in answer.text
    assert (
        await installation.host.services.connections.get(installation.connection.id)
    ).generation == installation.connection.generation


# --- forms ----------------------------------------------------------------------------------------------------------


async def test_a_token_that_lacks_a_right_and_one_that_is_none_are_told_beside_the_field(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft = (await mine.post("/connect/poster")).headers["location"]
    for token, fails, text in (
        ("nonsense", [], "A token is the account number"),
        ("", [], "This is needed."),
        (installation.cafe.token, [54], "it lacks a right"),
        ("861052:00000000000000000000000000000000", [], "Poster refuses the token."),
        (installation.cafe.token, ["500"] * 3, "cannot be reached right now"),
    ):
        installation.cafe.fail_next[:] = fails
        answer = await mine.post(
            draft, **{"set.access_token": token, "has.card_numbers": "1", "set.card_numbers": "true"}
        )
        assert answer.status_code == 422
        assert text in answer.text, (token, text)
        assert re.search(r'name="set.card_numbers" value="true" checked', answer.text)  # what was chosen is kept
    installation.cafe.fail_next.clear()


async def test_tills_that_were_tried_come_first_and_the_one_for_any_till_last(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    page = (await (await browsers.new().sign_in()).get("/")).text
    places = [page.index(f'action="/connect/{name}"') for name in ("poster", "square", "webhook")]
    assert places == sorted(places)


async def test_a_place_of_another_business_is_refused_without_saying_whose(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect(locations=["Terrace"])
    other = await browsers.new().sign_in("7loc_sc_another_business_77aa")
    draft = (await other.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await other.post(f"{draft}/authorise", **{"set.access_token": installation.cafe.token})
    await other.post(f"{draft}/key", use="own")
    page = (await other.get(f"{draft}/where")).text
    assert "Connected already" in page
    assert installation.connection.id not in page
    refused = await other.post(f"{draft}/where", location="2")
    assert refused.status_code == 422
    assert installation.connection.id not in refused.text
    assert (await other.post(f"{draft}/where", location="1")).status_code == 303


async def test_a_rule_that_is_none_is_told_beside_the_field_and_kept(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect(StampRule(kind="by_amount", amount=Money(1500, "UAH")))
    mine = await browsers.new().sign_in()
    path = f"/connections/{installation.connection.id}/rule"
    for values, text in (
        ({"kind": "by_amount", "amount": "lots"}, "This is no amount"),
        ({"kind": "by_amount", "amount": ""}, "Write how much makes one stamp"),
        ({"kind": "by_amount", "amount": "-5"}, "This must be more than nothing"),
        ({"kind": "by_amount", "amount": "0"}, "This must be more than nothing"),
        ({"kind": "by_amount", "amount": "10.005"}, "This is no amount"),
        ({"kind": "per_item"}, "Choose at least one drink"),
        ({"kind": "per_order", "minimum": "x"}, "This is no amount"),
        ({"kind": "per_order", "hold_days": "0"}, "Write a number of days"),
        ({"windows": "1", "days_0": "1", "locations_0": "elsewhere"}, "Choose a location that the till has"),
        ({"windows": "1", "days_0": "1", "start_0": "14:00 or so"}, "Write a time as 14:00"),
        ({"windows": "1", "days_0": "1", "times_0": "11"}, "Choose how many times as many"),
        ({"windows": "1", "times_0": "3"}, "Choose days of the week, all seven for every day, or a last day"),
        ({"windows": "1", "first_day_0": "2026-12-01"}, "Choose days of the week, all seven for every day"),
        ({"max_per_sale": "1001"}, "Write a number of stamps from 1 to 1000"),
    ):
        answer = await mine.post(path, **values)
        assert (answer.status_code, text in answer.text) == (422, True), values
        kept = [value for name, value in values.items() if value and name != "times_0"]
        assert all(f'value="{value}"' in answer.text for value in kept)
    assert (await mine.post(path, kind="by_amount", amount="12,50")).status_code == 303
    rule = await installation.host.services.connections.current_rule(installation.connection)
    assert rule.amount == Money(1250, "UAH")
    # a limit that a command set is no mistake of whoever changes something else
    await installation.host.services.connections.edit(
        installation.connection.id, {}, rule=lambda _account, rule: rule.model_copy(update={"max_per_sale": 5000})
    )
    assert (await mine.post(path, kind="per_order", max_per_sale="5000")).status_code == 303


async def test_a_setting_that_a_newer_connector_needs_is_shown_as_missing(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Newer(PosterSettings):
        region: Annotated[str, Field(title="Region")]

    await installation.connect()
    monkeypatch.setattr(PosterConnector, "settings_model", Newer)
    mine = await browsers.new().sign_in()
    assert "needs more settings than before" in (await mine.get(f"/connections/{installation.connection.id}")).text
    settings = (await mine.get(f"/connections/{installation.connection.id}/settings")).text
    assert "Region" in settings
    assert "This is needed." in settings


@pytest.mark.parametrize("days", [4, 40, 400])
async def test_a_consent_that_ends_is_announced_in_the_last_quarter_of_its_own_lifetime(
    installation: Installation, browsers: Browsers, days: int
) -> None:
    clock = installation.host.store.clock = Later()
    await installation.connect()
    connection_id = installation.connection.id
    now = moment(clock.now())
    grant = Grant({"access_token": SecretStr(installation.cafe.token)}, now + timedelta(days=days), now)
    await installation.host.store.write(lambda tx: lifecycle.authorise(tx, connection_id, grant, None))
    announced = []
    for quarters in (2.9, 3.1):
        clock.ahead = int(quarters * days / 4 * 24 * 60 * MINUTE)
        page = await (await browsers.new().sign_in()).get(f"/connections/{connection_id}")
        announced.append("The till lets us in until" in page.text)
    assert announced == [False, True]


async def test_a_new_consent_replaces_the_end_of_the_one_before(installation: Installation) -> None:
    await installation.connect()
    for seconds in (1_234, 999_999):
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
        grant = Grant({"access_token": SecretStr(installation.cafe.token)}, until)
        await installation.host.services.connections.edit(installation.connection.id, {}, grant=grant)
        connection = await installation.host.services.connections.get(installation.connection.id)
        assert connection.expires_at == micros(until)
    # what was pasted before is not kept beside a consent, and a paste ends the consent
    assert "access_token" not in installation.host.services.connections.settings_of(connection)
    token = installation.cafe.token
    await installation.host.services.connections.edit(connection.id, {"access_token": token})
    connection = await installation.host.services.connections.get(connection.id)
    assert (connection.grant, connection.expires_at) == (None, None)


async def test_what_a_form_may_hold_is_bounded(installation: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    assert (await mine.post("/sign-in", key="x" * 300_000)).status_code == 413
    answer = await mine.client.post("/sign-in", content="a=1&" * 10_000)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "query",
    [
        "%",
        "_",
        "\x00",
        "'",
        "😀",
        "+",
        "1e400",
        "9" * 400,
        "-5",
        "2026-02-31",
        "99:99",
        "١٢٣",
        "a b c d e f g",
    ],
)
async def test_whatever_is_searched_for_finds_or_does_not(
    installation: Installation, browsers: Browsers, query: str
) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    mine = await browsers.new().sign_in()
    answer = await mine.get(f"/connections/{installation.connection.id}/receipts", params={"q": query})
    assert answer.status_code == (404 if query == "\x00" else 200)
    assert "/receipts/" not in answer.text or not query.strip("%_ \x00")


async def test_a_receipt_is_found_by_what_stands_on_it(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA), paid=12750)
    installation.cafe.sell(0, paid=500)
    await installation.sync()
    card = next(iter(installation.sevenstamp.state.cards.values()))
    mine = await browsers.new().sign_in()
    connection = await installation.host.store.read(lambda tx: connections.registry.get(tx, installation.connection.id))
    receipt_found = (
        await installation.host.store.read(
            lambda tx: queries.receipts.search(tx, connection, [queries.receipts.SearchTerm(receipt=str(receipt))])
        )
    )[0]
    closed = moment(receipt_found.closed_at or 0).astimezone(ZoneInfo("Europe/Kyiv"))
    for query in (
        *(str(receipt), ANNA, ANNA.removeprefix("+"), "+380 50 111 2201", card.number, card.number[-4:]),
        *("UAH 127.50", f"#{receipt}", f"Receipt {receipt}", f"{str(receipt)[:3]} {str(receipt)[3:]}", "today 127.50"),
        *(f"{closed:%-d %b} {receipt}", f"{closed:%b %-d, %Y, %-I:%M %p} 127.50", f"{closed:%H:%M:%S} 127.50"),
        *(
            "127",
            f"…{card.number[-4:]}",
            "127.50",
            "127,50",
            f"{closed:%H:%M} 127.50",
            f"{closed:%Y-%m-%d} {receipt}",
            f"{card.number} 127.50",
        ),
    ):
        text = (await mine.get(f"/connections/{connection.id}/receipts", params={"q": query})).text
        assert re.findall(r"/receipts/(\w+)", text) == [receipt_found.id], query
    for query in (f"{receipt} 5.00", "127.00", "12", "+380509999999", f"{(closed.hour + 2) % 24:02d}:00 127.50"):
        assert (
            "/receipts/" not in (await mine.get(f"/connections/{connection.id}/receipts", params={"q": query})).text
        ), query


async def test_another_account_in_the_same_draft_is_asked_for_its_own_places(
    installation: Installation, browsers: Browsers
) -> None:
    other = Account(token=OTHER_TOKEN, name="other")
    installation.till.accounts[other.token] = other
    mine = await browsers.new().sign_in()
    draft = (await mine.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await mine.post(f"{draft}/authorise", **{"set.access_token": installation.cafe.token})
    await mine.post(f"{draft}/key", use="own")
    assert (await mine.post(f"{draft}/where", location="1")).headers["location"].endswith("/rule")
    rejoined = await mine.post(f"{draft}/authorise", **{"set.access_token": other.token})
    assert rejoined.headers["location"] == draft
    assert (await mine.get(draft)).headers["location"] == f"{draft}/where"


async def test_a_wrong_other_key_leaves_the_good_one_to_choose(installation: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    draft = (await mine.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await mine.post(f"{draft}/authorise", **{"set.access_token": installation.cafe.token})
    answer = await mine.post(f"{draft}/key", use="other", key="7loc_typo")
    assert answer.status_code == 422
    assert "This is no 7stamp key" in answer.text
    assert "With the key you signed in with" in answer.text


async def test_a_rule_that_was_being_chosen_is_there_when_one_comes_back(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft = (await mine.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await mine.post(f"{draft}/authorise", **{"set.access_token": installation.cafe.token})
    await mine.post(f"{draft}/key", use="own")
    await mine.post(f"{draft}/where", location="1")
    back = await mine.post(f"{draft}/back", kind="by_amount", amount="17.50", hold_days="30")
    assert back.headers["location"] == f"{draft}/where"
    page = (await (await browsers.new().sign_in(f"{KEY}--anna")).get(f"{draft}/rule")).text
    assert 'value="17.50"' in page


async def test_after_signing_in_again_one_is_back_at_the_form(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    base = f"/connections/{installation.connection.id}"
    mine = await browsers.new().sign_in()
    proof = await mine.csrf_token()
    for path, page, values in (
        (f"{base}/settings/title", f"{base}/settings", {"title": "Our corner"}),
        (f"{base}/rule", f"{base}/rule", {"kind": "by_amount", "amount": "17.50", "hold_days": "30"}),
        (f"{base}/pause", base, {}),
    ):
        mine.client.cookies.delete("console")
        away = await mine.post(path, csrf_token=proof, **values)
        assert away.status_code == 401
        fields = dict(re.findall(r'name="(next|kept)" value="([^"]*)"', away.text))
        assert fields["next"] == page
        back = await mine.post("/sign-in", key=KEY, **fields)
        shown = await mine.get(back.headers["location"])
        assert shown.status_code == 200
        assert all(f'value="{value}"' in shown.text for value in values.values())


async def test_a_page_says_only_what_is_known(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    mine = await browsers.new().sign_in()
    base = f"/connections/{installation.connection.id}"
    assert "The till is being read" in (await mine.get(base)).text
    await installation.sync()
    page = (await mine.get(base)).text
    assert "Every sale has arrived" in page
    assert "Last look:" in page
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.hook(installation.cafe.hook(receipt, "closed"))
    assert "The till is being read" in (await mine.get(base)).text
    installation.cafe.fail_next[:] = ["500"] * 6  # a poll and a look-back, three tries each; the receipt itself is read
    await installation.sync()
    assert "The till did not answer just now" in (await mine.get(base)).text


async def test_a_receipt_left_out_is_not_called_stamped(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    await installation.sync()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await installation.host.services.connections.pause(installation.connection.id)
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.host.services.connections.resume(installation.connection.id, leave_out=True)
    await installation.sync()
    mine = await browsers.new().sign_in()
    for number, heading in (("330660", "1 stamp on the card ending"), ("330661", "no stamps")):
        results = (await mine.get(f"/connections/{installation.connection.id}/receipts?q={number}")).text
        page = (await mine.get(re.findall(r'href="(/connections/[\w-]+/receipts/\w+)"', results)[0])).text
        assert heading in re.findall(r"<h1>(.*?)</h1>", page, re.S)[0]


async def test_a_till_without_our_application_asks_for_what_it_then_takes(
    installation: Installation, browsers: Browsers
) -> None:
    # these tests' operator has no application at Square: nobody is sent to sign in there
    page = html.unescape((await (await browsers.new().sign_in()).get("/")).text)
    assert "An access token of an application of your own, from Square's Developer Console." in page
    assert "Your Square sign-in" not in page
