"""Databases that earlier versions wrote are read as they were, and worked on as if nothing had happened."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from connectors.cli.main import app
from connectors.domain.clock import SteadyClock
from connectors.domain.connection import Connection
from connectors.domain.operation import State
from connectors.services import ConnectOptions
from connectors.store import ledger, queries
from connectors.store.ledger.operations import Operation
from tests.installation import ANNA, BORYS, CHRYSTYNA
from tests.served_installation import until
from tests.store.stored_database import (
    DIEGO,
    FELIPE,
    GLORIA,
    MADRID_KEY,
    UNREADABLE,
    Installation,
    Tills,
    installation,
    make,
    readings,
)
from tests.web.browser import Browser, Browsers

STORED = Path(__file__).parent.parent / "samples" / "databases"
DAY = "2026-11-23"


@dataclass
class Reopened:
    """A copy of a stored database under the present code, and what was recorded when it was stored."""

    place: Installation
    recorded: dict[str, Any]
    connections: dict[str, Connection]
    """Those that are not removed, by title."""

    async def sync(self, title: str) -> None:
        """What `connectors sync` does, a minute later."""
        self.place.tills.clock.advance(60)
        await self.place.host.services.sync.run(self.connections[title].id)

    async def operations(self, title: str, receipt: str) -> list[Operation]:
        """The operations of a receipt, by what happened to it on the day that was stored; the first one first."""
        receipt_id = str(self.place.tills.receipts.get(receipt, receipt))
        connection_id = self.connections[title].id
        listed = await self.place.host.store.read(lambda tx: queries.operations.list_newest(tx, connection_id))
        of_receipt = [operation for operation in listed if operation.receipt_id == receipt_id]
        return sorted(of_receipt, key=lambda operation: operation.seq)

    async def states(self, title: str, receipt: str) -> list[tuple[str, int, str]]:
        """Kind, count and state of each operation of a receipt."""
        return [
            (operation.kind, operation.count, operation.state) for operation in await self.operations(title, receipt)
        ]

    async def retry(self, title: str, receipt: str) -> None:
        """Let the last operation of a receipt go out again."""
        operation = (await self.operations(title, receipt))[-1]
        await self.place.host.services.review.retry(self.connections[title].id, operation.id)

    async def raise_plan(self) -> None:
        """Give the businesses a 7stamp plan without a limit, and have the host notice it an hour later."""
        deliverer = self.place.host.deliverer
        assert deliverer is not None
        self.place.sevenstamp.sandbox.state.allowed = None
        self.place.tills.clock.advance(3700)
        await deliverer.check_plans()

    def browser(self) -> Browser:
        """The browser that was signed in when the database was stored."""
        browser = Browsers(self.place.host).new()
        for name, value in self.recorded["cookies"].items():
            browser.client.cookies.set(name, value)
        return browser


@pytest.fixture(params=sorted(path.name for path in STORED.iterdir()))
async def reopened(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Reopened]:
    stored = STORED / request.param
    (tmp_path / "ledger.db").write_bytes(gzip.decompress((stored / "ledger.db.gz").read_bytes()))
    shutil.copy(stored / "sevenstamp.jsonl", tmp_path)
    tills = Tills()
    tills.whole_day()
    async with installation(tmp_path, monkeypatch, tills) as place:
        connections = {connection.title: connection for connection in await place.host.services.connections.list_all()}
        yield Reopened(place, json.loads((stored / "recorded.json").read_text()), connections)


async def test_everything_reads_as_it_did_when_it_was_stored(reopened: Reopened) -> None:
    read = await readings(reopened.place.host)
    assert read.keys() == reopened.recorded["readings"].keys()
    for part, recorded in reopened.recorded["readings"].items():
        assert _as_recorded(read[part], recorded) == recorded
    assert reopened.place.sandbox_stamps() == reopened.recorded["stamps"]


def _as_recorded(read: Any, recorded: Any) -> Any:
    """What is read now, without names that were not there when it was recorded: later versions say more."""
    if isinstance(read, dict) and isinstance(recorded, dict):
        return {name: _as_recorded(value, recorded[name]) for name, value in read.items() if name in recorded}
    if isinstance(read, list) and isinstance(recorded, list) and len(read) == len(recorded):
        return [_as_recorded(*pair) for pair in zip(read, recorded, strict=True)]
    # a rule is recorded as the text that stands in the table
    if isinstance(read, str) and read.startswith("{") and isinstance(recorded, str):
        known = json.loads(recorded)
        return json.dumps(
            {name: value for name, value in json.loads(read).items() if name in known}, separators=(",", ":")
        )
    return read


async def test_days_are_as_if_they_were_counted_anew(reopened: Reopened) -> None:
    """What a migration added to the totals of days is what their operations say."""
    store, ids = reopened.place.host.store, [one.id for one in reopened.connections.values()]
    upgraded = await store.read(lambda tx: ledger.daily_totals.of_days(tx, ids, ""))
    for one in ids:
        await store.write(partial(ledger.daily_totals.recount, connection_id=one))
    assert await store.read(lambda tx: ledger.daily_totals.of_days(tx, ids, "")) == upgraded
    assert any(of_day.taken_back for days in upgraded.values() for of_day in days.values())


async def test_every_line_of_the_journal_has_words(reopened: Reopened) -> None:
    host = reopened.place.host
    for connection in reopened.connections.values():
        lines = await host.store.read(partial(ledger.journal.of_connection, connection_id=connection.id))
        assert lines
        for line in lines:
            text = host.words.word(line.message)
            assert text
            assert text != line.message.id
            assert "{" not in text


async def test_whoever_was_signed_in_still_is_and_every_page_opens(reopened: Reopened) -> None:
    browser = reopened.browser()
    lviv = reopened.connections["Lviv"].id
    assert "Lviv" in (await browser.get(f"/connections/{lviv}")).text
    drafts = set(re.findall(r'href="/connect/([\w-]+)"', (await browser.get("/")).text))
    assert len(drafts) == 1
    paths = ["/", "/devices", "/security", *(f"/connect/{draft}/authorise" for draft in drafts)]
    for name in (
        "",
        "/rule",
        "/settings",
        "/welcome",
        "/unread",
        "/disconnect",
        "/diagnostics",
        "/forget",
        "/receipts?q=330660",
    ):
        paths.append(f"/connections/{lviv}{name}")
    page = (await browser.get(f"/connections/{lviv}")).text
    receipts = set(re.findall(rf"/connections/{lviv}/receipts/\w+", page))
    assert receipts
    for path in (*paths, *receipts):
        answer = await browser.get(path)
        assert answer.status_code == 200, path
        assert "Sign in" not in answer.text, path
    devices = (await browser.get("/devices")).text
    assert "Corner phone" in devices
    await browser.client.aclose()


async def test_pages_of_the_other_business_open_with_its_key(reopened: Reopened) -> None:
    browser = await Browsers(reopened.place.host).new().sign_in(MADRID_KEY)
    for title in ("Madrid", "Corner"):
        for name in ("", "/unread", "/address", "/settings", "/resume"):
            answer = await browser.get(f"/connections/{reopened.connections[title].id}{name}")
            assert answer.status_code < 400, (title, name)
    await browser.client.aclose()


async def test_what_was_on_the_wire_is_settled_by_the_cards_history_and_given_once(reopened: Reopened) -> None:
    place = reopened.place
    await place.host.start()

    async def settled() -> bool:
        place.tills.clock.advance(5)
        states = [
            *await reopened.states("Madrid", "in doubt"),
            *await reopened.states("Lviv", "on the wire"),
            *await reopened.states("Lviv", "behind it"),
        ]
        return all(state == State.applied for _, _, state in states)

    await until(settled)
    await place.host.stop()
    given = place.sandbox_stamps()
    # 7stamp had done what was in doubt, and never heard of what was on the wire
    assert given[GLORIA] == reopened.recorded["stamps"][GLORIA]
    assert given[CHRYSTYNA] == reopened.recorded["stamps"][CHRYSTYNA] + 3 + 5


async def test_reading_the_whole_day_again_changes_nothing(reopened: Reopened) -> None:
    place = reopened.place
    before = await place.host.store.read(lambda tx: _versions(tx, reopened))
    for title in ("Lviv", "Madrid"):
        await place.host.services.sync.backfill(reopened.connections[title].id, DAY, _quietly)
    assert await place.host.store.read(lambda tx: _versions(tx, reopened)) == before


def _versions(tx: Any, reopened: Reopened) -> list[tuple[str, int]]:
    """How many lines about sales each connection's journal has: a version that is new writes one."""
    counts = []
    for title in ("Lviv", "Madrid"):
        lines = ledger.journal.of_connection(tx, reopened.connections[title].id)
        counts.append((title, sum(line.message.id.startswith("sale.") for line in lines)))
    return counts


async def test_new_sales_earn_stamps_and_a_refund_of_an_old_one_takes_its_stamps_back(reopened: Reopened) -> None:
    place, tills, before = reopened.place, reopened.place.tills, reopened.recorded["stamps"]
    new = tills.lviv.sell(tills.lviv.client(BORYS), paid=1500)
    tills.lviv.refund(int(tills.receipts["plain"]))
    tills.madrid.refund(str(tills.receipts["second of Diego"]))
    await reopened.sync("Lviv")
    await reopened.sync("Madrid")
    assert await reopened.states("Lviv", str(new)) == [("stamps_added", 3, "applied")]
    assert await reopened.states("Lviv", "plain") == [
        ("stamps_added", 3, "applied"),
        ("stamps_reversed", 3, "applied"),
    ]
    assert (await reopened.states("Madrid", "second of Diego"))[-1] == ("stamps_reversed", 1, "held")
    given = place.sandbox_stamps()
    assert given[BORYS] == before[BORYS] + 3
    assert given[ANNA] == before[ANNA] - 3
    assert given[DIEGO] == before[DIEGO]
    lviv = reopened.connections["Lviv"].id
    day = (await place.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, [lviv], DAY)))[lviv][DAY]
    # one receipt more and one refunded, each of three stamps
    assert (day.receipts, day.stamps) == (8, 22)


async def test_a_hook_of_the_taught_till_is_received_at_the_address_it_had(reopened: Reopened) -> None:
    place, corner = reopened.place, reopened.connections["Corner"]
    await place.host.services.connections.resume(corner.id)
    await reopened.raise_plan()
    await place.corner_sale(corner, "C-4", "2.00", GLORIA)
    await reopened.sync("Corner")
    assert await reopened.states("Corner", "C-4") == [("stamps_added", 2, "applied")]
    assert await reopened.states("Corner", "C-3") == [("stamps_added", 1, "applied")]
    assert await reopened.states("Corner", "C-2") == [("stamps_added", 3, "applied")]


async def test_what_is_held_can_be_retried(reopened: Reopened) -> None:
    place, before = reopened.place, reopened.recorded["stamps"]
    assert place.host.sevenstamp is not None
    await place.host.sevenstamp.with_key(MADRID_KEY).issue_card(phone=FELIPE)
    await reopened.raise_plan()
    for receipt in ("over the cap", "first of Diego", "without a card"):
        await reopened.retry("Madrid", receipt)
    await reopened.sync("Madrid")
    assert await reopened.states("Madrid", "over the cap") == [("stamps_added", 1, "applied")]
    assert (await reopened.states("Madrid", "first of Diego"))[-1] == ("stamps_reversed", 1, "applied")
    assert await reopened.states("Madrid", "without a card") == [("stamps_added", 1, "applied")]
    assert await reopened.states("Madrid", "of two cards") == [("stamps_added", 1, "held")]
    given = place.sandbox_stamps()
    assert (given[DIEGO], given[FELIPE]) == (before[DIEGO], 1)


async def test_what_could_not_be_read_is_there_as_it_came_and_is_tried_again(reopened: Reopened) -> None:
    services, corner = reopened.place.host.services, reopened.connections["Corner"].id
    unread = await services.review.list_unread(corner)
    assert [await services.review.unread_body(corner, item.id) for item in unread] == [UNREADABLE]
    await services.connections.edit(corner, {"map_paid": "total", "units": "minor"})
    assert (await services.review.retry_unread(corner)).read == 1
    assert await services.review.list_unread(corner) == []


async def test_the_account_of_a_removed_connection_is_adopted_with_its_ledger(reopened: Reopened) -> None:
    place, tills = reopened.place, reopened.place.tills
    lviv = reopened.connections["Lviv"]
    key = place.host.store.vault.decrypt(lviv.sevenstamp_key)
    rule = await place.host.services.connections.current_rule(lviv)
    kiosk = await place.host.services.onboarding.connect(
        "poster", {"access_token": tills.kiosk.token}, key, lambda _: rule, ConnectOptions(title="Kiosk")
    )
    reopened.connections["Kiosk"] = kiosk
    tills.kiosk.refund(int(tills.receipts["of the kiosk"]))
    await reopened.sync("Kiosk")
    assert (await reopened.states("Kiosk", "of the kiosk"))[-1] == ("stamps_reversed", 2, "applied")


async def test_the_command_syncs_it(reopened: Reopened, monkeypatch: pytest.MonkeyPatch) -> None:
    tills, lviv = reopened.place.tills, reopened.connections["Lviv"]
    new = tills.lviv.sell(tills.lviv.client(BORYS), paid=1500)
    monkeypatch.setattr(SteadyClock, "now", lambda _self: tills.clock.now())
    result = await asyncio.to_thread(CliRunner().invoke, app, ["sync", lviv.id, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sales_changed"] >= 1
    assert await reopened.states("Lviv", str(new)) == [("stamps_added", 3, "applied")]


async def _quietly(_now: Any) -> None:
    return


async def test_the_same_day_comes_to_the_same_with_the_present_code(tmp_path: Path) -> None:
    work, target = tmp_path / "work", tmp_path / "target"
    work.mkdir()
    target.mkdir()
    await make(work, target)
    now = json.loads((target / "recorded.json").read_text())
    newest = json.loads((sorted(STORED.iterdir())[-1] / "recorded.json").read_text())
    assert now["stamps"] == newest["stamps"]
    assert _outcomes(now) == _outcomes(newest)


def _outcomes(recorded: dict[str, Any]) -> list[tuple[object, ...]]:
    """(till, receipt, kind, count, state, hold) of every operation."""
    return [
        (title, operation[0], *operation[2:6])
        for title, part in recorded["readings"].items()
        for operation in part.get("operations", ())
    ]
