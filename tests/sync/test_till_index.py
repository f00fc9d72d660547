"""The index that the host keeps for a connector: on disk, of one business's account, and bounded."""

from __future__ import annotations

import pytest

from connector_sdk.index import MemoryIndex
from connectors.store.connections import till_index
from connectors.store.connections.till_index import IndexOwner
from connectors.sync.tills import Tills
from tests.installation import Installation


async def test_what_a_connector_notes_is_there_for_the_next_one_of_the_same_account(installation: Installation) -> None:
    connection, host = await installation.connect(), installation.host
    first = host.tills.of(connection)
    for value in ("r2", "r1", "r2"):
        await first.index.add("sale-1", value)
    again = Tills(host.tills.classes, host.store).of(connection)
    assert again is not first
    assert set(await again.index.values("sale-1")) == {"r1", "r2"}
    assert await again.index.values("sale-2") == ()
    # another business's connection to the same account finds nothing of it
    theirs = IndexOwner("somebody", connection.connector, connection.account.id)
    assert await host.store.read(lambda tx: till_index.values(tx, theirs, "sale-1")) == ()


async def test_an_index_is_bounded_and_the_oldest_go(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(till_index, "MOST_VALUES", 10)
    monkeypatch.setattr(till_index, "_SWEPT_AT_ONCE", 2)
    index = installation.host.tills.of(await installation.connect()).index
    for number in range(40):
        await index.add(f"sale-{number}", "r")
    kept = [number for number in range(40) if await index.values(f"sale-{number}")]
    assert 10 <= len(kept) <= 12
    assert kept[-1] == 39
    assert kept == list(range(kept[0], 40))


@pytest.mark.parametrize(("key", "value"), [("", "r"), ("k", ""), ("k" * 129, "r"), ("k", "v" * 129)])
async def test_what_is_too_long_is_refused(installation: Installation, key: str, value: str) -> None:
    for index in (installation.host.tills.of(await installation.connect()).index, MemoryIndex()):
        with pytest.raises(ValueError, match="128"):
            await index.add(key, value)
