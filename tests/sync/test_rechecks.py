"""A connection that a till or 7stamp refused: it is tried again by itself, and whenever somebody wishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.domain.connection import Connection, Health
from connectors.services import Refusal
from connectors.store.schema import connection_table
from connectors.sync import health, rechecks
from poster_connector.connector import PosterConnector
from poster_connector.sandbox import Account
from tests.installation import ANNA, KEY, Installation, build
from tests.web.browser import Browser, open_browsers
from tests.web.clock import MovableClock
from tests.web.test_voucher_at_a_till import words

CLOCK = MovableClock()
OTHER_TOKEN = "861053:02391570ff9af128e93c5a771055ba99"
REFUSED = 11  # Poster's code for a token that is none


@pytest.fixture
async def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """A connection whose till has refused its right token, once."""
    monkeypatch.setattr(CLOCK, "ahead", 0)
    async with build(tmp_path, monkeypatch, time=CLOCK) as installation:
        await installation.connect()
        installation.cafe.fail_next = [REFUSED]
        await installation.sync_quietly()
        installation.cafe.sell(installation.cafe.client(ANNA))
        assert (await as_it_is(installation)).health is Health.needs_authorisation
        yield installation


@pytest.fixture
async def browser(refused: Installation) -> AsyncIterator[Browser]:
    async with open_browsers(refused) as browsers:
        yield await browsers.new().sign_in()


async def as_it_is(installation: Installation) -> Connection:
    return await installation.host.services.connections.get(installation.connection.id)


async def second_connection(refused: Installation) -> Connection:
    """Another till's connection that was refused as well, and whose till accepts it again."""
    account = Account(token=OTHER_TOKEN, name="other")
    refused.till.accounts[account.token] = account
    connection = await refused.host.services.onboarding.connect(
        "poster", {"access_token": account.token}, KEY, lambda _account: StampRule()
    )
    await refused.host.store.write(
        lambda tx: health.report_unwell(tx, connection, Health.needs_authorisation, Message("why.till_refuses"))
    )
    return connection


async def round_after(installation: Installation, pause: int) -> int:
    """Let time pass, and recheck what is due; return how many calls the till got."""
    CLOCK.ahead += pause
    before = calls_of(installation)
    assert installation.host.rechecker is not None
    await installation.host.rechecker.round()
    return calls_of(installation) - before


def calls_of(installation: Installation) -> int:
    # the sandbox does not count those that it was told to fail
    return installation.cafe.calls - len(installation.cafe.fail_next)


async def test_a_till_that_accepts_its_token_again_is_read_again_and_no_sale_is_lost(refused: Installation) -> None:
    assert await round_after(refused, 2 * MINUTE) > 0
    assert (await as_it_is(refused)).health is Health.active
    await refused.sync()
    assert refused.stamps(ANNA) == 1


async def test_a_till_that_goes_on_refusing_is_asked_less_and_less_often(refused: Installation) -> None:
    gaps, waited = [], 0
    for _ in range(1000):
        if len(gaps) == 10:
            break
        refused.cafe.fail_next = [REFUSED] * 9
        waited += 10 * MINUTE
        if await round_after(refused, 10 * MINUTE):
            gaps.append(waited)
            waited = 0
    assert len(gaps) == 10
    # each about as long as all before it, spread by a tenth
    assert all(later >= earlier * 0.8 for earlier, later in pairwise(gaps))
    assert gaps[-1] > 20 * HOUR
    assert gaps[-1] < 1.2 * DAY
    assert (await as_it_is(refused)).health is Health.needs_authorisation


async def test_a_key_that_is_refused_as_well_is_what_is_told_next(refused: Installation) -> None:
    refused.sevenstamp.revoked.add(KEY)
    with pytest.raises(Refusal, match="7stamp refuses the key"):
        await refused.host.services.connections.recheck(refused.connection.id)
    reason = (await as_it_is(refused)).reason
    assert reason is not None
    assert reason.id == "why.key_refused"


async def test_a_till_that_does_not_answer_leaves_everything_as_it_is(refused: Installation) -> None:
    refused.cafe.fail_next = ["503"] * 9
    before = await as_it_is(refused)
    with pytest.raises(Refusal, match="did not answer"):
        await refused.host.services.connections.recheck(refused.connection.id)
    after = await as_it_is(refused)
    assert (after.health, after.reason) == (before.health, before.reason)


async def test_a_connector_that_hangs_keeps_no_other_from_being_tried(
    refused: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await second_connection(refused)
    check = PosterConnector.check

    async def hangs_for_one(till: PosterConnector) -> TillAccount:
        if till.account is not None and till.account.id != other.account.id:
            await asyncio.Event().wait()
        return await check(till)

    monkeypatch.setattr(PosterConnector, "check", hangs_for_one)
    monkeypatch.setattr(rechecks, "_CALLS_AT_ONCE", 1)
    monkeypatch.setattr(rechecks, "_PATIENCE", 2.0)
    await round_after(refused, 10 * MINUTE)
    assert (await as_it_is(refused)).health is Health.needs_authorisation
    assert (await refused.host.services.connections.get(other.id)).health is Health.active


async def test_a_connection_whose_key_cannot_be_read_keeps_no_other_from_being_tried(refused: Installation) -> None:
    other = await second_connection(refused)
    lost = connection_table.update().where(connection_table.c.id == other.id).values(sevenstamp_key="00000000:gAAAAA")
    await refused.host.store.write(lambda tx: tx.run(lost))
    await round_after(refused, 10 * MINUTE)
    assert (await as_it_is(refused)).health is Health.active


async def test_whoever_presses_again_and_again_is_asked_to_wait(refused: Installation, browser: Browser) -> None:
    page = f"/connections/{refused.connection.id}"
    refused.cafe.fail_next = [REFUSED] * 100
    before = calls_of(refused)
    answers = [(await browser.post(f"{page}/recheck")).status_code for _ in range(15)]
    assert 4 <= answers.count(429) <= 5
    pasted = await browser.post(f"{page}/settings/till", **{"set.access_token": refused.cafe.token})
    assert (pasted.status_code, "Too many tries" in words(pasted)) == (422, True)
    assert calls_of(refused) - before <= 11


async def test_a_connection_that_was_paused_meanwhile_stays_paused(refused: Installation) -> None:
    asked = await as_it_is(refused)
    await refused.host.services.connections.pause(refused.connection.id)
    assert refused.host.rechecker is not None
    await refused.host.rechecker.recheck(asked)
    assert (await as_it_is(refused)).health is Health.paused
    with pytest.raises(Refusal, match="nothing is wrong"):
        await refused.host.services.connections.recheck(refused.connection.id)


async def test_the_page_offers_to_try_again(refused: Installation, browser: Browser) -> None:
    page = f"/connections/{refused.connection.id}"
    assert "Try again" in words(await browser.get(page))
    refused.cafe.fail_next = [REFUSED] * 9
    await browser.post(f"{page}/recheck")
    assert "The till refuses the token." in words(await browser.get(page))
    refused.cafe.fail_next = []
    await browser.post(f"{page}/recheck")
    shown = words(await browser.get(page))
    assert "Working again." in shown
    assert "Try again" not in shown
    assert "Sync now" in shown


async def test_the_same_token_pasted_once_more_is_tried_at_the_till(refused: Installation, browser: Browser) -> None:
    page = f"/connections/{refused.connection.id}/settings"
    saved = await browser.post(f"{page}/till", **{"set.access_token": refused.cafe.token})
    assert saved.status_code == 303
    assert "Working again." in words(await browser.get(page))
    assert (await as_it_is(refused)).health is Health.active
    saved = await browser.post(f"{page}/till", **{"set.access_token": refused.cafe.token})
    assert "Nothing was changed." in words(await browser.get(page))
