"""Turns to call a till that members of a cluster borrow: together no more than one of them alone would take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from connectors.domain.clock import DAY, SECOND
from connectors.runtime.shared_rates import SharedRates
from connectors.store import call_rates
from connectors.store.engine import Store
from connectors.store.vault import Vault
from tests.postgresql import shared_postgresql
from tests.web.clock import MovableClock, StoppedClock

NAME, PER_SECOND, BURST = "square:sandbox", 20.0, 10


@pytest.fixture
def url() -> Iterator[str]:
    url = shared_postgresql().new_database()
    yield url
    shared_postgresql().drop(url)


async def opened(url: str, clock: StoppedClock) -> Store:
    store = Store(url, Vault("a key that only tests use"), clock=clock)
    await store.open()
    return store


async def test_members_that_borrow_at_the_same_time_get_different_turns(url: str) -> None:
    clock = StoppedClock()
    stores = [await opened(url, clock) for _ in range(3)]
    slices = [turns for _ in range(8) for turns in (1, 2, 20)]
    firsts = await asyncio.gather(
        *(SharedRates(stores[number % 3])(NAME, PER_SECOND, BURST, turns, 0.0) for number, turns in enumerate(slices))
    )
    moments = sorted(
        round(first * SECOND) + round(turn * SECOND / PER_SECOND)
        for first, turns in zip(firsts, slices, strict=True)
        if first is not None
        for turn in range(turns)
    )
    # a burst that was saved up, then one every twentieth of a second, none of them twice and none left out
    spacing = int(SECOND / PER_SECOND)
    assert moments == [(turn + 1 - BURST) * spacing for turn in range(sum(slices))]
    for store in stores:
        await store.close()


async def test_a_pause_counts_for_all_and_an_idle_account_has_saved_up_a_burst_and_no_more(url: str) -> None:
    clock = StoppedClock()
    here, there = await opened(url, clock), await opened(url, clock)
    paused = await SharedRates(here)(NAME, PER_SECOND, BURST, 1, 30.0)
    assert paused == pytest.approx(30.05)
    assert await SharedRates(there)(NAME, PER_SECOND, BURST, 1, 0.0) == pytest.approx(30.10)
    clock.moment += 3600 * SECOND
    assert await SharedRates(there)(NAME, PER_SECOND, BURST, 1, 0.0) == pytest.approx(-0.45)
    assert await here.write(lambda tx: call_rates.sweep(tx, clock.moment - DAY, 10)) == 0
    assert await here.write(lambda tx: call_rates.sweep(tx, clock.moment + DAY, 10)) == 1
    await here.close()
    await there.close()


async def test_what_was_lent_by_a_clock_that_was_put_back_since_makes_nobody_wait(url: str) -> None:
    clock = StoppedClock()
    store = await opened(url, clock)
    clock.moment += 3600 * SECOND  # a member that has not seen yet that the server's clock was put back
    await SharedRates(store)(NAME, PER_SECOND, BURST, 1, 0.0)
    clock.moment -= 3600 * SECOND
    firsts = [await SharedRates(store)(NAME, PER_SECOND, BURST, 1, 0.0) for _ in range(2)]
    assert firsts == [pytest.approx(-0.45), pytest.approx(-0.40)]
    await store.close()


async def test_a_database_that_does_not_answer_lends_nothing_and_stops_nobody() -> None:
    store = Store("postgresql://tests@127.0.0.1:9/none", Vault("a key that only tests use"), clock=MovableClock())
    assert await SharedRates(store)(NAME, PER_SECOND, BURST, 1, 0.0) is None
    await store.close()
