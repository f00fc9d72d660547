"""An installation moves from its file to a server: killed on the way again and again, both sides agree in the end."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connector_sdk.messages import Message
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.store import ledger
from tests.installation import ANNA, Installation, build
from tests.postgresql import shared_postgresql
from tests.processes import KILLS, ForkedCommand, run, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.embedded]
SECRET = "a key that only tests use"
RECEIPTS = int(os.environ.get("MOVED_RECEIPTS", "4000"))


@pytest.fixture
def server() -> Iterator[str]:
    url = shared_postgresql().new_database(empty=True)
    yield url
    shared_postgresql().drop(url)


def multiply(file: Path, times: int) -> None:
    """Copy the one receipt of a ledger, with all that belongs to it, so many times."""
    with sqlite3.connect(file) as database:
        for table, keys in (
            ("sale", ("id", "receipt_id")),
            ("sale_version", ("sale_id",)),
            ("operation", ("id", "sale_id", "receipt_id", "code", "key")),
            ("journal", ("sale_id", "receipt_id")),
        ):
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != "seq"]
            values = [f"{name} || '-copy-' || copies.copy" if name in keys else f'"{name}"' for name in names]
            columns = ", ".join(f'"{name}"' for name in names)
            database.execute(
                f"INSERT INTO {table} ({columns}) WITH RECURSIVE copies(copy) AS (VALUES (1) UNION ALL "
                f"SELECT copy + 1 FROM copies WHERE copy < {times}) "
                f"SELECT {', '.join(values)} FROM {table}, copies WHERE {keys[0]} NOT LIKE '%-copy-%'"
            )


async def filled(folder: Path, monkeypatch: pytest.MonkeyPatch, receipts: int) -> Installation:
    async with build(folder, monkeypatch) as installation:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.sync()
        await installation.host.store.clear_log()
    multiply(folder / "ledger.db", receipts - 1)
    return installation


def env_of(folder: Path) -> dict[str, str]:
    return {"CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}", "CONNECTORS_SECRET_KEY": SECRET}


async def test_a_move_that_is_killed_again_and_again_ends_with_both_sides_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    installation = await filled(tmp_path, monkeypatch, RECEIPTS)
    for number in range(KILLS):
        assert await asyncio.to_thread(move_and_kill, tmp_path, server, number), "it was over before it was killed"
    moved = run(["move", "--to", server, "--json"], env_of(tmp_path), timeout=600)
    assert moved.returncode == 0, moved.stderr
    tables = {table["table"]: table for table in json.loads(moved.stdout)["tables"]}
    assert all(table["here"] == table["there"] for table in tables.values())
    assert tables["sale"]["there"] == tables["operation"]["there"] == RECEIPTS
    await goes_on(installation, server)


def move_and_kill(folder: Path, server: str, seed: int) -> bool:
    """Begin a move, or go on with it, and kill it soon after it has copied something; say whether it still ran."""
    rows, chance = copied(server), random.Random(seed)
    process = ForkedCommand(["move", "--to", server], env_of(folder), folder / "move.log", folder / "move.log")
    wait_for(lambda: process.poll() is not None or copied(server) > rows, "something to be copied", pause=0.01)
    time.sleep(chance.uniform(0, 0.05))  # the moment is the point: nothing is waited for
    is_running = process.poll() is None
    process.kill()
    process.wait(10)
    return is_running


async def goes_on(installation: Installation, server: str) -> None:
    """The server's database is a working installation: receipts that come now are numbered on, and given once."""
    settings = Settings(**{**installation.settings.model_dump(), "database_url": server})
    async with Host(settings) as host:
        store, connection = host.store, installation.connection
        found = await store.read(lambda tx: ledger.sales.ids_closed_since(tx, connection.id, 0))
        assert len(found) == RECEIPTS
        await store.write(lambda tx: ledger.journal.write(tx, connection.id, Message("connection.rule")))
        newest = await store.read(lambda tx: ledger.journal.of_connection(tx, connection.id))
        assert newest[-1].seq > RECEIPTS


def copied(server: str) -> int:
    with psycopg.connect(server) as session:
        if session.execute("SELECT to_regclass('setting')").fetchone() == (None,):
            return 0
        found = session.execute("SELECT value FROM setting WHERE name LIKE 'moving: %'").fetchall()
    return sum(json.loads(value)["rows"] for (value,) in found)


async def test_a_file_that_was_moved_is_not_used_by_mistake_and_can_be_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    await filled(tmp_path, monkeypatch, 10)
    env = env_of(tmp_path)
    address = tmp_path / "address"
    address.write_text(f"{server.replace('tests@', 'tests:hidden-1@')}?application_name=hidden-2\n")
    moved = run(["move", "--to", f"@{address}"], env)
    assert "tables agree in number and content" in moved.stdout, moved.stderr
    for secret in ("tests@", "hidden-1", "hidden-2"):
        assert secret not in moved.stdout + moved.stderr
    refused = run(["connection", "list"], env)
    assert refused.returncode == 1
    assert "this installation was moved to 127.0.0.1:" in refused.stderr
    assert "nothing to undo" not in run(["move", "--back", "--yes"], env).stdout
    assert run(["connection", "list"], env).returncode == 0
    again = run(["move", "--to", server], env)
    assert "holds another installation" in again.stderr


async def test_a_difference_is_found_and_nothing_is_switched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    await filled(tmp_path, monkeypatch, 10)
    env, mover = env_of(tmp_path), _mover(tmp_path, server)
    mover.prepare()
    mover.copy(lambda _done, _total: None)
    with psycopg.connect(server) as session:
        session.execute("UPDATE operation SET count = count + 1 WHERE n = 1 AND seq = 1")
    refused = run(["move", "--to", server], env)
    assert "both sides differ in operation: nothing was switched" in refused.stderr
    assert run(["connection", "list"], env).returncode == 0
    mover.close()


def _mover(folder: Path, server: str) -> Any:
    from connectors.store.moving import Move
    from connectors.store.vault import Vault

    return Move(env_of(folder)["CONNECTORS_DATABASE_URL"], server, Vault(SECRET))


def test_a_move_goes_from_a_file_to_a_server(tmp_path: Path, server: str) -> None:
    on_server = {"CONNECTORS_DATABASE_URL": server, "CONNECTORS_SECRET_KEY": SECRET}
    assert "on a database server already" in run(["move", "--to", server], on_server).stderr
    other = run(["move", "--to", f"sqlite:///{tmp_path / 'y.db'}"], env_of(tmp_path))
    assert "a move goes from a database in a file to a database server" in other.stderr


async def test_a_move_that_ends_between_its_last_two_steps_leaves_no_side_in_use_and_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    await filled(tmp_path, monkeypatch, 10)
    env, mover = env_of(tmp_path), _mover(tmp_path, server)
    on_server = {"CONNECTORS_DATABASE_URL": server, "CONNECTORS_SECRET_KEY": SECRET}
    mover.prepare()
    mover.copy(lambda _done, _total: None)
    assert "is being moved into this database" in run(["connection", "list"], on_server).stderr
    monkeypatch.setattr(mover, "finish", lambda: None)
    assert all(table.agrees for table in mover.switch(lambda _done, _total: None, "elsewhere"))
    assert "is being moved into this database" in run(["connection", "list"], on_server).stderr
    assert "was moved to elsewhere" in run(["connection", "list"], env).stderr
    finished = run(["move", "--to", server], env)
    assert finished.returncode == 0, finished.stderr
    assert run(["connection", "list"], on_server).returncode == 0
    assert "was moved to elsewhere" in run(["connection", "list"], env).stderr
    mover.close()


async def test_nothing_is_written_to_the_file_while_both_sides_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    await filled(tmp_path, monkeypatch, 10)
    mover, refused = _mover(tmp_path, server), []
    mover.prepare()
    mover.copy(lambda _done, _total: None)

    def write(_done: int, _total: int) -> None:
        with sqlite3.connect(tmp_path / "ledger.db", timeout=0) as database:
            try:
                database.execute("UPDATE connection SET title = 'changed'")
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    mover.switch(write, "elsewhere")
    assert set(refused) == {"database is locked"}
    mover.close()
