"""A draft's address only collects: bounded, hidden, without any effect; and what was never tried is not saved."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest

from connectors.domain.clock import DAY, SteadyClock
from connectors.store import connections, inbox
from tests.installation import Installation, build
from tests.web.browser import Browser, Browsers, open_browsers

SALE = {"id": "7", "sum": "12.50", "at": "2026-11-20T08:15:30Z", "who": {"phone": "+34600111222", "name": "Anna Smith"}}
FORM = {
    "set.till_name": "Bar", "set.currency": "EUR", "set.zone": "Europe/Madrid", "set.proof": "address",
    "set.map_receipt_id": "id", "set.map_paid": "sum", "set.map_closed_at": "at", "set.map_phone": "who.phone",
}  # fmt: skip


class Later:
    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def begun(browser: Browser) -> tuple[str, str]:
    """A draft's address in the console, and the one that its till is given."""
    draft = (await browser.post("/connect/webhook")).headers["location"].removesuffix("/authorise")
    page = (await browser.get(f"{draft}/authorise")).text
    match = re.search(r'id="address" value="http://host(/hooks/tills/webhook/[^"]+)"', page)
    assert match is not None
    return draft, match[1]


async def captured_requests(installation: Installation, draft: str) -> list[inbox.captured.CapturedRequest]:
    owner = f"{inbox.captured.OF_DRAFT}{draft.rsplit('/', 1)[1]}"
    return await installation.host.store.read(lambda tx: inbox.captured.of_owner(tx, owner))


async def test_only_the_first_and_the_newest_ten_requests_are_kept_and_nothing_comes_of_them(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, address = await begun(mine)
    for number in range(23):
        assert (
            await installation.hook(json.dumps({**SALE, "id": str(number)}).encode(), path=address)
        ).status_code == 200
    ids = [json.loads(request.body)["id"] for request in await captured_requests(installation, draft)]
    assert ids == [str(number) for number in (*range(22, 12, -1), *range(9, -1, -1))]
    assert installation.applied() == []
    assert await installation.host.services.connections.list_all() == []


async def test_what_only_asks_whether_somebody_is_there_is_answered_and_not_kept(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, address = await begun(mine)
    for method in ("GET", "HEAD"):
        assert (await mine.client.request(method, address)).status_code == 200
    assert (await installation.hook(b" ", path=address)).status_code == 200
    assert (await installation.hook(b"x" * (256 * 1024 + 1), path=address)).status_code == 413
    assert await captured_requests(installation, draft) == []
    for nobody in (f"{address}x", address.replace("webhook", "poster"), address.replace("webhook", "serve")):
        assert (await installation.hook(b"{}", path=nobody)).status_code == 404


async def test_large_requests_are_kept_as_far_as_they_fit(installation: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    draft, address = await begun(mine)
    for _ in range(12):
        await installation.hook(json.dumps({**SALE, "note": "x" * 250_000}).encode(), path=address)
    assert sum(len(request.body) for request in await captured_requests(installation, draft)) <= 2 * 1024 * 1024


@pytest.mark.embedded
async def test_people_and_secrets_are_hidden_on_the_page_and_on_disk(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, address = await begun(mine)
    await installation.hook(
        json.dumps(SALE).encode(), path=address, headers={"X-Key": "sk_live_of_the_till", "X-Sig": "ab"}
    )
    page = (await mine.get(f"{draft}/authorise?part=arrived")).text
    assert "x-key: sk…ll" in page
    (request,) = await captured_requests(installation, draft)
    assert (await mine.post(f"{draft}/sample", request=request.id)).status_code == 303
    page += (await mine.get(f"{draft}/teach")).text + (await mine.get(f"{draft}/authorise")).text
    for secret in ("sk_live_of_the_till", "+34600111222", "Anna Smith"):
        assert secret not in page
    assert "+3…22" in page
    file = installation.host.settings.database_file
    assert file is not None
    on_disk = b"".join(part.read_bytes() for part in file.parent.iterdir() if part.name.startswith(file.name))
    for text in (b"600111222", b"sk_live", address.rsplit("/", 1)[1].encode()):
        assert text not in on_disk


async def test_nobody_else_sees_or_teaches_a_draft(installation: Installation, browsers: Browsers) -> None:
    mine, other = await browsers.new().sign_in(), await browsers.new().sign_in("7loc_sc_of_another_business")
    draft, address = await begun(mine)
    await installation.hook(json.dumps(SALE).encode(), path=address)
    (request,) = await captured_requests(installation, draft)
    for path in ("authorise", "authorise?part=arrived", "teach", "teach?ask=map_paid"):
        assert (await other.get(f"{draft}/{path}")).status_code == 404
    assert (await other.post(f"{draft}/sample", request=request.id)).status_code == 404
    assert (await other.post(f"{draft}/teach", field="map_paid", path="sum")).status_code == 404
    other_draft, _ = await begun(other)
    assert (await other.post(f"{other_draft}/sample", request=request.id)).status_code == 404


async def test_answers_must_be_what_was_asked_and_can_be_tapped(installation: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    draft, _ = await begun(mine)
    assert (await mine.get(f"{draft}/teach")).headers["location"] == f"{draft}/authorise"
    await mine.post(f"{draft}/sample", pasted=json.dumps(SALE))
    for values in (
        {"field": "map_paid", "path": "length(@)"},
        {"field": "map_paid", "path": "nowhere"},
        {"field": "secret", "path": "id"},
        {"field": "secret", "skip": "1"},
        {"field": "map_paid", "skip": "1"},
        {"field": "units", "path": "minor"},
    ):
        assert (await mine.post(f"{draft}/teach", **values)).status_code == 404
    assert (await mine.post(f"{draft}/sample", pasted=" ")).headers["location"] == f"{draft}/authorise"
    assert (await mine.post(f"{draft}/sample", pasted="x" * (200 * 1024 + 1))).headers[
        "location"
    ] == f"{draft}/authorise"
    assert (await mine.post(f"{draft}/sample", pasted="no json at all")).status_code == 303
    page = await mine.get(f"{draft}/teach?ask=map_paid")
    assert page.status_code == 200
    assert "it may be no JSON" in page.text


async def test_a_request_of_which_not_all_was_copied_is_said_where_it_was_pasted(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, _ = await begun(mine)
    whole = '{"number": "A-1", "sum": 12.5, "items": [{"name": "Flat white"}]}'
    for end in (1, 20, len(whole) - 1):
        assert (await mine.post(f"{draft}/sample", pasted=whole[:end])).headers["location"] == f"{draft}/authorise"
        assert "Copy all of it, to its last bracket." in (await mine.get(f"{draft}/authorise")).text
    assert (await mine.post(f"{draft}/sample", pasted=whole)).headers["location"] == f"{draft}/teach"


async def test_what_was_never_tried_is_not_saved_and_what_does_not_fit_is_named_with_what_was_found(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, _ = await begun(mine)
    refused = await mine.post(f"{draft}/authorise", **FORM)
    assert refused.status_code == 422
    assert "what was never tried is not saved" in refused.text
    await mine.post(f"{draft}/sample", pasted=json.dumps({**SALE, "sum": "zwölf", "id": None}))
    refused = await mine.post(f"{draft}/authorise", **FORM)
    assert re.search(r'id="wrong-map_paid">“zwölf” is no number', refused.text)
    assert re.search(r'id="wrong-map_receipt_id">Nothing is at id', refused.text)
    await mine.post(f"{draft}/sample", pasted=json.dumps(SALE))
    assert (await mine.post(f"{draft}/authorise", **FORM)).headers["location"].endswith("/key")


async def test_what_was_collected_goes_after_a_day_and_with_its_draft(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    draft, address = await begun(mine)
    await installation.hook(json.dumps(SALE).encode(), path=address)
    clock = installation.host.store.clock = Later()
    clock.ahead = DAY + 1
    assert (await installation.hook(json.dumps(SALE).encode(), path=address)).status_code == 404
    await installation.host.store.write(connections.drafts.sweep)
    assert await captured_requests(installation, draft) == []
    clock.ahead = 0
    draft, address = await begun(mine)
    await installation.hook(json.dumps(SALE).encode(), path=address)
    await mine.post(f"{draft}/discard")
    assert await captured_requests(installation, draft) == []
    assert (await installation.hook(json.dumps(SALE).encode(), path=address)).status_code == 404


async def test_settings_that_would_read_no_sale_any_more_are_refused_once_it_is_connected(
    installation: Installation,
) -> None:
    from connectors.services import UnusableSettings
    from tests.webhook.test_way_of_a_request import connect, send

    values = {name.removeprefix("set."): value for name, value in FORM.items()}
    await connect(installation, values)
    assert await send(installation, json.dumps(SALE).encode(), {}) == 200
    with pytest.raises(UnusableSettings, match="map_paid: nothing is at total"):
        await installation.host.services.connections.edit(installation.connection.id, {"map_paid": "total"})
    await installation.host.services.connections.edit(installation.connection.id, {"till_name": "Another name"})
    changed = {**SALE, "total": "9.00"}
    changed.pop("sum")
    assert await send(installation, json.dumps(changed).encode(), {}) == 200  # the till sends otherwise now: it is kept
    await installation.host.services.connections.edit(
        installation.connection.id, {"map_paid": "total"}
    )  # and the new mapping reads that


@pytest.fixture
async def installation(tmp_path, monkeypatch) -> AsyncIterator[Installation]:  # type: ignore[no-untyped-def]
    async with build(tmp_path, monkeypatch) as installation:
        yield installation


async def test_everything_that_is_missing_is_said_at_once(installation: Installation, browsers: Browsers) -> None:
    mine = await browsers.new().sign_in()
    draft, _ = await begun(mine)
    missing = {"set.proof": "hmac", "set.map_phone": "", "set.map_lines": "items"}
    page = await mine.post(f"{draft}/authorise", **FORM | missing)
    assert page.status_code == 422
    wrong = re.findall(r'id="wrong-(\w+)"', page.text)
    assert set(wrong) == {"map_phone", "map_product", "secret", "proof_header"}
