"""A database that takes nothing for a while, full or read-only: nothing is lost, and nothing is given twice."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from connectors.sevenstamp.client import SevenStamp
from connectors.store.engine import Transaction
from connectors.store.errors import StoreError
from connectors.store.schema import counter_table
from tests.installation import ANNA, Installation

pytestmark = pytest.mark.embedded

FULL = ("max_page_count = 1", "max_page_count = 1073741823", "the disk is full")
READ_ONLY = ("query_only = 1", "query_only = 0", "the database can only be read")
outages = pytest.mark.parametrize(("begins", "ends", "sentence"), [FULL, READ_ONLY], ids=["full", "read-only"])


async def bound(installation: Installation, pragma: str) -> None:
    """Set a bound of SQLite's on the writer's own connection, outside a transaction; use up what room is left."""
    store = installation.host.store
    session = store._engine.raw_connection()  # the one that the pool keeps: nobody writes now
    session.driver_connection.execute(f"PRAGMA {pragma}")  # type: ignore[union-attr]
    session.close()
    with contextlib.suppress(StoreError):
        for number in range(1000 if pragma == FULL[0] else 0):
            await store.write(lambda tx, number=number: use_room(tx, number))  # type: ignore[misc]


def use_room(tx: Transaction, number: int) -> None:
    tx.run(counter_table.insert(), {"name": f"{number}{'x' * 3000}", "value": 1})


def sell(installation: Installation) -> int:
    """Sell so much that the receipt needs pages of its own."""
    cafe = installation.cafe
    receipt = cafe.open(cafe.client(ANNA))
    for _ in range(60):
        cafe.add(receipt, "161")
    cafe.close(receipt, paid=2750)
    return int(receipt)


async def test_a_hook_is_refused_while_nothing_can_be_stored(installation: Installation) -> None:
    begins, ends, _ = READ_ONLY
    await installation.connect()
    hook = installation.cafe.hook(sell(installation), "closed")
    await bound(installation, begins)
    assert (await installation.hook(hook)).status_code == 503
    await bound(installation, ends)
    assert (await installation.hook(hook)).status_code == 200
    await installation.sync()
    assert installation.stamps(ANNA) == 1


@outages
async def test_a_receipt_that_cannot_be_stored_is_read_again(
    installation: Installation, begins: str, ends: str, sentence: str
) -> None:
    await installation.connect()
    sell(installation)
    await bound(installation, begins)
    with pytest.raises(StoreError, match=sentence):
        await installation.sync()
    assert installation.applied() == []
    await bound(installation, ends)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_a_stamp_whose_answer_cannot_be_written_down_is_given_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, ends, sentence = READ_ONLY
    await installation.connect()
    sell(installation)
    exchange = SevenStamp.exchange

    async def then_nothing_is_stored(self: SevenStamp, method: str, path: str, **more: Any) -> Any:
        answer = await exchange(self, method, path, **more)
        if path.endswith("/stamps"):
            await bound(installation, begins)
        return answer

    monkeypatch.setattr(SevenStamp, "exchange", then_nothing_is_stored)
    with pytest.raises(StoreError, match=sentence):
        await installation.sync()
    (operation,) = await installation.operations()
    # as it was before the call: nothing could be written of what came of it
    assert (operation.state, installation.stamps(ANNA)) == ("sending", 1)
    monkeypatch.setattr(SevenStamp, "exchange", exchange)
    await bound(installation, ends)
    await installation.sync()
    (operation,) = await installation.operations()
    assert (operation.state, len(installation.applied("stamps_added"))) == ("applied", 1)
