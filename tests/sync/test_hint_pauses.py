"""A till that shows less than it has said is asked again with growing pauses, and in the end no more."""

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
    installation = VirtualInstallation()
    yield installation
    installation.end()


@pytest.fixture
def fetched_ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The receipts that the till was asked for, in order."""
    receipt_ids: list[str] = []
    original_fetch = ModelTill.fetch

    async def fetch(self: ModelTill, receipt_id: str) -> Sale | None:
        receipt_ids.append(receipt_id)
        return await original_fetch(self, receipt_id)

    monkeypatch.setattr(ModelTill, "fetch", fetch)
    return receipt_ids


async def follow_hints(installation: VirtualInstallation, connection_id: str, seconds: int) -> None:
    """Follow the hints of a connection as they come due, for so many seconds."""
    end = installation.clock.now() + seconds * 10**6
    host = installation.host
    while installation.clock.now() < end:
        claimed = await host.store.write(lambda tx: inbox.hints.lease(tx, 100, connection_id))
        if claimed:
            await host.reader.follow_hints(await host.services.connections.get(connection_id), claimed)
        else:
            await asyncio.sleep(1 if seconds < 3600 else 60)


async def count_lines(installation: VirtualInstallation, connection_id: str, text: str) -> int:
    """Count the lines of the journal that hold a text."""
    lines = await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, connection_id))
    return sum(text in installation.host.words.word(line.message) for line in lines)


async def push(installation: VirtualInstallation, connection_id: str, pushed: Sale) -> Outcome:
    """Ingest a sale as a hook that carries it whole; return its outcome."""
    connection = await installation.host.services.connections.get(connection_id)
    (outcome,) = await installation.host.ingestor.ingest([Snapshot(connection, pushed, Source.push, None)])
    return outcome


def test_a_till_that_lags_behind_its_own_push_is_asked_with_growing_pauses(
    installation: VirtualInstallation, fetched_ids: list[str]
) -> None:
    async def run_scenario() -> None:
        await installation.open()
        connection_id = await installation.connect()
        closed = installation.clock.now()
        ModelTill.receipts = {"r1": sale("r1", closed=closed, version=1)}
        assert (
            await push(installation, connection_id, sale("r1", closed=closed, paid=2000, version=2)) is Outcome.stored
        )
        assert await push(installation, connection_id, sale("r1", closed=closed, version=1)) is Outcome.lost
        await follow_hints(installation, connection_id, 600)
        assert len(fetched_ids) == 6  # at once, and 2, 5, 15, 60 and 300 seconds after one another
        assert await count_lines(installation, connection_id, "an older state of it arrived") == 1
        ModelTill.receipts = {"r1": sale("r1", closed=closed, paid=2000, version=2)}
        await follow_hints(installation, connection_id, 3600)
        assert len(fetched_ids) == 7
        assert await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id)) == 0

    installation.run(run_scenario())


def test_a_till_whose_versions_shrink_is_asked_no_more_after_three_days(
    installation: VirtualInstallation, fetched_ids: list[str]
) -> None:
    async def run_scenario() -> None:
        host = await installation.open()
        connection_id = await installation.connect()
        closed = installation.clock.now()
        ModelTill.receipts = {"r1": sale("r1", closed=closed, version=5)}
        await host.services.sync.run(connection_id)
        ModelTill.receipts = {"r1": sale("r1", closed=closed, refunded=500, version=3)}
        await host.services.sync.run(connection_id)  # it ends
        assert len(fetched_ids) == 1
        for _ in range(4):
            await follow_hints(installation, connection_id, DAY)
            await host.services.sync.run(connection_id)
        assert len(fetched_ids) < 90
        assert await count_lines(installation, connection_id, "asked for three days") == 1
        fetches = len(fetched_ids)
        for _ in range(2):  # it says so again at every reading, and is not asked for it again
            await host.services.sync.run(connection_id)
            await follow_hints(installation, connection_id, DAY)
        assert len(fetched_ids) == fetches
        assert await host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id)) == 0

    installation.run(run_scenario())


def test_another_hook_makes_a_receipt_due_at_once(installation: VirtualInstallation, fetched_ids: list[str]) -> None:
    async def run_scenario() -> None:
        await installation.open()
        connection_id = await installation.connect()
        closed = installation.clock.now()
        ModelTill.receipts = {}
        closed_sale = sale("r1", closed=closed)
        assert await push(installation, connection_id, closed_sale) is Outcome.hinted  # no version: the till is asked
        await follow_hints(installation, connection_id, 200)
        fetches = len(fetched_ids)
        ModelTill.receipts = {"r1": closed_sale}
        assert await push(installation, connection_id, closed_sale) is Outcome.hinted
        await follow_hints(installation, connection_id, 1)
        assert len(fetched_ids) == fetches + 1
        assert await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id)) == 0

    installation.run(run_scenario())
