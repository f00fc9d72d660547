"""What a database server said is committed is there after it failed, also where its settings promise less."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from connectors.store import counters, engines
from connectors.store.engine import Store, Transaction
from connectors.store.vault import Vault
from tests.installation import build
from tests.postgresql import PostgresServer, running_postgresql


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with running_postgresql() as server:
        yield server


async def test_what_was_committed_outlives_a_server_that_acknowledges_commits_too_early(server: PostgresServer) -> None:
    url = server.new_database()
    with psycopg.connect(url) as session:
        assert session.execute("SHOW synchronous_commit").fetchone() == ("off",)
    store = Store(url, Vault("a key that only tests use"))
    await store.open()
    await store.write(lambda tx: counters.set_counters(tx, {"committed": 7}))
    server.stop("immediate")
    server.start()
    await store.close()
    again = Store(url, Vault("a key that only tests use"))
    await again.open()
    assert (await again.read(counters.read_counters))["committed"] == 7
    await again.close()


async def test_a_transaction_that_the_server_ended_because_its_process_stood_still_is_made_once_more(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_IDLE_MILLISECONDS", 100)
    store = Store(server.new_database(), Vault("a key that only tests use"))
    await store.open()
    tries = []

    def stand_still(tx: Transaction) -> None:
        tries.append(tx)
        counters.set_counters(tx, {"tries": len(tries)})
        time.sleep(0.5 if len(tries) == 1 else 0)

    await store.write(stand_still)
    assert (await store.read(counters.read_counters))["tries"] == len(tries) == 2
    await store.close()


@pytest.mark.parametrize("application", ["7stamp connectors", "7stamp connectors worker"])
def test_a_server_finds_out_within_seconds_that_a_client_is_gone(server: PostgresServer, application: str) -> None:
    # one that does not keeps its rows locked: the network under fire cuts such a client off, and kills it then
    with psycopg.connect(make_conninfo(server.new_database(), **engines.server_arguments(application))) as session:
        names = "idle", "interval", "count"
        asked = [session.execute(f"SHOW tcp_keepalives_{name}".encode()).fetchone() for name in names]
        assert asked == [("5",), ("2",), ("3",)]
        assert session.execute("SHOW tcp_user_timeout").fetchone() == ("10000",)
        assert session.execute("SHOW lock_timeout").fetchone() == ("15s",)


async def test_settings_of_the_server_that_lose_data_are_named(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, database_url=server.new_database()) as installation:
        findings = await installation.host.database_findings()
    assert [finding.text.partition(":")[0] for finding in findings] == [
        "the database server runs with fsync = off",
        "the database server runs with full_page_writes = off",
    ]
