"""What somebody has begun in the console: kept for a while, within bounds, and readable by nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.domain.clock import MINUTE, SECOND
from connectors.store import console_items
from connectors.store.console_items import ItemKind
from connectors.store.engine import Store
from connectors.store.vault import Vault
from connectors.web.console.saved_forms import SavedForms
from connectors.web.console.sign_in_limits import AttemptDelays, TooManyAttempts
from connectors.web.console.uploads import MOST_BYTES, Upload, Uploads
from tests.databases import new_database
from tests.web.clock import MovableClock, StoppedClock

CLOCK = MovableClock()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(new_database(tmp_path), Vault("a key that only tests use"), clock=CLOCK)
    await store.open()
    yield store
    await store.close()


async def test_a_connection_has_one_file_and_nobody_else_finds_it(store: Store) -> None:
    uploads = Uploads(store)
    first = await uploads.keep(Upload("a", "1.csv", b"\x00x"))
    second = await uploads.keep(Upload("a", "2.xlsx", bytes(range(256)), "cp1251"))
    assert await uploads.find(first, "a") is None
    assert await uploads.find(second, "b") is None
    assert await uploads.find(second, "a") == Upload("a", "2.xlsx", bytes(range(256)), "cp1251")


async def test_what_is_kept_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads, forms = Uploads(store), SavedForms(store)
    upload = await uploads.keep(Upload("a", "1.csv", b"x"))
    form = await forms.save("/settings", {"title": ["Corner"]}, "198.51.100.0/24")
    assert await forms.take(form, "/rule") == {}
    assert await forms.take(form, "/settings") == {"title": ["Corner"]}
    monkeypatch.setattr(CLOCK, "ahead", 31 * MINUTE)
    assert await uploads.find(upload, "a") is None
    assert await forms.take(form, "/settings") == {}
    assert await store.write(lambda tx: console_items.sweep(tx, 10)) == 2
    assert await store.write(lambda tx: console_items.sweep(tx, 10)) == 0


async def test_newer_files_push_out_the_oldest_and_all_together_are_bounded(store: Store) -> None:
    uploads = Uploads(store)
    names = []
    for number in range(13):
        names.append(await uploads.keep(Upload(f"c{number}", "3.csv", b"x" * MOST_BYTES)))
    found = [await uploads.find(name, f"c{number}") is not None for number, name in enumerate(names)]
    assert found == [False] * 2 + [True] * 11


async def test_a_network_has_so_many_forms_saved_and_others_are_not_kept_from_it(store: Store) -> None:
    forms = SavedForms(store)
    names = [await forms.save("/settings", {"a": ["b"]}, "198.51.100.0/24") for _ in range(30)]
    assert 20 <= sum(name != "" for name in names) <= 22
    assert await forms.save("/settings", {"a": ["b"]}, "203.0.113.0/24") != ""
    assert await forms.save("/settings", {"a": ["b" * 40_000]}, "192.0.2.0/24") == ""


async def test_what_no_key_opens_any_more_is_begun_once_more(tmp_path: Path, store: Store) -> None:
    name = await Uploads(store).keep(Upload("a", "1.csv", b"x"))

    def lose_key(tx: console_items.Transaction) -> None:
        tx.run(console_items.console_item_table.update().values(content="00000000:gAAAAA"))

    await store.write(lose_key)
    assert await Uploads(store).find(name, "a") is None


async def test_nothing_of_it_stands_in_the_database_in_the_clear(store: Store) -> None:
    await SavedForms(store).save("/settings", {"token": ["861052:0239abcdef"]}, "n")
    await store.write(lambda tx: console_items.put(tx, ItemKind.upload, "n", "a", "861052:0239abcdef"))
    rows = await store.read(lambda tx: [tuple(row) for row in tx.run(console_items.console_item_table.select())])
    assert len(rows) == 2
    assert "0239abcdef" not in repr(rows)


async def test_whoever_tries_often_waits_at_every_host(tmp_path: Path) -> None:
    clock = StoppedClock()
    url = new_database(tmp_path)
    here, there = (Store(url, Vault("a key that only tests use"), clock=clock) for _ in range(2))
    await here.open()
    await there.open()
    delays = [AttemptDelays(store, "key") for store in (here, there)]
    for number in range(4):
        await delays[number % 2].count("198.51.100.7")
    for at_host in delays:
        with pytest.raises(TooManyAttempts) as refused:
            await at_host.check("198.51.100.7")
        assert refused.value.seconds == 2
    await delays[0].check("198.51.100.8")
    await AttemptDelays(there, "password").check("198.51.100.7")
    # the longest wait is five minutes, and half an hour later all is forgotten
    for _ in range(10):
        clock.moment += 5 * MINUTE
        await delays[1].count("198.51.100.7")
    with pytest.raises(TooManyAttempts) as refused:
        await delays[0].count("198.51.100.7")
    assert refused.value.seconds == 300
    # a clock that is put back makes nobody wait for longer
    clock.moment -= 3600 * SECOND
    await delays[0].check("198.51.100.7")
    clock.moment += 3600 * SECOND + 36 * MINUTE
    for _ in range(3):
        await delays[0].count("198.51.100.7")
    await delays[0].check("198.51.100.7")
    await delays[1].reset("198.51.100.7")
    stored = await here.read(lambda tx: tx.run(console_items.console_item_table.select()).all())
    assert stored == []
    for store in (here, there):
        await store.close()


async def test_of_those_who_tried_the_last_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = replace(console_items._BOUNDS[ItemKind.attempts], items=5)
    monkeypatch.setitem(console_items._BOUNDS, ItemKind.attempts, bounds)
    delays = AttemptDelays(store, "key")
    for number in range(9):
        monkeypatch.setattr(CLOCK, "ahead", number * SECOND)
        await delays.count(f"198.51.100.{number}")
    assert await store.read(lambda tx: len(tx.run(console_items.console_item_table.select()).all())) == 5
