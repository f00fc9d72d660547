"""The plan of a business: what is used of it is known, what waits goes out by age, and 7stamp is asked seldom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connector_sdk.rule import StampRule
from connectors.domain.clock import DAY, HOUR, MINUTE, micros
from connectors.domain.plan import Plan, next_check
from connectors.services import Refusal
from connectors.sevenstamp.sandbox import Faults
from connectors.store import connections
from poster_connector.sandbox import Account
from tests.installation import ANNA, BORYS, CHRYSTYNA, KEY, Installation, build
from tests.web.browser import open_browsers
from tests.web.clock import MovableClock

NOON = micros(datetime(2026, 11, 26, 12, tzinfo=UTC))
DECEMBER = micros(datetime(2026, 12, 1, tzinfo=UTC))


class Planned:
    """An installation whose clock a test moves, with a plan of ten card updates a month."""

    def __init__(self, installation: Installation, clock: MovableClock) -> None:
        self.installation, self.clock = installation, clock
        self.state = installation.sevenstamp.state

    async def sell(self, *customers: str) -> None:
        for customer in customers:
            self.installation.cafe.sell(self.installation.cafe.client(customer))
        await self.installation.sync()

    async def plan(self) -> Plan | None:
        return await self.installation.host.services.plans.of_business(self.installation.connection.business_id)

    async def look(self) -> int:
        """Ask about the plans that are due; return how many those are."""
        due = await self.installation.host.store.read(connections.businesses.due_plan_checks)
        assert self.installation.host.deliverer is not None
        await self.installation.host.deliverer.check_plans()
        return len(due)


@pytest.fixture
async def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Planned]:
    clock = MovableClock()
    clock.ahead = NOON - clock.now()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        installation.sevenstamp.state.allowed = 10
        await installation.connect()
        yield Planned(installation, clock)


async def test_what_is_used_is_known_from_the_start_and_counted_with_each_operation(planned: Planned) -> None:
    plan = await planned.plan()
    assert plan is not None
    assert (plan.used, plan.allowed) == (0, 10)
    assert plan.until == DECEMBER - 2 * HOUR  # midnight in Kyiv
    await planned.sell(ANNA, BORYS, BORYS)
    plan = await planned.plan()
    assert plan is not None
    assert plan.used == planned.state.used[planned.installation.connection.business_id] == 3


async def test_what_others_use_is_found_within_a_day_and_within_an_hour_once_half_is_used(planned: Planned) -> None:
    assert await planned.look() == 0
    planned.state.used[planned.installation.connection.business_id] = 6
    planned.clock.ahead += DAY
    assert await planned.look() == 1
    plan = await planned.plan()
    assert plan is not None
    assert plan.used == 6
    assert await planned.look() == 0
    planned.clock.ahead += HOUR
    assert await planned.look() == 1


async def test_a_plan_without_a_limit_is_asked_about_daily_and_counted_by_nobody(planned: Planned) -> None:
    planned.state.allowed = None
    await planned.installation.host.services.plans.check(planned.installation.connection.business_id)
    await planned.sell(ANNA)
    plan = await planned.plan()
    assert plan is not None
    assert (plan.used, plan.allowed, plan.is_near, plan.is_used_up) == (0, None, False, False)
    planned.clock.ahead += 2 * HOUR
    assert await planned.look() == 0


async def test_when_the_month_turns_nothing_is_taken_as_known_and_what_waited_goes_out_by_age(planned: Planned) -> None:
    planned.state.allowed = 2
    await planned.sell(ANNA, BORYS)
    await planned.sell(CHRYSTYNA)
    await planned.sell(ANNA)
    assert planned.installation.stamps(CHRYSTYNA) == 0
    planned.clock.ahead += 6 * DAY
    assert await planned.plan() is None
    planned.state.used.clear()  # 7stamp counts anew
    assert await planned.look() == 1
    await planned.installation.sync()
    plan = await planned.plan()
    assert plan is not None
    assert plan.used == 2
    waited = [one["card_id"] for one in planned.installation.applied()[2:]]
    cards = {card.phone: card.id for card in planned.state.cards.values()}
    assert waited == [cards[CHRYSTYNA], cards[ANNA]]


async def test_without_an_answer_what_is_known_stays_and_the_turn_of_the_month_is_enough(planned: Planned) -> None:
    planned.state.allowed = 1
    await planned.sell(ANNA)
    await planned.sell(BORYS)
    planned.installation.sevenstamp.faults = Faults(status_500=1.0)
    with pytest.raises(Refusal, match="7stamp cannot be asked right now"):
        await planned.installation.host.services.plans.check(planned.installation.connection.business_id)
    plan = await planned.plan()
    assert plan is not None
    assert plan.used == 1
    planned.clock.ahead += 6 * DAY
    assert await planned.look() == 1
    planned.installation.sevenstamp.faults = Faults()
    planned.state.used.clear()
    await planned.installation.sync()
    assert planned.installation.stamps(BORYS) == 1


async def test_a_till_that_is_connected_while_the_plan_is_used_up_has_it_asked_about_at_once(planned: Planned) -> None:
    planned.state.allowed = 1
    await planned.sell(ANNA)
    await planned.sell(BORYS)
    planned.state.allowed = 100
    other = Account(token="861053:5a9e1570ff9af128e93c5a771055bb21", name="other")
    planned.installation.till.accounts[other.token] = other
    onboarding = planned.installation.host.services.onboarding
    await onboarding.connect("poster", {"access_token": other.token}, KEY, lambda _account: StampRule())
    assert await planned.look() == 1
    await planned.installation.sync()
    assert planned.installation.stamps(BORYS) == 1


async def test_a_key_that_is_refused_keeps_nobody_else_from_being_asked_about(planned: Planned) -> None:
    other = Account(token="861053:5a9e1570ff9af128e93c5a771055bb21", name="other")
    planned.installation.till.accounts[other.token] = other
    onboarding = planned.installation.host.services.onboarding
    key = "7loc_sc_another_business"
    theirs = await onboarding.connect("poster", {"access_token": other.token}, key, lambda _account: StampRule())
    planned.installation.sevenstamp.revoked.add(KEY)  # of the one that is due first
    planned.state.used[theirs.business_id] = 7
    planned.clock.ahead += DAY
    assert await planned.look() == 2
    plan = await planned.installation.host.services.plans.of_business(theirs.business_id)
    assert plan is not None
    assert plan.used == 7


def test_how_often_it_is_asked() -> None:
    def after(used: int, allowed: int | None, *, paused: bool = False) -> int:
        return next_check(Plan(used, allowed, DECEMBER, NOON), NOON, paused=paused) - NOON

    assert after(4, 10) == after(4, None) == DAY
    assert after(5, 10) == HOUR
    assert after(10, 10, paused=True) == 15 * MINUTE
    assert next_check(None, NOON, paused=False) == NOON + 15 * MINUTE
    late = DECEMBER - 5 * MINUTE
    assert next_check(Plan(4, 10, DECEMBER, late), late, paused=False) == DECEMBER


async def test_a_cafe_sees_what_is_used_and_says_that_it_has_a_larger_plan(planned: Planned) -> None:
    page = f"/connections/{planned.installation.connection.id}"
    async with open_browsers(planned.installation) as browsers:
        browser = await browsers.new().sign_in()
        assert "0 of the 10 card updates of your 7stamp plan are used" in (await browser.get(page)).text
        assert "When all are used" not in (await browser.get(page)).text
        await planned.sell(*[ANNA] * 8)
        shown = (await browser.get(page)).text
        assert "8 of the 10 card updates of your 7stamp plan are used" in shown
        assert "When all are used, stamps wait until" in shown
        await planned.sell(*[ANNA] * 3)
        assert "I have a larger plan now" in (await browser.get(page)).text
        answer = await browser.post(f"{page}/plan")
        assert "still used up" in (await browser.get(answer.headers["location"])).text
        business = planned.installation.connection.business_id
        store = planned.installation.host.store
        assert await store.read(lambda tx: connections.businesses.paused_until(tx, business)) > planned.clock.now()
        planned.state.allowed = 100
        answer = await browser.post(f"{page}/plan")
        assert "what waited is on its way" in (await browser.get(answer.headers["location"])).text
        await planned.installation.sync()
        assert planned.installation.stamps(ANNA) == 11
        answers = [(await browser.post(f"{page}/plan")).status_code for _ in range(8)]
        assert 429 in answers  # each is a call to 7stamp
