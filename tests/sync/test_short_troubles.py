"""A trouble of seconds costs seconds: whoever asks often while it lasts does not have everybody wait for an hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import pytest

from connector_sdk import SalePage, TillUnavailable
from connectors.sevenstamp.sandbox.faults import Faults
from connectors.store import connections
from tests.model import ModelTill, VirtualInstallation, sale

PHONE = "+380501110001"


@pytest.fixture
def installation() -> Iterator[VirtualInstallation]:
    installation = VirtualInstallation()
    ModelTill.receipts = {}
    yield installation
    installation.end()


def test_a_till_that_is_asked_by_hand_while_it_is_away_is_read_by_itself_a_minute_later(
    installation: VirtualInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def is_away(_self: ModelTill, _since: datetime) -> AsyncIterator[SalePage]:
        raise TillUnavailable
        yield

    async def run_scenario() -> None:
        await installation.open()
        connection_id = await installation.connect()
        host = installation.host
        await host.services.sync.run(connection_id)
        with monkeypatch.context() as patched:
            patched.setattr(ModelTill, "poll", is_away)
            for _ in range(8):
                await asyncio.sleep(1)
                await host.services.sync.run(connection_id)
        assert (await host.services.connections.get(connection_id)).failures >= 8
        await asyncio.sleep(70)  # a minute, and its spread
        (due,) = await host.store.write(lambda tx: connections.schedule.lease_polls(tx, 10))
        await host.reader.poll(due)
        assert (await host.services.connections.get(connection_id)).failures == 0

    installation.run(run_scenario())


def test_a_customer_who_buys_often_while_7stamp_is_away_has_the_stamps_seconds_after_it_is_back(
    installation: VirtualInstallation,
) -> None:
    async def run_scenario() -> None:
        await installation.open()
        connection_id = await installation.connect()
        host = installation.host
        installation.sandbox.faults = Faults(status_500=1.0)
        for number in range(8):
            await asyncio.sleep(0.5)
            receipt = f"r{number}"
            ModelTill.receipts[receipt] = sale(receipt, closed=installation.clock.now(), customer=PHONE)
            await host.services.sync.run(connection_id)
        assert installation.sandbox.state.cards == {}
        installation.sandbox.faults = Faults()
        await asyncio.sleep(5.1)
        assert await host.identifier.round() == 8
        await host.services.sync.run(connection_id)
        assert installation.stamps_by_phone() == {PHONE: 8}

    installation.run(run_scenario())
