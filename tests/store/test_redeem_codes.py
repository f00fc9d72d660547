"""Redeem codes: nobody who reads the database's file reads one, and a database of before is brought there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.store import ledger, queries
from connectors.store.vault import Vault
from tests.installation import KEY, Installation
from tests.web.browser import open_browsers

CODE = "FREECOFFEE9"


def bytes_in(folder: Path) -> bytes:
    """Everything in the files of the database."""
    return b"".join(file.read_bytes() for file in folder.glob("ledger.db*") if file.is_file())


async def a_voucher(installation: Installation) -> None:
    assert installation.host.sevenstamp is not None
    client = installation.host.sevenstamp.with_key(KEY)
    await client.write("/v1/vouchers", f'{{"code":"x","title":"Coffee","redeem_code":"{CODE}"}}', "x", 5)


async def test_a_redeem_code_is_used_and_shown_but_does_not_stand_in_the_file(
    installation: Installation, tmp_path: Path
) -> None:
    await installation.connect()
    await a_voucher(installation)
    installation.cafe.sell(0, comment=CODE)
    installation.cafe.sell(0, comment=CODE)
    await installation.sync()
    assert len(installation.applied("voucher_redeemed")) == 1
    assert CODE.encode() not in bytes_in(tmp_path)
    assert [one.redeem_code for one in await installation.operations()] == [CODE, CODE]
    lines = "\n".join(await installation.journal())
    assert f"the voucher {CODE} is redeemed" in lines
    assert f"the voucher {CODE} was not redeemed" in lines
    async with open_browsers(installation) as browsers:
        mine = await browsers.new().sign_in()
        assert f"Voucher {CODE}" in (await mine.get(f"/connections/{installation.connection.id}")).text


@pytest.mark.embedded
async def test_a_database_of_before_is_encrypted_and_sends_what_waited_as_it_was(
    installation: Installation, tmp_path: Path
) -> None:
    installation.host.store.vault.hash_with(
        installation.host.store.vault.current.hash_key
    )  # as hashes were keyed before
    await installation.connect()
    await a_voucher(installation)
    with sqlite3.connect(tmp_path / "ledger.db") as database:  # nothing goes out for now
        database.execute("UPDATE business SET paused_until = ?", (2**60,))
    first, second = installation.cafe.sell(0, comment=CODE), installation.cafe.sell(0, comment=f"{CODE} {CODE}")
    await installation.sync()
    wanted = [(str(first), "pending", CODE), (str(second), "pending", CODE)]
    assert [(one.receipt_id, one.state, one.redeem_code) for one in await installation.operations()] == wanted
    as_before(tmp_path / "ledger.db", installation.host.store.vault)
    assert CODE.encode() in bytes_in(tmp_path)
    requests = _requests(tmp_path / "ledger.db")

    async with Host(installation.settings) as host:
        assert CODE.encode() not in bytes_in(tmp_path)
        assert _requests(tmp_path / "ledger.db") == requests
        found = await host.store.read(lambda tx: queries.operations.list_newest(tx, installation.connection.id))
        assert [(one.receipt_id, one.state, one.redeem_code) for one in found] == wanted
        with sqlite3.connect(tmp_path / "ledger.db") as database:
            database.execute("UPDATE business SET paused_until = 0")
        await host.services.sync.run(installation.connection.id)
        await host.services.sync.run(installation.connection.id)
        assert [one["code"] for one in installation.applied("voucher_redeemed")] == [f"poster:861052:{first}:1"]
        found = await host.store.read(lambda tx: queries.operations.list_newest(tx, installation.connection.id))
        assert [one.state for one in found] == ["applied", "rejected"]
        lines = await host.store.read(lambda tx: ledger.journal.of_connection(tx, installation.connection.id))
        assert any(CODE in host.words.word(line.message) for line in lines)


@pytest.mark.embedded
async def test_the_free_space_is_wiped_at_the_next_start_where_it_could_not_be_at_once(
    installation: Installation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vault = installation.host.store.vault
    vault.hash_with(vault.current.hash_key)
    connection: Connection = await installation.connect()
    installation.cafe.sell(0, comment=CODE)
    await installation.sync()
    as_before(tmp_path / "ledger.db", vault)
    reader = sqlite3.connect(tmp_path / "ledger.db")
    reader.execute("PRAGMA busy_timeout = 0")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM operation").fetchall()  # keeps what it saw in the file
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("connectors.store.engine.BUSY_MILLISECONDS", 10)
        async with Host(installation.settings) as host:
            assert len(await host.store.read(lambda tx: queries.operations.list_newest(tx, connection.id))) == 1
    reader.close()
    async with Host(installation.settings):
        assert CODE.encode() not in bytes_in(tmp_path)


def as_before(file: Path, vault: Vault) -> None:
    """Bring a database back to the schema before redeem codes were encrypted."""
    with sqlite3.connect(file) as database:
        for seq, code in database.execute("SELECT seq, redeem_code FROM operation").fetchall():
            if code:
                plain = vault.decrypt(code)
                database.execute(
                    "UPDATE operation SET redeem_code = ?, lane = ? WHERE seq = ?", (plain, f"voucher:{plain}", seq)
                )
        for seq, message in database.execute("SELECT seq, message FROM journal").fetchall():
            if not message.startswith("["):
                database.execute("UPDATE journal SET message = ? WHERE seq = ?", (vault.decrypt(message), seq))
        database.execute("DELETE FROM setting WHERE name = 'hash_key'")
        for table in (
            "claim voucher_request agreement api_answer api_token relay_subscription relay_event relay_delivery "
            "relay_attempt loyalty_source loyalty_event voucher_state"
        ).split():
            database.execute(f"DROP TABLE {table}")
        database.execute("DROP INDEX ix_known_card_card")
        database.execute("DROP INDEX ix_operation_flagged")
        database.execute("DROP INDEX ix_operation_gift")
        database.execute("DROP INDEX ix_operation_voucher")
        database.execute("DROP INDEX ix_sale_open")
        database.execute("ALTER TABLE operation DROP COLUMN flag")
        database.execute("ALTER TABLE identify DROP COLUMN woken_at")
        database.execute("DROP TABLE till_index")
        database.execute("DROP TABLE member")
        database.execute("DROP TABLE call_rate")
        database.execute("DROP TABLE console_item")
        database.execute("DROP TABLE card_tally")
        database.execute("DROP TABLE push_alert")
        database.execute("DROP TABLE push_device")
        database.execute("DROP TABLE colleague")
        database.execute("ALTER TABLE tally DROP COLUMN taken_back")
        database.execute("DROP INDEX ix_watch_week")
        database.execute("ALTER TABLE watch DROP COLUMN week_told_next")
        for index in ("by_hand", "refunded", "voided"):
            database.execute(f"DROP INDEX ix_sale_{index}")
        database.execute("DROP INDEX ix_console_session_colleague")
        database.execute("ALTER TABLE console_session DROP COLUMN colleague_id")
        database.execute("ALTER TABLE operation DROP COLUMN sender")
        database.execute("DROP INDEX ix_business_plan_next")
        for column in "operations_used operations_allowed operations_until plan_next_at".split():
            database.execute(f"ALTER TABLE business DROP COLUMN {column}")
        for column in "plan_near_told_until plan_used_told_until".split():
            database.execute(f"ALTER TABLE watch DROP COLUMN {column}")
        database.execute("DROP INDEX ix_connection_renewal")
        for column in (
            "grant_secrets renew_at renewing_until renewal_failures consent_trouble_at account_checked_at left_out "
            "read_key subscribed claim_consent"
        ).split():
            database.execute(f"ALTER TABLE connection DROP COLUMN {column}")
        database.execute("ALTER TABLE captured DROP COLUMN chosen")
        database.execute("DROP TABLE forgotten")
        database.execute("DROP INDEX ix_sale_personal")
        database.execute("ALTER TABLE sale DROP COLUMN anonymous")
        database.execute("UPDATE alembic_version SET version_num = '0005'")


def _requests(file: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(file) as database:
        return database.execute("SELECT id, n, code, key, request, state FROM operation ORDER BY seq").fetchall()
