"""The security log: a cafe reads who came in to its own pages, the operator everything, and nobody fills the disk."""

from __future__ import annotations

import asyncio
import html
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from connector_sdk.rule import StampRule
from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.store import access
from connectors.store.schema import security_event_table
from tests.installation import KEY, Installation, build
from tests.served_installation import PASSWORD
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.clock import MovableClock

THEIRS = "7loc_sc_another_business_77aa"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/605.1"


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def shown_log(browser: Browser, path: str = "/security") -> list[str]:
    """Return the rows of the log as a browser shows them, each as plain text."""
    answer = await browser.get(path)
    assert answer.status_code == 200
    rows = re.findall(r"<tr><td>(.*?)</tr>", answer.text, re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in rows]


async def stored_events(installation: Installation) -> list[Any]:
    query = sqlalchemy.select(security_event_table).order_by(security_event_table.c.seq)
    return await installation.host.store.read(lambda tx: list(tx.run(query)))


async def test_a_cafe_reads_who_came_in_and_no_other_cafe_does(installation: Installation, browsers: Browsers) -> None:
    phone = browsers.new(address="203.0.113.77")
    phone.client.headers["user-agent"] = PHONE
    await phone.sign_in()
    link = await phone.make_link()
    laptop = browsers.new(address="2001:db8:7:8::9")
    await laptop.post(link)
    await laptop.post("/sign-out")
    rows = await shown_log(phone)
    assert len(rows) == 4
    assert "signed out" in rows[0]
    assert "2001:db8:7::/48" in rows[0]
    assert "signed in with a link" in rows[1]
    assert "made a sign-in link" in rows[2]
    assert "signed in with a 7stamp key" in rows[3]
    assert "Safari · iPhone" in rows[3]
    assert "203.0.113.0/24" in rows[3]
    other = await browsers.new(address="198.51.100.9").sign_in(THEIRS)
    (row,) = await shown_log(other)
    assert "signed in with a 7stamp key" in row
    assert len(await shown_log(await browsers.new().as_operator())) >= 7


async def test_the_pages_are_read_in_malay_too(installation: Installation, browsers: Browsers) -> None:
    browser = await browsers.new().sign_in()
    browser.client.headers["accept-language"] = "ms"
    (row,) = await shown_log(browser)
    assert "log masuk dengan kunci 7stamp" in row


async def test_wrong_keys_and_passwords_are_counted_in_one_row_an_hour(
    installation: Installation, browsers: Browsers
) -> None:
    installation.host.store.clock = clock = MovableClock()
    installation.sevenstamp.key = KEY
    for number in range(3):
        await browsers.new(address=f"203.0.113.{number}").post("/sign-in", key=f"7loc_sc_wrong{number}", next="/")
    for _ in range(2):
        await browsers.new().post("/sign-in/operator", password="guessed", next="/")
    operator = await browsers.new(address="192.0.2.1").as_operator()
    rows = await shown_log(operator)
    assert "signed in with the password" in rows[0]
    assert "wrong password" in rows[1]
    assert "2 times" in rows[1]
    assert "a stranger" in rows[1]
    assert "7stamp refuses" in rows[2]
    assert "3 times" in rows[2]
    clock.ahead = HOUR + MINUTE
    await browsers.new(address="203.0.113.9").post("/sign-in", key="7loc_sc_wrong", next="/")
    assert "times" not in (await shown_log(operator))[0]
    assert await shown_log(await browsers.new().sign_in()) != []
    assert all("7stamp refuses" not in row for row in await shown_log(await browsers.new().sign_in()))


async def test_a_flood_of_forged_hooks_is_one_row_and_few_log_lines(
    installation: Installation, browsers: Browsers, caplog: pytest.LogCaptureFixture
) -> None:
    await installation.connect()
    before = len(await stored_events(installation))
    with caplog.at_level(logging.INFO):
        for _ in range(60):
            assert (
                await installation.hook(installation.cafe.hook(330660, "closed", secret="guessed"))
            ).status_code == 401
        assert len(await stored_events(installation)) == before  # a stranger's request costs no write
        await installation.host.security_events.flush()  # the host does once a minute
    rows = await stored_events(installation)
    assert [(row.kind, row.times) for row in rows[before:]] == [("forged_hook", 60)]
    lines = [record for record in caplog.records if record.name.startswith("connectors.")]
    assert [record.name for record in lines] == ["connectors.sync.hooks", "connectors.security"]
    operator = await browsers.new().as_operator()
    assert any("whose proof does not hold (poster)" in row and "60 times" in row for row in await shown_log(operator))


async def test_a_hook_forged_at_a_connections_own_address_is_its_cafes_to_read(
    installation: Installation, browsers: Browsers
) -> None:
    cafe = await browsers.new().sign_in()
    values = {
        "till_name": "Corner", "currency": "UAH", "zone": "Europe/Kyiv", "proof": "hmac",
        "secret": "a secret that only tests use",
        "map_receipt_id": "number", "map_paid": "sum", "map_closed_at": "at", "map_phone": "phone",
        "proof_header": "X-Signature",
    }  # fmt: skip
    connection = await installation.host.services.onboarding.connect(
        "webhook", values, KEY, lambda _account: StampRule()
    )
    path = str(installation.host.services.connections.hook_url(connection)).removeprefix("http://host")
    answer = await installation.hook(b'{"number": "1"}', path=path, headers={"x-signature": "ab" * 32})
    assert answer.status_code == 401
    await installation.host.security_events.flush()
    rows = await shown_log(cafe)
    assert "whose proof does not hold" in rows[0]
    assert connection.title in rows[0]


async def test_a_visit_of_the_operator_is_the_cafes_to_read(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    cafe, operator = await browsers.new().sign_in(), await browsers.new(address="192.0.2.1").as_operator()
    for _ in range(3):
        await operator.get(f"/connections/{installation.connection.id}")
    await cafe.get(f"/connections/{installation.connection.id}")
    await operator.post(f"/operator/link/{installation.connection.id}")
    await installation.host.security_events.flush()
    rows = await shown_log(cafe)
    assert len(rows) == 3
    assert "The operator looked" in rows[0]
    assert "3 times" in rows[0]
    assert "The operator made a sign-in link" in rows[1]


async def test_a_refused_key_a_changed_password_and_signing_out_everywhere_are_logged(
    installation: Installation, browsers: Browsers
) -> None:
    installation.host.store.clock = clock = MovableClock()
    revoked, other = await browsers.new().sign_in(), await browsers.new().sign_in(f"{KEY}--anna")
    installation.sevenstamp.revoked.add(KEY)
    clock.ahead = 5 * MINUTE
    await asyncio.gather(*(revoked.get("/") for _ in range(3)))
    assert "7stamp refuses a key" in (await shown_log(other))[0]
    await other.post("/devices/sign-out-everywhere")
    rows = await shown_log(await browsers.new().sign_in(f"{KEY}--borys"))
    assert "anna signed out everywhere" in rows[1]
    everything = await shown_log(await browsers.new().as_operator())
    assert sum("7stamp refuses a key" in row for row in everything) == 1
    assert "The operator's password was set" in everything[-1]


async def test_no_key_password_token_or_whole_address_is_in_it(
    installation: Installation, browsers: Browsers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "connectors.security")
    installation.sevenstamp.key = None
    browser = await browsers.new(address="203.0.113.77").sign_in(f"{KEY}--anna@example.com")
    link = await browser.make_link()
    await browsers.new(address="203.0.113.78").post("/sign-in/operator", password=PASSWORD + "x", next="/")
    text = json.dumps([list(row) for row in await stored_events(installation)]) + caplog.text
    assert "sign_in" in text
    for secret in (KEY, PASSWORD, link.removeprefix("/link/"), "203.0.113.77", "203.0.113.78", "anna@example.com"):
        assert secret not in text


async def test_failures_of_strangers_are_bounded_and_push_out_nothing_else(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access.security_log, "_OF_OTHERS_AT_MOST", 5)
    installation.sevenstamp.key = KEY
    operator = await browsers.new().as_operator()
    for number in range(12):
        await browsers.new(address=f"203.0.{number}.9").post("/sign-in", key="7loc_sc_wrong", next="/")
    rows = await shown_log(operator)
    assert [row for row in rows if "7stamp refuses" in row] == rows[:5]
    assert "203.0.11.0/24" in rows[0]
    assert any("signed in with the password" in row for row in rows)


async def test_events_are_kept_as_long_as_the_setting_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        build(tmp_path, monkeypatch, security_log_days=30) as installation,
        open_browsers(installation) as browsers,
    ):
        installation.host.store.clock = clock = MovableClock()
        await browsers.new().sign_in()
        clock.ahead = 29 * DAY
        await installation.host.maintenance.run()
        assert "Kept for 30 days." in (await (await browsers.new().sign_in()).get("/security")).text
        assert len(await stored_events(installation)) == 3
        clock.ahead = 31 * DAY
        await installation.host.maintenance.run()
        assert len(await stored_events(installation)) == 1


async def test_the_operator_turns_pages(installation: Installation, browsers: Browsers) -> None:
    for number in range(60):
        await installation.host.store.write(
            lambda tx, number=number: access.security_log.record(  # type: ignore[misc]
                tx, access.security_log.EventKind.failed_sign_in, address=f"10.0.{number}.1"
            )
        )
    operator = await browsers.new().as_operator()
    first = await operator.get("/security")
    older = re.search(r"/security\?before=\d+", first.text)
    assert older
    second = await shown_log(operator, older[0])
    assert len(await shown_log(operator)) == 50
    assert len(second) == 12  # with the password that was set, and the operator's own sign-in
    assert "10.0.0.0/24" in second[-2]
    for odd in ("x", "-1", "9" * 40, "%00"):
        assert (await operator.get(f"/security?before={odd}")).status_code in (200, 404)
