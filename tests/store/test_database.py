"""The database: its schema on SQLite and PostgreSQL, commits shared by many, faults that stay their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from connectors.store import hints, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreBusy, StoreError, WrongKey
from connectors.store.schema import counter, metadata
from connectors.store.vault import Vault
from tests.model import World, sale

VAULT = Vault("a key that only tests use")


def differences(url: str) -> list[Any]:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as session:
        found = compare_metadata(MigrationContext.configure(session), metadata)
    engine.dispose()
    return list(found)


def test_migrations_bring_sqlite_to_the_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    Store(url, VAULT).prepare()
    Store(url, VAULT).prepare()
    assert differences(url) == []
    with sqlite3.connect(tmp_path / "x.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own on a free port of loopback."""
    homes = [Path(initdb).parent for initdb in (shutil.which("initdb"),) if initdb]
    homes += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not homes:
        if os.environ.get("CI"):
            pytest.fail("CI must have PostgreSQL: .ci/run installs it")
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgresql")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    as_user: dict[str, Any] = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        as_user = {"user": "nobody"}
        for one in (folder, *folder.parents):
            if one.stat().st_uid == 0 and one != Path("/") and one != Path("/tmp"):
                one.chmod(one.stat().st_mode | 0o755)
        folder.chmod(0o777)
    data = folder / "data"
    subprocess.run(
        [homes[0] / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-N"],
        check=True, capture_output=True, cwd=folder, **as_user,
    )  # fmt: skip
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
    control = [homes[0] / "pg_ctl", "-D", data, "-w"]
    log = folder / "log"
    subprocess.run(
        [*control, "-o", options, "-l", log, "start"], check=True, capture_output=True, cwd=folder, **as_user
    )
    try:
        yield f"postgresql+psycopg://tests@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd=folder, **as_user)


@pytest.mark.slow
@pytest.mark.xdist_group("postgresql")
def test_postgresql_takes_the_schema_and_the_way_of_a_sale_unchanged(postgresql: str) -> None:
    Store(postgresql, VAULT).prepare()
    assert differences(postgresql) == []
    world = World()
    world.url = postgresql
    try:
        world.run(_a_sale(world))
    finally:
        world.end()


async def _a_sale(world: World) -> None:
    from connectors.sync.ingest import Arrival, Source

    host = await world.open()
    connection_id = await world.connect()
    one = await host.desk.get(connection_id)
    closed = world.clock.now()
    await host.store.write(lambda tx: hints.leave(tx, [hints.NewHint(connection_id, "r1", True)] * 2))
    for ticket, paid in ((1, 1000), (2, 0)):
        ticket = await host.store.write(lambda tx: ledger.tickets(tx, 1))
        new = sale("r1", closed=closed, refunded=1000 - paid)
        await host.door.ingest([Arrival(one, new, Source.poll, ticket)])
        assert host.identifier is not None
        assert host.deliverer is not None
        await host.identifier.round()
        await host.deliverer.drain()
    kinds = [o["kind"] for o in world.sandbox.state.operations]
    assert kinds == ["card_issued", "stamps_added", "stamps_reversed"]


def _add(tx: Transaction, names: Any) -> list[str]:
    if "poison" in names:
        raise ValueError("poison")
    tx.run(counter.insert(), [{"name": name, "value": 1} for name in names])
    return [f"{name} of {len(names)}" for name in names]


async def test_arrivals_of_many_are_committed_together_and_a_fault_stays_its_own(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    names = [*(f"n{number}" for number in range(100)), "poison"]
    results = await asyncio.gather(*(store.gather(_add, name) for name in names), return_exceptions=True)
    assert isinstance(results[-1], ValueError)
    assert len(await store.read(ledger.counters)) == 100
    await store.close()


async def test_work_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()

    def work(tx: Transaction) -> None:
        ledger.count_up(tx, "half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await store.write(work)
    assert await store.read(ledger.counters) == {}
    await store.close()


async def test_an_error_of_the_database_does_not_say_what_a_statement_was_given(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    twice = [{"name": "+380501112233", "value": 1}] * 2
    with pytest.raises(sqlalchemy.exc.IntegrityError) as raised:
        await store.write(lambda tx: tx.run(counter.insert(), twice))
    assert "380501112233" not in str(raised.value)
    await store.close()


async def test_a_full_disk_is_a_plain_sentence(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()

    def fill(tx: Transaction) -> None:
        tx.run(sqlalchemy.text("PRAGMA max_page_count = 1"))
        tx.run(counter.insert(), [{"name": "x" * 1000 + str(n), "value": 1} for n in range(1000)])

    with pytest.raises(StoreBusy, match="the disk is full: nothing was written"):
        await store.write(fill)
    assert await store.read(ledger.counters) == {}
    await store.close()


async def test_a_locked_database_is_a_plain_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.store.engine._BUSY_MILLISECONDS", 100)
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    with sqlite3.connect(tmp_path / "x.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another process"):
            await store.write(lambda tx: ledger.count_up(tx, "x"))
        other.execute("ROLLBACK")
    await store.write(lambda tx: ledger.count_up(tx, "x"))
    await store.close()


def test_a_file_that_is_no_database_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT).prepare()


def test_the_vault_tells_keys_apart() -> None:
    kept = VAULT.encrypt("secret")
    assert "secret" not in kept
    assert VAULT.decrypt(kept) == "secret"
    assert VAULT.hash("a", "b") != VAULT.hash("ab") != VAULT.hash("a\x1fb", "")
    with pytest.raises(WrongKey, match=VAULT.key_id):
        Vault("another key, long enough").decrypt(kept)
    with pytest.raises(StoreError, match="too short"):
        Vault("short")
