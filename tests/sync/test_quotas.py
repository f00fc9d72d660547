"""Quotas: what lies beyond one is asked for later or refused with a sentence; what was accepted is never dropped."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from connectors.domain.clock import DAY, SECOND
from connectors.domain.quotas import MIB, Quotas
from connectors.services import Refusal
from connectors.store import access, inbox, schema
from connectors.sync.hook_rates import HookRates
from tests.installation import Installation, build
from tests.sync.test_unread_retries import BASE, PHONE, retry_unread, sale
from tests.web.browser import open_browsers
from tests.web.test_teaching_pages import begun
from tests.webhook.test_way_of_a_request import connect

READABLE = {**BASE, "map_paid": "sum"}


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    quotas = {"hooks_per_minute": 5, "hook_mib_per_day": 1, "max_tills_per_business": 2, "kept_requests": 3}
    async with build(tmp_path, monkeypatch, **quotas, captured_requests=6, captured_mib=1) as installation:
        yield installation


async def post(installation: Installation, body: bytes, path: str = "") -> httpx.Response:
    path = path or str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    return await installation.hook(body, path=path)


async def test_hooks_beyond_a_minutes_quota_are_asked_for_later_and_none_that_was_taken_is_lost(
    installation: Installation,
) -> None:
    await connect(installation, READABLE)
    answers = [await post(installation, sale(sum="1.00", id=f"r{number}")) for number in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
    assert 0 < int(answers[-1].headers["retry-after"]) <= 12
    await installation.sync()
    assert installation.stamps(PHONE) == 5
    lines = [line for line in await installation.journal() if "sends more than this host takes" in line]
    assert len(lines) == 1
    await installation.host.security_events.flush()
    business = installation.connection.business_id
    events = await installation.host.store.read(lambda tx: access.security_log.list_newest(tx, business))
    assert [(event.kind, event.count) for event in events if event.kind == "quota_met"] == [("quota_met", 3)]


async def test_hooks_that_are_not_proven_use_up_no_quota(installation: Installation) -> None:
    secret = "a long enough secret 7"
    await connect(installation, {**READABLE, "proof": "header", "proof_header": "X-Key", "secret": secret})
    path = str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    for _ in range(20):
        assert (await installation.hook(sale(sum="1.00"), path=path, headers={"X-Key": "guessed"})).status_code == 401
    assert (await installation.hook(sale(sum="1.00"), path=path, headers={"X-Key": secret})).status_code == 200


async def test_a_business_sends_no_more_bytes_a_day_than_its_quota_over_all_its_tills(
    installation: Installation,
) -> None:
    await connect(installation, READABLE)
    first = installation.connection
    await connect(installation, {**READABLE, "till_name": "Second"})
    large_body = sale(sum="1.00", note="x" * 250_000)
    for number in range(5):
        installation.connection = first if number % 2 else installation.connection
        assert (await post(installation, large_body)).status_code == (200 if number < 5 else 429)
    answer = await post(installation, large_body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) <= 3600


async def test_a_business_connects_no_more_tills_than_its_quota(installation: Installation) -> None:
    for name in ("One", "Two"):
        await connect(installation, {**READABLE, "till_name": name})
    with pytest.raises(Refusal, match="at most 2 tills"):
        await connect(installation, {**READABLE, "till_name": "Three"})
    await installation.host.services.connections.remove(installation.connection.id)
    await connect(installation, {**READABLE, "till_name": "Three"})


async def test_unread_hooks_beyond_their_quota_go_oldest_first_and_the_journal_says_so_once(
    installation: Installation,
) -> None:
    await connect(installation, {**READABLE, "map_paid": "total"})
    for number in range(5):
        assert (await post(installation, sale(sum="1.00", id=f"r{number}"))).status_code == 200
    receipt_ids = [
        entry.receipt_id for entry in await installation.host.services.review.list_unread(installation.connection.id)
    ]
    assert receipt_ids == ["r4", "r3", "r2"]
    assert len([line for line in await installation.journal() if "the oldest of it was let go" in line]) == 1
    await installation.host.services.connections.edit(installation.connection.id, {"map_paid": "sum"})
    assert (await retry_unread(installation))["read"] == 3


async def test_a_flood_at_a_drafts_address_pushes_neither_the_first_nor_the_chosen_request_out(
    installation: Installation,
) -> None:
    async with open_browsers(installation) as browsers:
        browser = await browsers.new().sign_in()
        draft, path = await begun(browser)
        owner = f"{inbox.captured.OF_DRAFT}{draft.rsplit('/', 1)[1]}"
        ids: list[str] = []
        for number in range(5):
            assert (await post(installation, json.dumps({"real": number}).encode(), path)).status_code == 200
            ids.append((await installation.host.store.read(lambda tx: inbox.captured.of_owner(tx, owner)))[0].id)
        chosen = ids[2]
        await browser.post(f"{draft}/sample", {"request": chosen})
        for number in range(30):
            installation.host.hooks._rates = HookRates(Quotas(), installation.host.store.clock.now)
            await post(installation, json.dumps({"junk": number, "fill": "x" * 90_000}).encode(), path)
        requests = await installation.host.store.read(lambda tx: inbox.captured.of_owner(tx, owner))
        assert {chosen, ids[0]} <= {request.id for request in requests}
        assert len(requests) <= 6


async def test_the_bytes_of_a_draft_are_bounded_headers_included(installation: Installation) -> None:
    async with open_browsers(installation) as browsers:
        browser = await browsers.new().sign_in()
        draft, path = await begun(browser)
        for number in range(6):
            installation.host.hooks._rates = HookRates(Quotas(), installation.host.store.clock.now)
            headers = {f"x-{at}": "y" * 7_000 for at in range(8)} | {"cookie": "z" * 1000, "x-signature": "s"}
            await installation.hook(b"{" + b"\xff" * 100_000 + b"%d" % number, path=path, headers=headers)
        owner = f"{inbox.captured.OF_DRAFT}{draft.rsplit('/', 1)[1]}"
        sizes = select(func.sum(schema.captured_table.c.size)).where(schema.captured_table.c.owner == owner)
        size = await installation.host.store.read(lambda tx: tx.run(sizes).scalar_one())
        assert 0 < size <= MIB
        (request, *_others) = await installation.host.store.read(lambda tx: inbox.captured.of_owner(tx, owner))
        assert "cookie" not in request.headers


async def test_requests_to_a_drafts_address_have_a_minutes_quota_too(installation: Installation) -> None:
    async with open_browsers(installation) as browsers:
        _, path = await begun(await browsers.new().sign_in())
        statuses = [(await post(installation, b'{"a": 1}', path)).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2


def test_rates_refill_with_time_and_bytes_count_anew_each_day() -> None:
    now = [10 * DAY + DAY // 2]
    rates = HookRates(Quotas(hooks_a_minute=2, hook_bytes_a_day=100), lambda: now[0])
    rates.count("a", 60, "b")
    rates.count("a", 60, "b")
    assert rates.wait("a") == 30
    assert rates.wait("other", "b") == 3600  # until midnight, but asked again within the hour
    assert rates.wait("other", "c") == 0
    now[0] += 31 * SECOND
    assert rates.wait("a") == 0
    now[0] += DAY // 2
    assert rates.wait("other", "b") == 0


def test_a_clock_that_is_put_back_uses_up_no_hooks() -> None:
    now = [10 * DAY]
    rates = HookRates(Quotas(hooks_a_minute=60), lambda: now[0])
    rates.count("a", 1, "b")
    now[0] -= DAY // 24
    assert rates.wait("a") == 0
    assert rates.left("a") == 59
    now[0] += 5 * SECOND
    assert rates.left("a") == 60
