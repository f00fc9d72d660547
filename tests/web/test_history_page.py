"""The page that takes older receipts in: they are counted first, taken in by a host, and nothing is given twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from connectors.domain.clock import moment
from tests.installation import ANNA, BORYS, Installation
from tests.web.browser import Browser, open_browsers
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
    counted = await browser.post(f"{base}/count", since=since)
    said = words(counted)
    stamps = int(said.partition(" stamps, less")[0].rpartition(" ")[2])
    assert "Nothing has been sent." in said
    assert stamps > 0
    assert installation.applied() == []
    assert (await browser.post(f"{base}/run", since=since)).headers["location"] == base
    assert "It goes on if you leave this page." in words(await browser.get(base))
    # pressed twice, or by two people, it is done once
    await browser.post(f"{base}/run", since=since)
    lines = [line for line in await installation.journal() if "Older receipts are taken in, since" in line]
    assert len(lines) == 1
    await _do_what_was_asked(installation)
    done = await browser.get(f"{base}?part=progress")
    assert "receipts were read" in words(done)
    await installation.sync()
    assert sum(one["count"] for one in installation.applied()) == stamps
    await browser.post(f"{base}/run", since=since)
    await _do_what_was_asked(installation)
    await installation.sync()
    assert sum(one["count"] for one in installation.applied()) == stamps


async def test_what_stops_a_backfill_is_said_and_it_can_be_started_again(
    installation: Installation, browser: Browser
) -> None:
    base = await _with_history(installation)
    since = _days_ago(installation, 20)
    await browser.post(f"{base}/run", since=since)
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
    refused = await browser.post(f"{base}/{what}", since=since)
    assert refused.status_code == 422
    assert said in words(refused)


async def test_counting_is_bounded_and_a_paused_till_takes_nothing_in(
    installation: Installation, browser: Browser
) -> None:
    base = await _with_history(installation)
    since = _days_ago(installation, 3)
    answers = [await browser.post(f"{base}/count", since=since) for _ in range(7)]
    assert [one.status_code for one in answers] == [200] * 6 + [422]
    assert "Too many tries" in words(answers[-1])
    await installation.host.services.connections.pause(installation.connection.id)
    assert "resume it first" in words(await browser.post(f"{base}/run", since=since))
