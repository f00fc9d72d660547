"""A till that shows less than it said is asked again with growing pauses, and in the end no more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from connector_sdk import Sale
from connectors.store import inbox, ledger
from connectors.sync.ingest import Outcome, Snapshot, Source
from tests.model import ModelTill, VirtualInstallation, sale

DAY = 86_400


@pytest.fixture
def installation() -> Iterator[VirtualInstallation]:
    made = VirtualInstallation()
    yield made
    made.end()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which receipts the till was asked for."""
    calls: list[str] = []
    ask = ModelTill.fetch

    async def fetch(self: ModelTill, receipt_id: str) -> Sale | None:
        calls.append(receipt_id)
        return await ask(self, receipt_id)

    monkeypatch.setattr(ModelTill, "fetch", fetch)
    return calls


async def follow(installation: VirtualInstallation, connection_id: str, seconds: int) -> None:
    """Follow the hints of a connection as they come due, for so many seconds."""
    end = installation.clock.now() + seconds * 10**6
    host = installation.host
    while installation.clock.now() < end:
        claimed = await host.store.write(lambda tx: inbox.hints.claim(tx, 100, connection_id))
        if claimed:
            await host.reader.follow_hints(await host.services.connections.get(connection_id), claimed)
        else:
            await asyncio.sleep(1 if seconds < 3600 else 60)


async def lines(installation: VirtualInstallation, connection_id: str, text: str) -> int:
    """How many lines of the journal hold a text."""
    found = await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, connection_id))
    return sum(text in installation.host.words.word(line.message) for line in found)


async def push(installation: VirtualInstallation, connection_id: str, new: Sale) -> Outcome:
    connection = await installation.host.services.connections.get(connection_id)
    (outcome,) = await installation.host.ingestor.ingest([Snapshot(connection, new, Source.push, None)])
    return outcome


def test_a_till_that_lags_behind_its_own_push_is_asked_with_growing_pauses(
    installation: VirtualInstallation, asked: list[str]
) -> None:
    async def story() -> None:
        await installation.open()
        connection_id = await installation.connect()
        closed = installation.clock.now()
        ModelTill.receipts = {"r1": sale("r1", closed=closed, version=1)}
        assert (
            await push(installation, connection_id, sale("r1", closed=closed, paid=2000, version=2)) is Outcome.stored
        )
        assert await push(installation, connection_id, sale("r1", closed=closed, version=1)) is Outcome.lost
        await follow(installation, connection_id, 600)
        assert len(asked) == 6  # at once, and 2, 5, 15, 60 and 300 seconds after one another
        assert await lines(installation, connection_id, "an older state of it arrived") == 1
        ModelTill.receipts = {"r1": sale("r1", closed=closed, paid=2000, version=2)}
        await follow(installation, connection_id, 3600)
        assert len(asked) == 7
        assert await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id)) == 0

    installation.run(story())


def test_a_till_whose_versions_shrink_is_asked_no_more_after_three_days(
    installation: VirtualInstallation, asked: list[str]
) -> None:
    async def story() -> None:
        host = await installation.open()
        connection_id = await installation.connect()
        closed = installation.clock.now()
        ModelTill.receipts = {"r1": sale("r1", closed=closed, version=5)}
        await host.services.sync.run(connection_id)
        ModelTill.receipts = {"r1": sale("r1", closed=closed, refunded=500, version=3)}
        await host.services.sync.run(connection_id)  # it ends
        assert len(asked) == 1
        for _ in range(4):
            await follow(installation, connection_id, DAY)
            await host.services.sync.run(connection_id)
        assert len(asked) < 90
        assert await lines(installation, connection_id, "asked for three days") == 1
        calls = len(asked)
        for _ in range(2):  # it says so again at every reading, and is not asked for it again
            await host.services.sync.run(connection_id)
            await follow(installation, connection_id, DAY)
        assert len(asked) == calls
        assert await host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id)) == 0

    installation.run(story())


def test_a_hook_makes_a_receipt_due_at_once_again(installation: VirtualInstallation, asked: list[str]) -> None:
    async def story() -> None:
        await installation.open()
        connection_id = await installation.connect()
        closed = installation.clock.now()
        ModelTill.receipts = {}
        late = sale("r1", closed=closed)
        assert await push(installation, connection_id, late) is Outcome.hinted  # no version: the till is asked
        await follow(installation, connection_id, 200)
        before = len(asked)
        ModelTill.receipts = {"r1": late}
        assert await push(installation, connection_id, late) is Outcome.hinted
        await follow(installation, connection_id, 1)
        assert len(asked) == before + 1
        assert await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id)) == 0

    installation.run(story())
