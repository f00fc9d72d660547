"""No order of steps, no setting and no search makes the console stumble: each is walked, whatever it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from urllib.parse import urlencode

import httpx
import pytest

from connectors.store import connections
from connectors.store.connections.drafts import Draft, DraftContent
from connectors.web.console.routers import ROUTERS
from tests.installation import ANNA, KEY, Installation
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.test_teaching_pages import FORM, SALE
from webhook_connector.settings import WebhookSettings

AS_FORM = {"content-type": "application/x-www-form-urlencoded"}
STEPS = [route for router in ROUTERS for route in router.routes if route.path.startswith("/connect/{draft}")]
PATTERNS = [
    "", "%", "%%", "%d %d", "%Y %Y", "%Q", "%999999999d", "%-d", "%s", "%c %d", "%G", "%d\x00", "\x00", "%\u0660d",
    "d" * 5000, "%z %z", "%j %j", "%d.%m.%Y %H:%M", " ", "(", "[", "\ud800",
]  # fmt: skip
NASTY = [
    "\x00", "\x1b[2J", "\u202e", "'", "%", "{", "\\", "0", "-1", "9" * 5000, "a" * 5000, "../../etc", "/", "Europe",
    "\ud800", "\U0001f600", "[]", "a.b[", "@", "[?a=='b']", "null",
]  # fmt: skip
DAYS = [
    "9999-12-31", "0001-01-01", "0000-00-00", "10000-01-01", "9999-12-30", "0001-01-02", "31.12.9999", "1.1.0001",
    "1/1/9999", "31 December 9999", "December 31, 9999", "1 January 0", "29.02", "29.02.2026", "31.11", "0.0", "99.99",
    "2026-11-25T00:00+14:00", "2026-11-25+99:99", "24:00", "23:59:60", "0:00 am", "99:59 pm", "9999-12-31 23:59",
    "today yesterday", "hari ini", "9" * 120, "1e400", "-0", "0" * 100, "+" + "9" * 24, "1 250 000 000 000 000 000 000",
    "\u0661\u0662", "\x00", "%", "_", "'", "\\", "\u202e", "NaN", "Infinity", "@", "#", "receipt", "\U0001f600", " ",
]  # fmt: skip


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def draft_of(installation: Installation, address: str) -> Draft:
    draft_id, owner = address.split("/")[2], await owner_of(installation)
    draft = await installation.host.store.read(lambda tx: connections.drafts.get(tx, draft_id, owner))
    assert draft is not None
    return draft


async def owner_of(installation: Installation) -> str:
    assert installation.host.sevenstamp is not None
    return (await installation.host.sevenstamp.with_key(KEY).me()).business.id


async def stations(
    installation: Installation, mine: Browser, connector: str, first: dict[str, str]
) -> dict[str, DraftContent]:
    """What a draft holds before the first step and after each."""
    address = (await mine.post(f"/connect/{connector}")).headers["location"].removesuffix("/authorise")
    station = {"begun": (await draft_of(installation, address)).content}
    if connector == "webhook":
        await mine.post(f"{address}/sample", pasted=json.dumps(SALE))
        station["taught"] = (await draft_of(installation, address)).content
    assert (await mine.post(f"{address}/authorise", **first)).headers["location"].endswith("/key")
    station["joined"] = (await draft_of(installation, address)).content
    await mine.post(f"{address}/key", use="own")
    station["keyed"] = (await draft_of(installation, address)).content
    await mine.get(f"{address}/where")
    await mine.post(f"{address}/where", location="1")
    station["placed"] = (await draft_of(installation, address)).content
    assert station["placed"].scope is not None
    # a step may be gone to with what later ones need, and without what earlier ones gave
    whole = station["placed"]
    station["key alone"] = DraftContent(me=whole.me, key=whole.key)
    station["places forgotten"] = whole.model_copy(update={"scope": None})
    station["places without a till"] = whole.model_copy(update={"account": None, "values": {}})
    return station


@pytest.mark.parametrize(("connector", "first"), [("poster", {}), ("webhook", FORM)])
async def test_every_step_of_connecting_can_be_asked_for_before_and_after_every_other(
    installation: Installation, browsers: Browsers, connector: str, first: dict[str, str]
) -> None:
    mine = await browsers.new().sign_in()
    fields = first or {"set.access_token": installation.cafe.token}
    stumbled = []
    owner, proof = await owner_of(installation), await mine.csrf_token()
    forms: list[dict[str, str]] = [{}, {"key": "nonsense", "use": "own", "location": "1", "field": "map_paid"}]
    wrong_key = {"key": "?"}  # of one step only
    for station, content in (await stations(installation, mine, connector, fields)).items():
        for route in STEPS:
            typed = [*forms, wrong_key] if route.path.endswith("/key") else forms
            for form in typed if route.method == "POST" else [{}]:
                draft = await installation.host.store.write(lambda tx: connections.drafts.create(tx, owner, connector))
                made = await installation.host.store.read(
                    lambda tx, draft=draft: connections.drafts.get(tx, draft, owner)
                )  # type: ignore[misc]
                assert made is not None
                await installation.host.services.drafts.save(made, content)
                path = route.path.format(draft=draft)
                answer = await (mine.post(path, proof, **form) if route.method == "POST" else mine.get(path))
                if answer.status_code >= 500:
                    stumbled.append((station, route.method, route.path, form))
                if (await mine.get(f"/connect/{draft}", follow_redirects=True)).status_code >= 500:
                    stumbled.append((station, route.method, route.path, "cannot be opened any more"))
    assert stumbled == []


async def test_no_setting_of_any_till_keeps_its_draft_from_being_opened_again(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    proof = await mine.csrf_token()
    address = (await mine.post("/connect/webhook")).headers["location"].removesuffix("/authorise")
    await mine.post(f"{address}/sample", proof, pasted=json.dumps(SALE))
    draft = await draft_of(installation, address)
    stumbled = []

    async def saved(**values: str) -> httpx.Response:
        body = urlencode({"proof": proof, **values}, errors="surrogatepass")
        return await mine.client.post(f"{address}/authorise", content=body, headers=AS_FORM)

    async def walked(name: str, values: dict[str, str]) -> None:
        """Keep settings as they are and open the draft's pages again."""
        await installation.host.store.write(lambda tx: connections.drafts.save(tx, draft, draft.content))
        answers = [await saved(then="teach", **values)]
        answers += [await mine.get(f"{address}/{page}") for page in ("authorise", "teach?all=1")]
        answers.append(await saved(**values))
        if any(answer.status_code >= 500 for answer in answers):
            stumbled.append((name, values, [answer.status_code for answer in answers]))

    for pattern in PATTERNS:
        await walked("date_pattern", {**FORM, "set.dates": "pattern", "set.date_pattern": pattern})
    names = [f"set.{name}" for name in WebhookSettings.model_fields]
    for number, value in enumerate(NASTY):
        await walked("all", dict.fromkeys(names, value))
        # each by itself, so that what is wrong with one hides nothing of another: every third at a time, so that each
        # setting meets a third of the values, and each value a third of the settings
        for name in names[number % 3 :: 3]:
            if (await saved(**{**FORM, name: value})).status_code >= 500:
                stumbled.append((name, value, "saved"))
    assert stumbled == []


async def test_a_search_for_any_day_or_sign_is_answered(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    mine, operator = await browsers.new().sign_in(), await browsers.new().as_operator()
    stumbled = []
    for browser, path in ((mine, f"/connections/{installation.connection.id}/receipts"), (operator, "/operator")):
        for words in DAYS:
            if (await browser.get(path, params={"q": words})).status_code not in (200, 404):
                stumbled.append((path, words))
    assert stumbled == []
