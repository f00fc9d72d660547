"""Members of a cluster: who is dead, what becomes of their work, and which versions run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from pydantic import SecretStr

from connectors.domain.clock import SECOND
from connectors.runtime.cluster_jobs import JobKind, job
from connectors.runtime.host import Host
from connectors.runtime.membership import Membership
from connectors.runtime.read_places import MOST, PLACES, SOON_SECONDS, ReadPlaces
from connectors.settings import Settings
from connectors.store import counters, job_queue, members
from connectors.store.engine import Store
from connectors.store.errors import NewerDatabase, StoreError
from connectors.store.members import MemberRole
from connectors.store.vault import Vault
from tests.installation import ANNA, BORYS, Installation, build
from tests.postgresql import shared_postgresql
from tests.processes import invoke

SECRET = "a key that only tests use"


@pytest.fixture
def url() -> Iterator[str]:
    url = shared_postgresql().new_database()
    yield url
    shared_postgresql().drop(url)


async def opened(url: str) -> Store:
    store = Store(url, Vault(SECRET))
    await store.open()
    return store


def execute(url: str, statement: str) -> list[Any]:
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as session:
        result = session.execute(sqlalchemy.text(statement))
        rows = list(result) if result.returns_rows else []
    engine.dispose()
    return rows


# one that died before the clock was put back spoke last in the future
@pytest.mark.parametrize("silent", [-60 * SECOND, 3600 * SECOND])
async def test_what_a_dead_member_was_sending_is_in_doubt_and_that_of_a_living_one_is_not(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    async with build(tmp_path, monkeypatch, database_url=url) as installation:
        store, receipts = installation.host.store, []
        await installation.connect()
        for name in ("living", "dead"):
            await store.write(lambda tx, name=name: members.join(tx, name, MemberRole.worker, "1", works=True))  # type: ignore[misc]
            receipts.append(installation.cafe.sell(installation.cafe.client(BORYS if name == "dead" else ANNA)))
        await installation.sync()
        for name, receipt in zip(("living", "dead"), receipts, strict=True):
            execute(url, f"UPDATE operation SET state = 'sending', sender = '{name}' WHERE receipt_id = '{receipt}'")
        execute(url, f"UPDATE member SET seen_at = seen_at + {silent} WHERE id = 'dead'")
        dead = await asyncio.gather(*(store.write(lambda tx: members.take_over(tx, 30 * SECOND)) for _ in range(4)))
        assert [member.id for found in dead for member in found] == ["dead"]
        states = {operation.receipt_id: operation.state.value for operation in await installation.operations()}
        assert states == {str(receipts[0]): "sending", str(receipts[1]): "uncertain"}


async def test_what_was_sent_by_nobody_who_lives_is_in_doubt_after_a_while(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, database_url=url) as installation:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.sync()
        for sent_before, state in ((10 * SECOND, "sending"), (90 * SECOND, "uncertain")):
            now = installation.host.store.clock.now()
            execute(url, f"UPDATE operation SET state = 'sending', sender = NULL, sent_at = {now - sent_before}")
            await installation.host.store.write(lambda tx: members.take_over(tx, 30 * SECOND))
            assert [operation.state.value for operation in await installation.operations()] == [state]


async def test_a_member_that_others_took_for_dead_joins_anew(url: str) -> None:
    store, other = await opened(url), await opened(url)
    membership = Membership(store, 0.3)
    await membership.join(MemberRole.worker, works=True)
    first = store.member
    await other.write(lambda tx: members.take_over(tx, -SECOND))
    async with asyncio.timeout(10):
        while store.member == first:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(0.02)
    found = await other.read(members.list_all)
    assert [member.id for member in found] == [store.member]
    await membership.leave()
    assert await other.read(members.list_all) == []
    await asyncio.gather(store.close(), other.close())


async def test_a_job_waits_once_however_many_put_it_and_again_while_it_is_done(url: str) -> None:
    stores = [await opened(url) for _ in range(3)]
    jobs = [job(JobKind.poll, f"till-{number}") for number in range(50)]
    new = await asyncio.gather(*(store.write(lambda tx: job_queue.put(tx, jobs)) for store in stores for _ in range(3)))
    assert sum(new) == 50
    execute(url, "UPDATE procrastinate_jobs SET status = 'doing' WHERE queueing_lock = 'poll:till-7'")
    assert await stores[0].write(lambda tx: job_queue.put(tx, jobs)) == 1
    # its worker is not there: it waits again already, so the one that was begun is dropped
    assert await stores[0].write(lambda tx: job_queue.return_stalled(tx, 30)) == 0
    execute(url, "UPDATE procrastinate_jobs SET status = 'doing' WHERE queueing_lock = 'poll:till-8'")
    assert await stores[0].write(lambda tx: job_queue.return_stalled(tx, 30)) == 1
    # and so are those that their own living worker does not do
    execute(url, "INSERT INTO procrastinate_workers DEFAULT VALUES")
    execute(url, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE queueing_lock = 'poll:till-9'")
    assert await stores[0].write(lambda tx: job_queue.return_stalled(tx, 30)) == 0
    # one that died before the clock was put back
    for heartbeat, returned in (("now() + interval '1 hour'", 1), ("now()", 0)):
        execute(url, f"UPDATE procrastinate_workers SET last_heartbeat = {heartbeat}")
        assert await stores[0].write(lambda tx: job_queue.return_stalled(tx, 30)) == returned
        execute(
            url, "UPDATE procrastinate_jobs SET status = 'doing', worker_id = 1 WHERE queueing_lock = 'poll:till-9'"
        )
    lost = await stores[0].read(lambda tx: job_queue.running_of(tx, [1]))
    assert [await store.write(lambda tx: job_queue.give_back(tx, lost)) for store in stores] == [1, 0, 0]
    state = await stores[0].read(job_queue.state)
    assert (state.waiting, state.running) == (50, 0)
    await asyncio.gather(*(store.close() for store in stores))


async def test_of_several_hosts_one_puts_the_work_of_a_minute(url: str) -> None:
    stores = [await opened(url) for _ in range(3)]
    first = await asyncio.gather(*(store.write(lambda tx: counters.pass_on(tx, "minute", 7)) for store in stores))
    later = await asyncio.gather(*(store.write(lambda tx: counters.pass_on(tx, "minute", 8)) for store in stores))
    assert sorted(first) == sorted(later) == [False, False, True]
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_host_without_a_worker_is_not_ready_and_says_so(url: str, tmp_path: Path) -> None:
    settings = Settings(
        database_url=url, sevenstamp_url="http://127.0.0.1:9", allow_http=True, secret_key=SecretStr(SECRET)
    )
    async with Host(settings) as host, Host(settings) as other:
        await host.start(works=False)
        assert not await host.ready()
        await other.start(MemberRole.worker)
        assert await host.ready()
        await other.stop()
        await host.stop()


async def test_a_member_that_starts_while_the_servers_disk_is_full_waits_for_room(url: str) -> None:
    settings = Settings(
        database_url=url, sevenstamp_url="http://127.0.0.1:9", allow_http=True, secret_key=SecretStr(SECRET)
    )
    async with Host(settings) as host:
        # as the server says it for each page that finds no room
        refuse = "BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END"
        execute(url, f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {refuse} $$")
        execute(url, "CREATE TRIGGER full_disk BEFORE INSERT ON member EXECUTE FUNCTION refuse()")
        starting = asyncio.create_task(host.start(MemberRole.worker))
        await asyncio.sleep(0.5)
        assert not starting.done()
        execute(url, "DROP TRIGGER full_disk ON member")
        await starting
        assert await host.ready()
        await host.stop()


async def test_a_worker_that_knows_no_public_address_tells_none_to_7stamp(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, database_url=url) as installation:
        await installation.connect()
        webhooks, host = installation.sevenstamp.webhooks, installation.host
        assert host.loyalty_subscriber is not None
        await host.loyalty_subscriber.round()
        assert webhooks.subscriptions == {}
        installation.reach_at("https://stamps.example.com")
        await host.loyalty_subscriber.round()
        (webhook,) = webhooks.subscriptions.values()
        assert webhook.url.startswith("https://stamps.example.com/hooks/7stamp/")


def test_a_worker_needs_a_database_server(tmp_path: Path) -> None:
    env = {
        "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}",
        "CONNECTORS_SEVENSTAMP_URL": "http://127.0.0.1:9",
    }
    env["CONNECTORS_ALLOW_HTTP"] = "1"
    assert "a worker needs a database server" in invoke(["worker"], env).stderr
    assert "a database in a file has no workers" in invoke(["serve", "--no-work"], env).stderr


async def test_a_server_is_upgraded_when_somebody_says_so_and_older_code_goes_on(url: str, tmp_path: Path) -> None:
    execute(url, "UPDATE alembic_version SET version_num = '0017'")
    for table in ("member", "call_rate", "console_item", "push_alert", "push_device", "colleague", "card_tally"):
        execute(url, f"DROP TABLE {table}")
    execute(url, "ALTER TABLE operation DROP COLUMN sender")
    execute(url, "ALTER TABLE tally DROP COLUMN taken_back")
    execute(url, "ALTER TABLE watch DROP COLUMN week_told_next")
    for index in ("by_hand", "refunded", "voided"):
        execute(url, f"DROP INDEX ix_sale_{index}")
    execute(url, "ALTER TABLE console_session DROP COLUMN colleague_id")  # its index goes with it
    settings = Settings(database_url=url, secret_key=SecretStr(SECRET))
    with pytest.raises(StoreError, match="run `connectors db upgrade`"):
        async with Host(settings):
            pass
    env = {"CONNECTORS_DATABASE_URL": url, "CONNECTORS_SECRET_KEY": SECRET}
    upgraded = await asyncio.to_thread(invoke, ["db", "upgrade"], env)
    assert "up to date" in upgraded.stdout, upgraded.stderr
    # a later version's schema: its `db upgrade` says which code may run on it
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    async with Host(settings):
        pass
    execute(url, "UPDATE setting SET value = '9999' WHERE name = 'oldest code'")
    with pytest.raises(NewerDatabase):
        await opened(url)


def test_reads_that_take_long_give_their_places_up() -> None:
    now = 100.0
    places = ReadPlaces(lambda: now)
    with ExitStack() as reads:
        for taken in range(PLACES):
            assert places.free() == PLACES - taken
            reads.enter_context(places.taken())
        assert places.free() == 0
        now += SOON_SECONDS + 0.1
        assert places.free() == PLACES
        for _ in range(MOST - PLACES):
            assert places.free() > 0
            reads.enter_context(places.taken())
            now += 0.01
        assert places.free() == 0
    assert places.free() == PLACES


async def test_a_command_is_done_by_a_worker_and_here_where_there_is_none(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch, database_url=url) as installation:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        assert (await _sync(installation)).operations["applied"] == 1
        assert await installation.host.store.read(members.list_all) != []
        async with Host(installation.settings) as worker:
            await worker.start(MemberRole.worker)
            installation.cafe.sell(installation.cafe.client(ANNA))
            await _sync(installation)
            done = execute(url, "SELECT state FROM errand")
            assert [row.state for row in done] == ["done"]
            await worker.stop()
        assert installation.stamps(ANNA) == 2


async def _sync(installation: Installation) -> Any:
    from connectors.services.commands import sync_command

    async def ignore(_progress: object) -> None:
        return

    return await installation.host.commands.run(sync_command(installation.connection.id), ignore)
