"""The page that takes older receipts in: they are counted first, taken in by a host, and nothing is given twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from connectors.domain.clock import MINUTE, moment
from connectors.domain.connection import Connection
from connectors.services import Refusal, backfill_command
from connectors.services.results import ignore
from connectors.store import host_commands
from connectors.store.engine import Store
from connectors.web.console import history_page
from tests.installation import ANNA, BORYS, Installation, build
from tests.till_of_files import till_of_files
from tests.web.browser import Browser, open_browsers
from tests.web.clock import MovableClock
from tests.web.test_voucher_at_a_till import words


@pytest.fixture
async def browser(installation: Installation) -> AsyncIterator[Browser]:
    async with open_browsers(installation) as browsers:
        yield await browsers.new().sign_in()


async def _with_history(installation: Installation) -> str:
    """Connect a till that has sold before, and return the page's address."""
    installation.till.two_weeks([ANNA, BORYS])
    await installation.connect()
    return f"/connections/{installation.connection.id}/history"


def _days_ago(installation: Installation, days: int) -> str:
    return (moment(installation.host.store.clock.now()).date() - timedelta(days=days)).isoformat()


async def _do_what_was_asked(installation: Installation) -> None:
    """Be the host that does what is asked for."""
    commands = installation.host.services.commands
    for command in await commands.claim():
        await commands.execute(command)


async def test_older_receipts_are_counted_then_give_their_stamps_once(
    installation: Installation, browser: Browser
) -> None:
    base = await _with_history(installation)
    receipts = f"/connections/{installation.connection.id}/receipts"
    assert f'href="{base}"' in (await browser.get(receipts)).text
    since = _days_ago(installation, 20)
    where = (await browser.post(f"{base}/count", since=since)).headers["location"]
    said = words(await browser.get(where))
    assert said == words(await browser.get(where))  # loaded anew, it is not counted anew
    stamps = int(said.partition(" stamps would be given")[0].rpartition(" ")[2])
    assert "Nothing has been sent." in said
    assert stamps > 0
    assert installation.applied() == []
    # other days than those that were counted are counted first
    other = await browser.post(f"{base}/run", since=_days_ago(installation, 3000), counted=since)
    assert "Nothing has been sent." in words(await browser.get(other.headers["location"]))
    assert await installation.host.services.commands.claim() == []
    assert (await browser.post(f"{base}/run", since=since, counted=since)).headers["location"] == base
    assert "It goes on if you leave this page." in words(await browser.get(base))
    # pressed twice, or by two people, it is done once
    await browser.post(f"{base}/run", since=since, counted=since)
    lines = [line for line in await installation.journal() if "Older receipts are taken in, since" in line]
    assert len(lines) == 1
    await _do_what_was_asked(installation)
    done = await browser.get(f"{base}?part=progress")
    assert "receipts were read" in words(done)
    await installation.sync()
    assert sum(one["count"] for one in installation.applied()) == stamps
    # what was taken in counts already, and is offered no more
    again = await browser.get((await browser.post(f"{base}/count", since=since)).headers["location"])
    assert "0 stamps would be given" in words(again)
    assert "Give their stamps" not in words(again)
    await browser.post(f"{base}/run", since=since, counted=since)
    assert len(await installation.host.services.commands.claim()) == 1, "asked for once more"
    await installation.host.services.sync.backfill(installation.connection.id, since, ignore)
    await installation.sync()
    assert sum(one["count"] for one in installation.applied()) == stamps


async def test_receipts_that_were_left_alone_are_new_and_a_count_grows_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, time=clock) as installation, open_browsers(installation) as browsers:
        installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.connect()
        await installation.sync()  # read, and left alone: it was closed before the connection began
        assert installation.applied() == []
        browser, base = await browsers.new().sign_in(), f"/connections/{installation.connection.id}/history"
        since = _days_ago(installation, 3)
        where = (await browser.post(f"{base}/count", since=since)).headers["location"]
        assert "1 stamp would be given" in words(await browser.get(where))
        clock.ahead += 16 * MINUTE  # more may have been sold since: the day stays, the numbers go
        page = await browser.get(where)
        assert "would be given" not in words(page)
        assert f'name="since" value="{since}"' in page.text


async def test_what_stops_a_backfill_is_said_and_it_can_be_started_again(
    installation: Installation, browser: Browser
) -> None:
    base = await _with_history(installation)
    since = _days_ago(installation, 20)
    await browser.post(f"{base}/run", since=since, counted=since)
    installation.cafe.fail_next.extend(["500"] * 100)
    await _do_what_was_asked(installation)
    installation.cafe.fail_next.clear()
    assert "It stopped before its end. What was read is kept: start it again." in words(await browser.get(base))


@pytest.mark.parametrize(
    ("since", "said"),
    [
        ("", "Choose a day."),
        ("yesterday", "Choose a day."),
        ("1999-01-01", "Choose a day that has been, of the last ten years."),
        ("3026-01-01", "Choose a day that has been, of the last ten years."),
        ("٢٠٢٦-١١-٠١", "Choose a day."),
    ],
)
@pytest.mark.parametrize("what", ["count", "run"])
async def test_a_day_that_is_none_is_refused_beside_its_field(
    installation: Installation, browser: Browser, since: str, said: str, what: str
) -> None:
    base = await _with_history(installation)
    refused = await browser.post(f"{base}/{what}", since=since, counted=since)
    assert refused.status_code == 422
    assert said in words(refused)


async def test_reading_a_tills_history_is_bounded(installation: Installation, browser: Browser) -> None:
    base = await _with_history(installation)
    since = _days_ago(installation, 3)
    answers = [await browser.post(f"{base}/count", since=since) for _ in range(5)]
    assert [one.status_code for one in answers] == [303] * 5
    assert (await browser.post(f"{base}/run", since=since, counted=since)).status_code == 303
    for what in ("count", "run"):
        assert (await browser.post(f"{base}/{what}", since=since, counted=since)).status_code == 422
    for command in await installation.host.services.commands.claim():
        await installation.host.services.commands.execute(command)
    assert "Too many tries" in words(await browser.post(f"{base}/count", since=since))


async def test_a_paused_till_takes_nothing_in(installation: Installation, browser: Browser) -> None:
    base = await _with_history(installation)
    since = _days_ago(installation, 3)
    await installation.host.services.connections.pause(installation.connection.id)
    assert "resume it first" in words(await browser.post(f"{base}/run", since=since, counted=since))


async def test_a_till_that_is_slow_or_writes_nonsense_says_so(
    installation: Installation, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await _with_history(installation)
    monkeypatch.setattr(history_page, "_COUNT_SECONDS", 0.0)
    counted = await browser.post(f"{base}/count", since=_days_ago(installation, 3))
    said = await browser.get(counted.headers["location"])
    assert "None could be counted in time: the till is slow." in words(said)
    assert f'formaction="{base}/run"' in said.text  # it can be taken in all the same
    assert "pauses that were left out" not in said.text
    installation.connection = await _with_a_pause_left_out(installation)
    assert "This counts for pauses that were left out, too." in words(await browser.get(base))


async def _with_a_pause_left_out(installation: Installation) -> Connection:
    services, one = installation.host.services, installation.connection.id
    await services.connections.pause(one)
    installation.cafe.sell(0)
    await services.connections.resume(one, leave_out=True)
    return await services.connections.get(one)


async def test_a_till_that_only_sends_has_no_such_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with till_of_files(tmp_path, monkeypatch) as corner, open_browsers(corner) as browsers:
        mine = await browsers.new().sign_in()
        one = f"/connections/{corner.connection.id}"
        assert (await mine.get(f"{one}/history")).status_code == 404
        for what in ("count", "run"):
            assert (
                await mine.post(f"{one}/history/{what}", since="2026-11-01", counted="2026-11-01")
            ).status_code == 404
        assert "history" not in (await mine.get(f"{one}/receipts")).text


async def test_of_many_who_ask_at_once_at_two_hosts_one_has_it_done(installation: Installation) -> None:
    await installation.connect()
    one, mine = installation.connection.id, installation.host.store
    other = Store(str(installation.settings.database_url), mine.vault)
    await other.open()
    ask = partial(host_commands.ask_alone, connection_id=one, kind="backfill", params={"since": "2026-11-01"})
    finish = partial(host_commands.finish, state=host_commands.CommandState.done, result={})
    for _ in range(20):
        asked = await asyncio.gather(*(store.write(ask) for store in (mine, other) * 3))
        assert [answer.is_new for answer in asked].count(True) == 1
        (command,) = await mine.write(host_commands.claim)
        assert {answer.id for answer in asked} == {command.id}
        await mine.write(partial(finish, command_id=command.id))
    await other.close()


async def test_a_day_that_is_none_is_refused_before_anybody_is_asked(installation: Installation) -> None:
    with pytest.raises(Refusal, match="is not a day"):
        backfill_command("poster-1", "yesterday")
    # the page shows the day of whatever was asked for, also by a command
    assert backfill_command("poster-1", "2026-1-5").params.since == "2026-01-05"
