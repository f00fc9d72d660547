"""Events of a card that members of a cluster record at the same time: they are numbered as they are committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from connectors.relay import bodies
from connectors.services import SubscriptionRequest
from connectors.store import relay
from connectors.store.engine import Store, Transaction
from connectors.store.vault import Vault
from tests.installation import build
from tests.postgresql import shared_postgresql


@pytest.fixture
def url() -> Iterator[str]:
    url = shared_postgresql().new_database()
    yield url
    shared_postgresql().drop(url)


def numbers_given(url: str) -> int:
    with psycopg.connect(url) as session:
        row = session.execute("SELECT last_value FROM relay_delivery_seq_seq").fetchone()
        assert row
        return int(row[0])


async def until_somebody_waits(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as session:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        while session.execute(waiting).fetchone() is None:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)


async def test_a_delivery_gets_its_number_when_no_other_of_its_subscriber_can_overtake_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, database_url=url, relay_hosts="127.0.0.1:9") as installation:
        await installation.connect()
        business = installation.connection.business_id
        services, here = installation.host.services, installation.host.store
        subscription = (
            await services.subscriptions.create(business, SubscriptionRequest("http://127.0.0.1:9/x"))
        ).subscription.id
        there = Store(url, Vault("a key that only tests use"))
        await there.open()
        may_commit = threading.Event()

        def record(tx: Transaction) -> int:
            return relay.deliveries.record_for(tx, bodies.test_event(business, "a test", tx.now), subscription)

        def record_slowly(tx: Transaction) -> int:
            seq = record(tx)
            may_commit.wait(20)
            return seq

        await here.write(record)
        first = asyncio.create_task(here.write(record_slowly))
        while numbers_given(url) < 2:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.01)
        second = asyncio.create_task(there.write(record))
        await until_somebody_waits(url)
        assert numbers_given(url) == 2
        may_commit.set()
        assert (await first, await second) == (2, 3)
        await there.close()
