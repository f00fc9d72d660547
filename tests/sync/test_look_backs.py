"""When the last days are read again: also after a look-back that did not come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from connector_sdk.sale import SalePage
from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.domain.retry_pauses import LOOKBACK_AFTER_START, LOOKBACK_ENDS_WITHIN, LOOKBACK_EVERY
from connectors.store import connections
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table
from connectors.sync import till_reader
from poster_connector.connector import PosterConnector
from tests.installation import ANNA, Installation, build
from tests.processes import wait_for
from tests.web.clock import MovableClock

CLOCK = MovableClock()
SPREAD = 1.1  # a pause is up to a tenth longer


@pytest.fixture
async def looked_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """A connection with a receipt in the ledger, whose last look-back went well."""
    monkeypatch.setattr(CLOCK, "ahead", 0)
    async with build(tmp_path, monkeypatch, time=CLOCK) as installation:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.sync()
        yield installation


async def due_after(installation: Installation, pause: float) -> list[DueRead]:
    """Let time pass, and claim the look-backs that are due then."""
    CLOCK.ahead += int(pause)
    return await installation.host.store.write(lambda tx: connections.schedule.lease_lookbacks(tx, 10))


async def test_a_look_back_whose_host_died_is_made_again_within_minutes(looked_back: Installation) -> None:
    assert await due_after(looked_back, LOOKBACK_EVERY * SPREAD)  # claimed, and never ended
    assert not await due_after(looked_back, LOOKBACK_ENDS_WITHIN / 2)
    assert await due_after(looked_back, LOOKBACK_ENDS_WITHIN)


@pytest.mark.embedded  # in a cluster, jobs of a dead worker are done by others
async def test_a_host_that_starts_makes_the_look_back_in_which_the_last_one_died(
    looked_back: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, cafe = looked_back.host.store, looked_back.cafe
    receipt = cafe.sell(cafe.client(ANNA))
    await looked_back.sync()
    had = looked_back.stamps(ANNA)
    cafe.refund(receipt)  # nobody tells of it, and no poll shows it
    monkeypatch.setattr(PosterConnector, "poll", _no_pages)
    assert await due_after(looked_back, LOOKBACK_EVERY * SPREAD)  # claimed, and never ended
    await looked_back.host.start()
    try:
        # not at once: a host that such a look-back ends does everything else before it
        assert not await store.read(_is_made)
        CLOCK.ahead += LOOKBACK_AFTER_START
        await asyncio.to_thread(wait_for, lambda: looked_back.stamps(ANNA) < had, "the refund to be seen")
    finally:
        await looked_back.host.stop()


async def _no_pages(_self: PosterConnector, _since: object) -> AsyncIterator[SalePage]:
    for page in ():
        yield page


def _is_made(tx: Transaction) -> bool:
    made_at = tx.run(select(connection_table.c.last_lookback_at)).scalar_one()
    return bool(made_at and made_at > tx.now - MINUTE)


async def test_a_look_back_that_ended_is_made_again_within_the_hour_and_not_before(looked_back: Installation) -> None:
    (due,) = await due_after(looked_back, LOOKBACK_EVERY * SPREAD)
    await looked_back.host.reader.look_back(due)
    assert not await due_after(looked_back, HOUR / 2)
    assert await due_after(looked_back, LOOKBACK_EVERY * SPREAD - HOUR / 2)


async def test_a_till_whose_polls_see_every_change_is_looked_back_on_once_a_day(
    looked_back: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PosterConnector, "poll_sees_every_change", True)
    (due,) = await due_after(looked_back, LOOKBACK_EVERY * SPREAD)
    await looked_back.host.reader.look_back(due)
    assert not await due_after(looked_back, DAY / 2)
    # one that fails is not left for a day
    looked_back.cafe.fail_next = [999] * 3
    (due,) = await due_after(looked_back, DAY)
    await looked_back.host.reader.look_back(due)
    assert await due_after(looked_back, LOOKBACK_EVERY * SPREAD)


async def test_a_look_back_that_was_asked_for_during_another_is_made(looked_back: Installation) -> None:
    (due,) = await due_after(looked_back, LOOKBACK_EVERY * SPREAD)
    store = looked_back.host.store
    await store.write(lambda tx: connections.schedule.read_back_now(tx, due.connection.id))
    await looked_back.host.reader.look_back(due)
    assert await due_after(looked_back, 0)


async def test_no_other_look_back_begins_beside_a_long_one(
    looked_back: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    (due,) = await due_after(looked_back, LOOKBACK_EVERY * SPREAD)
    monkeypatch.setattr(till_reader, "_LEASE_EXTENDED_EVERY", 0)
    history = PosterConnector.history
    began_beside: list[DueRead] = []

    async def long_history(self: PosterConnector, since: object) -> AsyncIterator[object]:
        CLOCK.ahead += LOOKBACK_ENDS_WITHIN - 2 * MINUTE
        async for page in history(self, since):  # type: ignore[arg-type]
            yield page
            began_beside.extend(await due_after(looked_back, 5 * MINUTE))

    monkeypatch.setattr(PosterConnector, "history", long_history)
    await looked_back.host.reader.look_back(due)
    assert began_beside == []
