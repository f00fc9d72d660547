"""A clock that is put forward or back: what waits goes on waiting as long as it should, and nothing is given twice."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from connectors.domain.clock import HOUR, SECOND, SteadyClock
from connectors.runtime.clock_follower import ClockFollower
from connectors.runtime.counter_names import CLOCK_JUMPS
from connectors.store import counters
from connectors.store.connections.schedule import lease_polls
from connectors.store.schema import operation_table
from tests.installation import ANNA, Installation

pytestmark = pytest.mark.embedded


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put the machine's clock forward by so many microseconds, or back."""
    real = time.time_ns

    def put(by: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: real() + by * 1000)

    return put


def test_a_steady_clock_goes_on_evenly_and_follows_when_it_is_told_to(set_clock: Any) -> None:
    clock = SteadyClock()
    before = clock.now()
    set_clock(-HOUR)
    assert 0 <= clock.now() - before < SECOND
    jump = time.time_ns() // 1000 - clock.now()
    assert -HOUR - SECOND < jump < -HOUR + SECOND
    clock.put_forward(jump)
    assert abs(clock.now() - time.time_ns() // 1000) < SECOND


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_after_a_jump_reads_are_due_when_they_were_and_doubt_lasts_as_long(
    installation: Installation, caplog: pytest.LogCaptureFixture, set_clock: Any, by: int
) -> None:
    store = installation.host.store
    await installation.connect(poll_seconds=60)
    installation.cafe.sell(installation.cafe.client(ANNA))
    installation.sevenstamp.faults.drop_after = 1.0
    await installation.sync()
    installation.sevenstamp.faults.drop_after = 0.0
    (doubtful,) = await installation.operations()
    assert doubtful.state == "uncertain"
    sent_ago = store.clock.now() - (doubtful.sent_at or 0)
    set_clock(by)
    with caplog.at_level(logging.WARNING):
        follower = ClockFollower(store)
        await follower.follow()
        await follower.follow()
    assert caplog.text.count("the clock was put") == 1
    assert ("forward" if by > 0 else "back") in caplog.text
    assert (await store.read(counters.read_counters))[CLOCK_JUMPS] == 1
    (moved,) = await installation.operations()
    assert abs(store.clock.now() - (moved.sent_at or 0) - sent_ago) < 5 * SECOND
    connection = await installation.host.services.connections.get(installation.connection.id)
    assert 0 < connection.next_poll_at - store.clock.now() <= 70 * SECOND
    assert await store.write(lambda tx: lease_polls(tx, 9)) == []
    await installation.sync()
    while installation.stamps(ANNA) != 1 or (await installation.operations())[0].state != "applied":
        await installation.sync()
    assert len(installation.applied()) == 1


async def test_a_clock_that_is_put_forward_during_a_look_proves_no_absence(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, set_clock: Any
) -> None:
    store = installation.host.store
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    installation.sevenstamp.faults.drop_after = 1.0
    installation.sevenstamp.faults.history_lag_ms = (600_000, 600_000)
    await installation.sync()
    assert [operation.state for operation in await installation.operations()] == ["uncertain"]
    due = operation_table.update().values(next_at=0, sent_at=store.clock.now())
    await store.write(lambda tx: tx.run(due))
    read, follower = store.read, ClockFollower(store)

    async def read_after_the_jump(query: Any) -> Any:
        # between the claim of what is in doubt and the look at 7stamp
        monkeypatch.setattr(store, "read", read)
        set_clock(HOUR)
        assert await follower.follow()
        return await read(query)

    monkeypatch.setattr(store, "read", read_after_the_jump)
    await installation.host.deliverer.resolve()
    # sent a moment ago, it may still take effect: sent again now, it could be given twice
    assert [operation.state for operation in await installation.operations()] == ["uncertain"]


async def test_an_answer_that_comes_late_does_not_look_like_a_clock_that_was_put_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = installation.host.store
    clock = store.clock
    assert isinstance(clock, SteadyClock)

    async def late() -> int:
        reading = clock.now()
        clock.put_forward(5 * SECOND)  # so long it takes until the reading is here
        return reading

    monkeypatch.setattr(store, "_right_time", late)
    before = clock.now()
    assert await store.follow_clock() == 0
    assert clock.now() >= before + 5 * SECOND
