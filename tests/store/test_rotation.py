"""Keys are changed while everything goes on, and however often the change is killed."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connector_sdk.authorisation import Grant
from connector_sdk.errors import BadPayload
from connector_sdk.hooks import HookRequest
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.relay import DeliveryState
from connectors.relay import bodies
from connectors.runtime.host import Host
from connectors.services import rotate_command
from connectors.settings import Settings
from connectors.store import access, connections, console_items, inbox, ledger, relay, rotation, vault
from connectors.store.connections.subscriptions import Subscription
from connectors.store.console_items import ItemKind
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError, WrongKey
from connectors.store.schema import metadata
from connectors.store.vault import KeyFile, Vault
from connectors.sync import lifecycle
from connectors.sync.vouchers import WantedVoucher
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.processes import KILLS, forking
from tests.served_installation import keep_passkey
from tests.store import rotating
from tests.store.test_redeem_codes import CODE, a_voucher, bytes_in
from tests.web.browser import Browsers, open_browsers
from tests.web.test_teaching_pages import SALE, begun

STRONG = "fC2b7xq0LrW9uYt1sKeZ5hVnJ8mDgPaQ"
OTHER = "Zk4w8Rj2mXs6Tn0cBv9LyHq3FdGp7UeA"
OPERATOR = access.sessions.Principal(None, "", "UTC", "operator", KEY)


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """A cafe whose key is in a file, with something in every column that is encrypted."""
    async with build(tmp_path, monkeypatch, secret_key=None) as filled:
        await _fill(filled)
        yield filled


async def _fill(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    await a_voucher(installation)
    installation.cafe.sell(installation.cafe.client(ANNA), comment=CODE)
    installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()
    connection_id, store = installation.connection.id, installation.host.store
    await store.write(lambda tx: connections.alerts.set_email(tx, connection_id, "anna@example.com", "en"))
    async with open_browsers(installation) as browsers:
        mine = await browsers.new().sign_in()
        await mine.post("/devices/link")
        _, address = await begun(mine)
        assert (await installation.hook(json.dumps(SALE).encode(), path=address)).status_code == 200
        await mine.client.aclose()
    await store.write(lambda tx: _keep_bodies(tx, connection_id))
    grant = Grant({"access_token": SecretStr(installation.cafe.token)})
    await store.write(lambda tx: lifecycle.authorise(tx, connection_id, grant, None))
    subscription = Subscription("https://host.test/hooks/tills/poster/x", SecretStr("the till's key"))
    await store.write(lambda tx: connections.subscriptions.record(tx, connection_id, subscription))
    business = installation.connection.business_id
    await store.write(lambda tx: connections.loyalty_sources.renew_secret(tx, business))
    event = inbox.loyalty_events.NewEvent(business, "msg_1", None, b"no event")
    await store.write(lambda tx: inbox.loyalty_events.keep(tx, [event]))
    await store.write(lambda tx: _relay(tx, business))
    await installation.host.services.cards.issue_voucher(business, WantedVoucher(title="A cake"))
    await installation.host.store.write(lambda tx: ledger.voucher_states.learn(tx, business, ["CAKE-ZZ1"]))
    answer = access.api_tokens.StoredAnswer("digest", 201, "{}")
    await store.write(lambda tx: access.api_tokens.keep_answer(tx, "tok_1", "key", answer))
    await store.write(lambda tx: access.sessions.make_link(tx, OPERATOR))
    session = await store.write(
        lambda tx: access.sessions.begin(tx, OPERATOR, device="x", remembered=False, lives=2**40)
    )
    await store.write(
        lambda tx: access.sessions.ask_consent(
            tx, _there(access.sessions.find(tx, session, 2**40)), {"connector": "poster"}
        )
    )
    await store.write(lambda tx: inbox.captured.keep(tx, connection_id, HookRequest("POST", {"x": "y"}, {}, b"{}")))
    await store.write(lambda tx: console_items.put(tx, ItemKind.form, "n", "/settings", "typed"))
    cafe = access.sessions.Principal(installation.connection.business_id, "Cafe", "Europe/Kyiv", "till", KEY)
    await keep_passkey(installation.host, cafe, "phone")
    await store.write(lambda tx: _invite(tx, cafe))


def _invite(tx: Transaction, cafe: access.sessions.Principal) -> None:
    colleague = access.colleagues.add(tx, str(cafe.business_id), "Dana", access.sessions.StaffRole.counter, cafe.login)
    access.colleagues.invite(tx, _there(colleague), cafe)
    phone = access.push_devices.PushAddress("https://push.example/1", "public", "auth")
    owner = access.push_devices.PushOwner(str(cafe.business_id), None, "session", None)
    access.push_devices.add(tx, owner, phone, "Phone", language="en", zone="UTC")


def _relay(tx: Transaction, business_id: str) -> None:
    """A subscription with a renewed secret, and an event that it has answered."""
    content = relay.subscriptions.SubscriptionContent("https://host.test/hook", "host.test", ("test",))
    subscription = relay.subscriptions.insert(tx, business_id, content)
    relay.subscriptions.renew_secret(tx, subscription)
    event = bodies.test_event(business_id, "a test", tx.now)
    relay.deliveries.record_for(tx, event, subscription)
    (delivery,) = relay.deliveries.claim(tx, subscription, 1)
    attempt = relay.deliveries.Attempt(1, tx.now, 5, 500, None, "no")
    relay.deliveries.settle(tx, [relay.deliveries.Tried(delivery, DeliveryState.pending, attempt)])


def _keep_bodies(tx: Transaction, connection_id: str) -> None:
    for number in range(100):
        body = b'{"number":%d}' % number
        inbox.unreadable.keep(
            tx, connection_id, None, body, BadPayload("paid", "is missing"), inbox.unreadable.Origin.hook
        )


def _there(value: Any) -> Any:
    assert value is not None
    return value


Clear = Mapping[tuple[str, str, int], str]


def clear_texts(database: Path, keys: Vault) -> Clear:
    """Everything encrypted in a database, decrypted; by table, column and row."""
    texts = {}
    with sqlite3.connect(database) as session:
        for table in metadata.sorted_tables:
            for name in [column.name for column in table.columns if column.info.get("encrypted")]:
                for row, text in session.execute(f'SELECT rowid, "{name}" FROM "{table.name}"'):
                    if text and not text.startswith("["):
                        texts[table.name, name, row] = keys.decrypt(text)
    return texts


def keys_in_use(database: Path) -> set[str]:
    """The keys that any text of any table is encrypted with, whether or not the column is known to be."""
    key_ids = set()
    with sqlite3.connect(database) as session:
        for table in metadata.sorted_tables:
            for row in session.execute(f'SELECT * FROM "{table.name}"'):
                key_ids |= {text[:8] for text in row if isinstance(text, str) and text[8:14] == ":gAAAA"}
    return key_ids


async def _nothing(_done: int, _total: int) -> None:
    return


async def test_every_column_that_holds_ciphertexts_is_marked_as_one(installation: Installation, tmp_path: Path) -> None:
    marked = {
        f"{table}.{column}" for table, column, _ in clear_texts(tmp_path / "ledger.db", installation.host.store.vault)
    }
    assert marked == {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if column.info.get("encrypted")
    } - {"kept.body"}  # of an older version
    await rotation.rotate(installation.host.store, _nothing)
    assert keys_in_use(tmp_path / "ledger.db") == {installation.host.store.vault.key_id}


@pytest.mark.slow
async def test_a_rotation_killed_again_and_again_ends_complete_and_everything_is_readable_throughout(
    installation: Installation, tmp_path: Path
) -> None:
    database, chance = tmp_path / "ledger.db", random.Random(5)
    processes = forking()
    before, keys = clear_texts(database, installation.host.store.vault), set()
    for _ in range(KILLS):
        steps, sender = processes.Pipe(duplex=False)
        process = processes.Process(target=rotating.rotate, args=(database, sender, 1))
        process.start()
        sender.close()
        for _ in range(chance.randint(0, 8)):
            steps.recv_bytes()
        process.kill()
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
        keys |= keys_in_use(database)
        assert clear_texts(database, rotating.vault_of(database)) == before  # whoever starts now
        assert clear_texts(database, installation.host.store.vault) == before  # whoever was there all the time
        assert installation.host.tills.build("poster", json.loads(_settings(installation)), None)
    first, *_ = keys - {rotating.vault_of(database).newest.id}
    assert keys == {first, rotating.vault_of(database).newest.id}, "the rotation was in the middle, and no second began"
    rotated = await rotation.rotate(installation.host.store, _nothing)
    assert keys_in_use(database) == {rotated.key_id} == keys - {first}
    assert len(KeyFile(database.with_name("ledger.db.key")).read()) == 1
    assert clear_texts(database, rotating.vault_of(database)) == before
    assert not await rotation.is_unfinished(installation.host.store)


def _settings(installation: Installation) -> str:
    return installation.host.store.vault.decrypt(installation.connection.settings)


@pytest.mark.slow
async def test_killed_at_any_moment_of_writing_the_key_file_it_loses_no_key(
    installation: Installation, tmp_path: Path
) -> None:
    database = tmp_path / "ledger.db"
    processes = forking()
    before, killed = clear_texts(database, installation.host.store.vault), 0
    for call in range(1, 30):
        process = processes.Process(target=rotating.rotate_until_file_call, args=(database, call))
        process.start()
        process.join(60)
        assert clear_texts(database, rotating.vault_of(database)) == before
        assert (tmp_path / "ledger.db.key").stat().st_mode & 0o777 == 0o600
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
    assert killed >= 4
    assert len(keys_in_use(database)) == len(KeyFile(tmp_path / "ledger.db.key").read()) == 1


async def test_a_former_key_opens_nothing_and_is_nowhere_in_the_file(
    installation: Installation, tmp_path: Path
) -> None:
    (former,) = KeyFile(tmp_path / "ledger.db.key").read()
    old = Vault(former)
    assert f"{old.key_id}:gAAAA".encode() in bytes_in(tmp_path)
    await rotation.rotate(installation.host.store, _nothing)
    with pytest.raises(WrongKey):
        clear_texts(tmp_path / "ledger.db", old)
    assert f"{old.key_id}:".encode() not in bytes_in(tmp_path)
    with pytest.raises(WrongKey):
        Store(installation.settings.database_url, old).prepare()


async def test_hooks_sign_ins_and_searches_work_while_keys_change_and_afterwards(
    installation: Installation, tmp_path: Path
) -> None:
    store, addresses = installation.host.store, []
    async with open_browsers(installation) as browsers:
        mine = await browsers.new().sign_in()
        _, address = await begun(mine)
        page = f"/connections/{installation.connection.id}"

        async def use(_done: int = 0, _total: int = 0) -> None:
            assert (await installation.hook(json.dumps(SALE).encode(), path=address)).status_code == 200
            assert CODE in (await mine.get(page)).text
            if len(addresses) < 5:
                addresses.append(await _draft_address(browsers))

        await rotation.rotate(store, use, rows=40)
        assert addresses
        for path in [address, *addresses]:
            assert (await installation.hook(json.dumps(SALE).encode(), path=path)).status_code == 200
        assert (await mine.get(page)).status_code == 200
        sold = installation.cafe.sell(installation.cafe.client(ANNA), comment=CODE)
        await installation.sync()
        assert f"Receipt {sold} uses the redeem code {CODE}" in "\n".join(await installation.journal())
        assert len(installation.applied("voucher_redeemed")) == 1
    assert keys_in_use(tmp_path / "ledger.db") == {store.vault.key_id}


async def _draft_address(browsers: Browsers) -> str:
    return (await begun(await browsers.new(address="198.51.100.8").sign_in()))[1]


async def test_a_process_that_knows_only_the_former_key_reads_and_writes_with_the_new_one(
    installation: Installation, tmp_path: Path
) -> None:
    async with Host(installation.settings) as older:
        await rotation.rotate(installation.host.store, _nothing)
        await older.store.write(
            lambda tx: connections.alerts.set_email(tx, installation.connection.id, "borys@example.com", "en")
        )
        watch = await older.store.read(lambda tx: connections.alerts.watch_of(tx, installation.connection.id))
        assert watch is not None
        assert watch.email == "borys@example.com"
    assert keys_in_use(tmp_path / "ledger.db") == {installation.host.store.vault.key_id}


async def test_a_host_goes_on_with_a_change_that_was_killed(installation: Installation, tmp_path: Path) -> None:
    KeyFile(tmp_path / "ledger.db.key").add()  # killed before the new key was used
    async with Host(installation.settings) as host:
        await host.start()
        assert host._rotation is not None
        await host._rotation
        await host.stop()
    (secret,) = KeyFile(tmp_path / "ledger.db.key").read()
    assert keys_in_use(tmp_path / "ledger.db") == {Vault(secret).key_id}


async def test_who_asks_for_a_change_while_one_is_under_way_shares_it(
    installation: Installation, tmp_path: Path
) -> None:
    results = await asyncio.gather(
        installation.host.commands.run(rotate_command(), _ignore_progress),
        installation.host.commands.run(rotate_command(), _ignore_progress),
    )
    assert results[0] == results[1]
    (secret,) = KeyFile(tmp_path / "ledger.db.key").read()
    assert results[0].key == Vault(secret).key_id


# --- keys in the environment ---------------------------------------------------------------------------------------


@pytest.mark.embedded
async def test_keys_of_the_environment_are_changed_by_naming_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, secret_key=SecretStr(STRONG)) as installation:
        await _fill(installation)
        texts = clear_texts(tmp_path / "ledger.db", installation.host.store.vault)
        with pytest.raises(StoreError, match="set CONNECTORS_SECRET_KEY to it and CONNECTORS_SECRET_KEYS_OLD"):
            await installation.host.commands.run(rotate_command(), _ignore_progress)
    both = _settings_of(installation.settings, OTHER, STRONG)
    async with Host(both) as host:
        (finding,) = await host.database_findings()
        assert (finding.ok, "connectors keys rotate" in finding.text) == (None, True)
        assert clear_texts(tmp_path / "ledger.db", host.store.vault) == texts
        result = await host.commands.run(rotate_command(), _ignore_progress)
        assert result.former_keys == "yours to remove"
        (finding,) = await host.database_findings()
        assert "CONNECTORS_SECRET_KEYS_OLD may be removed" in finding.text
    async with Host(_settings_of(installation.settings, OTHER)) as host:
        assert await host.database_findings() == []
        assert len(await host.store.read(connections.registry.list_all)) == 1
        assert clear_texts(tmp_path / "ledger.db", host.store.vault) == texts
    with pytest.raises(WrongKey, match="CONNECTORS_SECRET_KEYS_OLD"):
        async with Host(_settings_of(installation.settings, STRONG)):
            pass


def _settings_of(settings: Settings, secret: str, former: str | None = None) -> Settings:
    values = settings.model_dump() | {"secret_key": SecretStr(secret)}
    return Settings(**values | {"secret_keys_old": SecretStr(former) if former else None})


async def _ignore_progress(_now: Mapping[str, Any]) -> None:
    return


@pytest.mark.parametrize(
    "secret", ["a" * 16, "a" * 64, "Zq4!x", "abcdefghijklmnopqrstuvwxyz", "12345678901234567890123456789", "secret" * 9]
)
def test_a_new_database_refuses_a_weak_secret_and_says_how_to_make_a_good_one(tmp_path: Path, secret: str) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'x.db'}", secret_key=SecretStr(secret))
    with pytest.raises(StoreError, match=r"openssl rand -base64 32") as refused:
        Host(settings).store.prepare()
    assert secret not in str(refused.value)
    assert (tmp_path / "x.db").stat().st_size == 0


@pytest.mark.parametrize(
    "secret", [STRONG, "4f9c1b7e0d3a8265c4e1f0b2a7d89356", "grape tunnel orbit velvet cactus ninety"]
)
def test_a_good_secret_is_taken(tmp_path: Path, secret: str) -> None:
    Store(f"sqlite:///{tmp_path / 'x.db'}", Vault(secret)).prepare()


@pytest.mark.embedded
async def test_an_installation_whose_secret_is_weak_starts_with_a_warning_and_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weak = "a" * 16
    with monkeypatch.context() as before:
        before.setattr(vault, "weakness", lambda _secret: None)
        async with build(tmp_path, monkeypatch, secret_key=SecretStr(weak)) as installation:
            await _fill(installation)
            texts = clear_texts(tmp_path / "ledger.db", installation.host.store.vault)
    async with Host(_settings_of(installation.settings, weak)) as host:
        with caplog.at_level(logging.WARNING):
            await host.start()
            await host.stop()
        assert "connectors keys rotate" in caplog.text
        assert weak not in caplog.text
        (finding,) = await host.database_findings()
        assert finding.ok is False
        assert clear_texts(tmp_path / "ledger.db", host.store.vault) == texts
    async with Host(_settings_of(installation.settings, STRONG, weak)) as host:
        await host.commands.run(rotate_command(), _ignore_progress)
    async with Host(_settings_of(installation.settings, STRONG)) as host:
        assert await host.database_findings() == []
        assert clear_texts(tmp_path / "ledger.db", host.store.vault) == texts
