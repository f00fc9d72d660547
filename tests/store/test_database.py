"""The database: its schema on SQLite and PostgreSQL, commits shared by many, faults that stay their own."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from pydantic import SecretStr

from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import SECOND
from connectors.runtime.host import Host
from connectors.services import RetryResult, rotate_command
from connectors.settings import Settings
from connectors.store import access, connections, counters, inbox, ledger, migrate
from connectors.store.access.passkeys import Challenge, Outcome
from connectors.store.access.sessions import Principal
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreBusy, StoreError, WrongKey
from connectors.store.inbox.unreadable import Origin
from connectors.store.schema import counter_table, kept_table, metadata
from connectors.store.vault import Vault
from connectors.sync.retention import Retention
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.model import VirtualInstallation, sale
from tests.postgresql import shared_postgresql
from tests.served_installation import keep_passkey
from tests.sync.test_erasure import decrypted_database, forget, planned_operations, traces_of_anna, two_tills
from tests.web.browser import Browser, open_browsers
from tests.web.test_teaching_pages import FORM, SALE, begun

VAULT = Vault("a key that only tests use")


def _is_ours(_thing: object, name: str | None, *_more: object) -> bool:
    return "procrastinate" not in (name or "")


def differences(url: str) -> list[Any]:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as session:
        ours = MigrationContext.configure(session, opts={"include_object": _is_ours})
        changes = compare_metadata(ours, metadata)
    engine.dispose()
    return list(changes)


def test_migrations_bring_sqlite_to_the_schema(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    Store(url, VAULT).prepare()
    Store(url, VAULT).prepare()
    assert differences(url) == []
    with sqlite3.connect(tmp_path / "x.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


BEFORE = """
INSERT INTO business VALUES ('b', 'Cafe', 'UA', 'UAH', 'Europe/Kyiv', 'en', 0, 0);
INSERT INTO connection (id, connector, account_id, account, business_id, title, scope, health, health_since,
  authorised_at, began_at, next_poll_at, next_lookback_at, failures, generation, settings, sevenstamp_key, key_hash,
  hook_token, hook_token_hash)
VALUES ('c', 'poster', 'a1', '{"id"\\:"a1","name"\\:"Cafe","currency"\\:"UAH","zone"\\:"Europe/Kyiv"}', 'b', 't', '[]',
  'active', 0, 0, 0, 0, 0, 0, 1, '', '', '', '', 'x');
INSERT INTO sale (id, business_id, connector, account_id, receipt_id, connection_id, ticket, digest, versions, status,
  closed_at, paid, refunded, currency, admitted, pinned, stamps, next_n, changed_at)
VALUES ('s0', 'b', 'poster', 'a1', 's0', 'c', 1, '', 1, 'closed', 1764020000000000, 1, 0, 'UAH', 1, 0, 1, 2, 0),
  ('s1', 'b', 'poster', 'a1', 's1', 'c', 1, '', 1, 'closed', 1764025300000000, 1, 0, 'UAH', 1, 0, 1, 2, 0);
INSERT INTO operation (id, sale_id, n, connection_id, business_id, receipt_id, lane, kind, count, code, key, attempt,
  request, state, waived, next_at, tries, conflicted, day, created_at, updated_at)
VALUES ('o', 's0', 1, 'c', 'b', 's0', 'card\\:1', 'stamps_added', 3, 'x', 'x', 1, '', 'applied', 0, 0, 1, 0,
  '2025-11-24', 0, 0);
INSERT INTO operation (id, sale_id, n, connection_id, business_id, receipt_id, lane, kind, count, redeem_code, code,
  key, attempt, request, state, waived, next_at, tries, conflicted, day, created_at, updated_at)
VALUES ('v', 's0', 2, 'c', 'b', 's0', 'voucher\\:FREECOFFEE9', 'voucher_redeemed', 1, 'FREECOFFEE9', 'y', 'y', 1, '{}',
  'held', 0, 0, 1, 0, '2025-11-24', 0, 0);
INSERT INTO journal (connection_id, at, message)
VALUES ('c', 1, '["sale.redeems",{"receipt"\\:"s0","code"\\:"FREECOFFEE9"}]')
"""  # two receipts, closed at 23:33 and 01:01 in Kyiv


def _at_0001(url: str) -> sqlalchemy.Engine:
    """A database of the version before the console, with receipts in it."""
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as session:
        config = migrate._config()
        config.attributes["connection"] = session
        command.upgrade(config, "0001")
        for statement in BEFORE.split(";\n"):
            session.execute(sqlalchemy.text(statement))
    return engine


KEPT_BEFORE = """
INSERT INTO kept (id, connection_id, receipt_id, at, place, why, body) VALUES
  ('k1', 'c', NULL, 1, 'body', 'is not JSON', 'x'), ('k2', 'c', '7', 2, 'paid', 'is missing', 'x'),
  ('k3', 'c', '8', 3, 'sale', '"ab"', 'x')
"""


LINKS_BEFORE = """
INSERT INTO console_link (token_hash, business_id, key_hash, content, expires_at) VALUES
  ('operators', NULL, NULL, '', 1), ('for a cafe', 'b', NULL, '', 1), ('a cafes own', 'b', 'k', '', 1)
"""


def test_what_the_operator_opened_before_is_known_for_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine = _at_0001(url)
    with engine.begin() as session:
        config = migrate._config()
        config.attributes["connection"] = session
        command.upgrade(config, "0003")
        session.execute(sqlalchemy.text(LINKS_BEFORE))
    Store(url, VAULT).prepare()
    with engine.connect() as session:
        rows = session.execute(sqlalchemy.text("SELECT token_hash FROM console_link WHERE by_operator = 1")).scalars()
        assert set(rows) == {"operators", "for a cafe"}
    engine.dispose()


def test_what_an_older_version_kept_is_known_for_what_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine = _at_0001(url)
    with engine.begin() as session:
        session.execute(sqlalchemy.text(KEPT_BEFORE))
    store = Store(url, VAULT)
    store.prepare()
    with engine.connect() as session:
        session.execute(kept_table.update().values(body=VAULT.encrypt("as it came")))
        rows = inbox.unreadable.with_bodies(Transaction(session, 0, VAULT), "c")
    engine.dispose()
    assert [(entry.id, entry.origin, entry.why.id, entry.body) for entry in rows] == [
        ("k1", Origin.hook, "is not JSON", b"as it came"),
        ("k2", Origin.read, "is missing", b"as it came"),
        ("k3", Origin.sale, '"ab"', b"as it came"),
    ]


def _counted(engine: sqlalchemy.Engine) -> tuple[list[Any], list[Any]]:
    with engine.connect() as session:
        days = session.execute(sqlalchemy.text("SELECT id, day FROM sale ORDER BY id")).all()
        sums = session.execute(sqlalchemy.text("SELECT day, receipts, stamps FROM tally ORDER BY day")).all()
    engine.dispose()
    return [tuple(row) for row in days], [tuple(row) for row in sums]


COUNTED = (
    [("s0", "2025-11-24"), ("s1", "2025-11-25")],
    [("2025-11-24", 1, 3), ("2025-11-25", 1, 0)],
)


def test_receipts_from_before_the_console_are_counted_by_the_venues_days(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    engine = _at_0001(url)
    Store(url, VAULT).prepare()
    assert _counted(engine) == COUNTED


def _redeem_codes(engine: sqlalchemy.Engine) -> tuple[object, ...]:
    """The redeem code of the older version's operation, the one in its journal, and what is still to be done."""
    with engine.connect() as session:
        code, lane = session.execute(sqlalchemy.text("SELECT redeem_code, lane FROM operation WHERE id = 'v'")).one()
        message = session.execute(sqlalchemy.text("SELECT message FROM journal")).scalar_one()
        assert "FREECOFFEE9" not in f"{code} {lane} {message}"
        assert lane == f"voucher:{VAULT.hash('redeem code', 'b', 'FREECOFFEE9')}"
        (line,) = ledger.journal.of_connection(Transaction(session, 0, VAULT), "c")
        left = session.execute(sqlalchemy.text("SELECT value FROM setting WHERE name = 'rewrite'")).scalar()
    return VAULT.decrypt(code), line.message.params["code"], left


@pytest.fixture
def postgresql() -> Iterator[str]:
    """An empty database of PostgreSQL."""
    url = shared_postgresql().new_database(empty=True)
    yield url
    shared_postgresql().drop(url)


@pytest.mark.slow
def test_postgresql_takes_the_schema_and_the_way_of_a_sale_unchanged(postgresql: str) -> None:
    Store(postgresql, VAULT).prepare()
    assert differences(postgresql) == []
    installation = VirtualInstallation()
    installation.url = postgresql
    try:
        installation.run(_a_sale(installation))
    finally:
        installation.end()


async def _a_passkey_lives_and_ends(installation: Installation) -> None:
    """Added, used, refused, without its key and with another, removed: what a browser's answers make of the rows."""
    store, business = installation.host.store, installation.connection.business_id
    anna = Principal(business, "Cafe Lviv", "UTC", "anna", KEY)
    passkey = await keep_passkey(installation.host, anna, "Phone")

    async def use(sign_count: int, challenge: str) -> Outcome:
        answered = Challenge(challenge, store.clock.now() + SECOND)
        return await store.write(lambda tx: access.passkeys.use(tx, passkey, sign_count, answered))

    async def of_anna() -> access.passkeys.Passkey | None:
        return await store.read(lambda tx: access.passkeys.get(tx, passkey, business))

    assert [await use(1, "a"), await use(2, "a"), await use(2, "b"), await use(2, "c"), await use(9, "d")] == [
        Outcome.done,
        Outcome.replayed,
        Outcome.done,
        Outcome.copied,
        Outcome.gone,
    ]
    key_hash = store.vault.hash("7stamp key", KEY)
    await store.write(lambda tx: access.passkeys.end_of_key(tx, key_hash))
    assert (found := await of_anna()) is not None
    assert found.keyless
    await store.write(lambda tx: access.passkeys.renew_key(tx, anna))
    assert (found := await of_anna()) is not None
    assert found.principal == anna
    assert await store.write(lambda tx: access.passkeys.remove(tx, passkey, None)) is False
    assert await store.write(lambda tx: access.passkeys.remove(tx, passkey, business)) is True
    assert await of_anna() is None


@pytest.mark.slow
async def test_a_customer_is_forgotten_on_postgresql_too(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, database_url=postgresql) as installation:
        await two_tills(installation)
        before = await planned_operations(installation)
        assert traces_of_anna(await decrypted_database(installation))
        assert (await forget(installation, ANNA)).receipts == 3
        assert traces_of_anna(await decrypted_database(installation)) == []
        await installation.sync()
        assert await planned_operations(installation) == before
        swept = await Retention(installation.host.store, bodies_days=-1, journal_days=-1).round()
        assert swept.sales == 2
        assert swept.lines > 0
        assert BORYS not in await decrypted_database(installation)
        assert await planned_operations(installation) == before


@pytest.mark.slow
async def test_the_console_is_the_same_on_postgresql(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = _at_0001(postgresql)
    Store(postgresql, VAULT).prepare()
    assert _redeem_codes(older) == ("FREECOFFEE9", "FREECOFFEE9", None)
    assert _counted(older) == COUNTED
    older.dispose()

    url = shared_postgresql().new_database()
    async with build(tmp_path, monkeypatch, database_url=url) as installation, open_browsers(installation) as browsers:
        await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
        receipt = installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE9")
        installation.cafe.sell(0)
        await installation.sync()
        await installation.host.services.connections.set_alert_email(
            installation.connection.id, "anna@cafe.example", "en"
        )
        mine, operator = await browsers.new().sign_in(), await browsers.new().as_operator()
        base = f"/connections/{installation.connection.id}"
        for path in ("", "?part=now", "?show=without-card", "?before=9", "/rule", "/settings", "/welcome", "/resume"):
            assert (await mine.get(base + path)).status_code in (200, 303), path
        found = (await mine.get(f"{base}/receipts?q={ANNA[1:]}+27.50")).text
        page = f"{base}/receipts/{re.findall(r'/receipts/([0-9a-f]+)', found)[0]}"
        assert str(receipt) in (await mine.get(page)).text
        for path in ("/", "/devices"):
            assert (await mine.get(path)).status_code == 200
        assert (await operator.get("/operator?q=cafe")).status_code == 200
        await _a_passkey_lives_and_ends(installation)
        assert await installation.host.store.write(connections.alerts.take_due) == []
        draft = (await mine.post("/connect/poster")).headers["location"]
        assert (await mine.get(draft)).status_code == 200
        await mine.post(f"{base}/pause")
        await mine.post(f"{base}/resume", pause="leave")
        assert (await mine.post(f"{base}/disconnect", secret=KEY)).status_code == 303
        await _an_unknown_till(installation, mine)
        await _new_keys(installation)


async def _an_unknown_till(installation: Installation, mine: Browser) -> None:
    """Taught, unread, tried again and renewed: what SQLite takes, PostgreSQL takes."""
    draft, address = await begun(mine)
    await installation.hook(json.dumps(SALE).encode(), path=address)
    assert "Use this one" in (await mine.get(f"{draft}/authorise?part=arrived")).text
    await mine.post(f"{draft}/sample", pasted=json.dumps(SALE))
    assert (await mine.get(f"{draft}/teach?ask=map_paid")).status_code == 200
    await mine.post(f"{draft}/discard")
    values = {**{name.removeprefix("set."): value for name, value in FORM.items()}, "map_paid": "total"}
    rule = StampRule(unknown_customer=UnknownCustomer.issue)
    installation.connection = await installation.host.services.onboarding.connect(
        "webhook", values, KEY, lambda _account: rule
    )
    path = str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    for number in range(2):
        assert (await installation.hook(json.dumps({**SALE, "id": str(number)}).encode(), path=path)).status_code == 200
    base = f"/connections/{installation.connection.id}"
    assert "2 requests could not be read" in (await mine.get(base)).text
    assert (await mine.get(f"{base}/unread")).status_code == 200
    await installation.host.services.connections.edit(installation.connection.id, {"map_paid": "total || sum"})
    assert await installation.host.services.review.retry_unread(installation.connection.id) == RetryResult(
        read=2, still_unread=0, asked=0
    )
    assert (await mine.post(f"{base}/address")).status_code == 303
    assert (await installation.hook(json.dumps(SALE).encode(), path=path)).status_code == 200
    await installation.host.store.write(connections.drafts.sweep)


async def _new_keys(installation: Installation) -> None:
    """Another secret key, on every machine: everything is encrypted anew."""
    secrets = {"secret_key": SecretStr("another key, long enough"), "secret_keys_old": installation.settings.secret_key}
    async with Host(Settings(**installation.settings.model_dump() | secrets)) as host:
        result = await host.commands.run(rotate_command(), ignore_progress)
    assert result.encrypted > 10
    assert result.unreadable == 0
    async with Host(Settings(**installation.settings.model_dump() | secrets | {"secret_keys_old": None})) as host:
        (connection,) = await host.services.connections.list_all()
        assert host.store.vault.decrypt(connection.sevenstamp_key) == KEY


async def ignore_progress(_now: Mapping[str, Any]) -> None:
    return


async def _a_sale(installation: VirtualInstallation) -> None:
    from connectors.sync.ingest import Snapshot, Source

    host = await installation.open()
    connection_id = await installation.connect()
    connection = await host.services.connections.get(connection_id)
    closed = installation.clock.now()
    await host.store.write(lambda tx: inbox.hints.leave(tx, [inbox.hints.NewHint(connection_id, "r1", True)] * 2))
    for ticket, paid in ((1, 1000), (2, 0)):
        ticket = await host.store.write(lambda tx: counters.issue_tickets(tx, 1))
        new = sale("r1", closed=closed, refunded=1000 - paid)
        await host.ingestor.ingest([Snapshot(connection, new, Source.poll, ticket)])
        assert host.identifier is not None
        assert host.deliverer is not None
        await host.identifier.round()
        await host.deliverer.drain()
    kinds = [o["kind"] for o in installation.sandbox.state.operations]
    assert kinds == ["card_issued", "stamps_added", "stamps_reversed"]


def _add(tx: Transaction, names: Any) -> list[str]:
    if "poison" in names:
        raise ValueError("poison")
    tx.run(counter_table.insert(), [{"name": name, "value": 1} for name in names])
    return [f"{name} of {len(names)}" for name in names]


async def test_arrivals_of_many_are_committed_together_and_a_fault_stays_its_own(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    names = [*(f"n{number}" for number in range(100)), "poison"]
    results = await asyncio.gather(*(store.gather(_add, name) for name in names), return_exceptions=True)
    assert isinstance(results[-1], ValueError)
    assert len(await store.read(counters.read_counters)) == 100
    await store.close()


async def test_work_that_fails_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()

    def work(tx: Transaction) -> None:
        counters.raise_counter(tx, "half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await store.write(work)
    assert await store.read(counters.read_counters) == {}
    await store.close()


async def test_an_error_of_the_database_does_not_say_what_a_statement_was_given(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    twice = [{"name": "+380501112233", "value": 1}] * 2
    with pytest.raises(sqlalchemy.exc.IntegrityError) as raised:
        await store.write(lambda tx: tx.run(counter_table.insert(), twice))
    assert "380501112233" not in str(raised.value)
    await store.close()


async def test_a_full_disk_is_a_plain_sentence(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()

    def fill(tx: Transaction) -> None:
        tx.run(sqlalchemy.text("PRAGMA max_page_count = 1"))
        tx.run(counter_table.insert(), [{"name": "x" * 1000 + str(n), "value": 1} for n in range(1000)])

    with pytest.raises(StoreBusy, match="the disk is full: nothing was written"):
        await store.write(fill)
    assert await store.read(counters.read_counters) == {}
    await store.close()


async def test_a_locked_database_is_a_plain_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.store.engines.BUSY_MILLISECONDS", 100)
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    with sqlite3.connect(tmp_path / "x.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="locked by another process"):
            await store.write(lambda tx: counters.raise_counter(tx, "x"))
        other.execute("ROLLBACK")
    await store.write(lambda tx: counters.raise_counter(tx, "x"))
    await store.close()


def test_a_file_that_is_no_database_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database at all" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT).prepare()


def test_the_vault_tells_keys_apart() -> None:
    ciphertext = VAULT.encrypt("secret")
    assert "secret" not in ciphertext
    assert VAULT.decrypt(ciphertext) == "secret"
    vault = Vault("a key that only tests use")
    vault.hash_with(b"a key of hashes, which a database holds")
    assert vault.hash("a", "b") != vault.hash("ab") != vault.hash("a\x1fb", "")
    with pytest.raises(WrongKey, match=VAULT.key_id):
        Vault("another key, long enough").decrypt(ciphertext)
    with pytest.raises(StoreError, match="too short"):
        Vault("short")


async def test_a_connection_gets_an_id_that_none_had(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await installation.connect()
    drawn = iter([first.id.partition("-")[2], first.id.partition("-")[2], "abcdef"])
    await installation.host.services.connections.remove(first.id)
    monkeypatch.setattr("connectors.store.connections.registry.secrets.token_hex", lambda _size: next(drawn, "00" * 16))
    assert (await installation.connect()).id == "poster-abcdef"


async def test_questions_that_come_together_are_asked_together_and_a_fault_stays_its_own(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'x.db'}", VAULT)
    await store.open()
    asked: list[list[int]] = []

    def double(tx: Transaction, numbers: Sequence[int]) -> list[int]:
        asked.append(list(numbers))
        if 7 in numbers:
            raise ValueError("seven")
        return [2 * number for number in numbers]

    async def ask(number: int) -> int:
        return await store.read_together(double, number)

    assert await asyncio.gather(*(ask(number) for number in range(5))) == [0, 2, 4, 6, 8]
    # the task that asks begins after all of them have queued
    assert asked == [[0, 1, 2, 3, 4]]
    answers = await asyncio.gather(*(ask(number) for number in (6, 7, 8)), return_exceptions=True)
    assert (answers[0], str(answers[1]), answers[2]) == (12, "seven", 16)
    assert await ask(1) == 2
    assert store._asked == {}
    await store.close()
