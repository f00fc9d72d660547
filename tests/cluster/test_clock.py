"""The database server's clock is put forward or back: every member follows, and what is stored moves once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from sqlalchemy import select

from connectors.domain.clock import HOUR, SECOND
from connectors.domain.vouchers import RequestState
from connectors.runtime.clock_follower import ClockFollower
from connectors.runtime.counter_names import CLOCK_JUMPS
from connectors.runtime.membership import Membership
from connectors.services import SubscriptionRequest
from connectors.store import call_rates, clock_jumps, counters, engine, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.members import MemberRole
from connectors.store.relay import subscriptions
from connectors.store.schema import operation_table, relay_subscription_table
from connectors.store.vault import Vault
from connectors.sync import doubt_resolution
from connectors.sync.vouchers import WantedVoucher
from tests.installation import ANNA, Installation, build
from tests.postgresql import fake_clock, running_postgresql, shared_postgresql


@pytest.fixture
def url() -> Iterator[str]:
    url = shared_postgresql().new_database()
    yield url
    shared_postgresql().drop(url)


@pytest.fixture
async def doubtful(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """A host whose one operation is in doubt, since the answer to it was lost."""
    async with build(tmp_path, monkeypatch, database_url=url, relay_hosts="127.0.0.1") as made:
        await made.connect(poll_seconds=60)
        request = SubscriptionRequest("http://127.0.0.1:9/nobody", ("stamp_added",))
        await made.host.services.subscriptions.create(made.connection.business_id, request)
        made.cafe.sell(made.cafe.client(ANNA))
        made.sevenstamp.faults.drop_after = 1.0
        await made.sync()
        made.sevenstamp.faults.drop_after = 0.0
        assert [operation.state for operation in await made.operations()] == ["uncertain"]
        yield made


def put_server_clock(monkeypatch: pytest.MonkeyPatch, by: int) -> None:
    """Have the server say that it is later by so many microseconds, or earlier."""
    asks = f"SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + ({by})"
    monkeypatch.setattr(engine, "_SERVER_TIME", sqlalchemy.text(asks))


@pytest.mark.skipif(fake_clock() is None, reason="the server's clock can be put back where libfaketime is installed")
async def test_a_wait_of_before_the_clock_was_put_back_is_given_up_and_begun_anew() -> None:
    with running_postgresql(clock=True) as server:
        url = server.new_database()
        store, other = (Store(url, Vault("a key that only tests use")) for _ in range(2))
        async with open_store(store), open_store(other):
            await store.write(lambda tx: counters.raise_counter(tx, "waited for", 1))
            tries: list[Transaction] = []

            def wait(tx: Transaction) -> None:
                tries.append(tx)
                counters.raise_counter(tx, "waited for", 1)

            with psycopg.connect(url) as holder:
                holder.execute("UPDATE counter SET value = value WHERE name = 'waited for'")
                # forward and back again, before anybody has followed it
                server.put_clock(3600)
                waiting = asyncio.create_task(store.write(wait))
                await _until(lambda: holder.execute(_WAITING).fetchone() is not None)
                # its timeout of fifteen seconds now ends in an hour
                server.put_clock(0)
                # also for one that begins now
                joining = Membership(other, dead_after=1.0)
                await joining.join(MemberRole.worker, works=True)
                await _until(lambda: len(tries) >= 2)
            await waiting
            await joining.leave()
            assert (await store.read(counters.read_counters))["waited for"] == 2


async def _until(happens: Callable[[], bool]) -> None:
    for _ in range(200):
        if happens():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("waited in vain")


_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@asynccontextmanager
async def open_store(store: Store) -> AsyncIterator[None]:
    await store.open()
    try:
        yield
    finally:
        await store.close()


async def sent_ago(installation: Installation) -> int:
    (operation,) = await installation.operations()
    return installation.host.store.clock.now() - (operation.sent_at or 0)


@pytest.mark.parametrize("by", [HOUR, -HOUR])
async def test_members_follow_a_jump_and_what_is_stored_moves_once(
    doubtful: Installation, url: str, monkeypatch: pytest.MonkeyPatch, by: int
) -> None:
    store, others = doubtful.host.store, [Store(url, Vault("a key that only tests use")) for _ in range(3)]
    for other in others:
        await other.open()
    followers = [ClockFollower(one) for one in (store, *others)]
    assert not any([await follower.follow() for follower in followers])
    before, began = await sent_ago(doubtful), store.clock.now()
    put_server_clock(monkeypatch, by)
    assert all(await asyncio.gather(*(follower.follow() for follower in followers)))
    assert not any([await follower.follow() for follower in followers])
    assert (await store.read(counters.read_counters))[CLOCK_JUMPS] == 1
    for one in (store, *others):
        assert abs(one.clock.now() - began - by) < 30 * SECOND
    # never older than it is: its absence would count too soon, and it would be sent twice
    assert before <= await sent_ago(doubtful) + max(0, -by) < before + 30 * SECOND
    connection = await doubtful.host.services.connections.get(doubtful.connection.id)
    assert connection.next_poll_at - store.clock.now() <= 70 * SECOND
    # and back again, which is another jump
    put_server_clock(monkeypatch, 0)
    assert all(await asyncio.gather(*(follower.follow() for follower in followers)))
    assert (await store.read(counters.read_counters))[CLOCK_JUMPS] == 2
    for other in others:
        await other.close()


async def test_what_was_sent_before_the_clock_was_put_back_is_judged_as_sent_now(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = doubtful.host.store
    follower = ClockFollower(store)
    await follower.follow()
    put_server_clock(monkeypatch, -HOUR)
    assert await follower.follow()
    assert await sent_ago(doubtful) < -HOUR + 60 * SECOND
    await store.write(clock_jumps.correct_future)
    assert 0 <= await sent_ago(doubtful) < 30 * SECOND
    corrected = (await doubtful.operations())[0].sent_at
    await store.write(clock_jumps.correct_future)
    assert (await doubtful.operations())[0].sent_at == corrected
    # and its stamp is on the card once, in a moment and not in an hour
    while doubtful.stamps(ANNA) != 1 or (await doubtful.operations())[0].state != "applied":
        await doubtful.sync()
    assert len(doubtful.applied()) == 1


async def test_what_waits_does_not_wait_an_hour_longer(doubtful: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    store = doubtful.host.store
    follower = ClockFollower(store)
    await follower.follow()
    await store.write(_lend)
    await store.write(lambda tx: subscriptions.record_failure(tx, _subscription(tx), 60 * SECOND))
    put_server_clock(monkeypatch, -HOUR)
    assert await follower.follow()
    assert await store.write(_lend) < 60
    assert await _subscription_waits(store) <= 60


async def _subscription_waits(store: Store) -> float:
    """Return the seconds until the subscription's next try."""
    next_at = await store.read(lambda tx: tx.run(select(relay_subscription_table.c.next_at)).scalar_one())
    return float(next_at - store.clock.now()) / SECOND


async def test_what_a_member_wrote_before_it_saw_the_jump_is_made_up_for(
    doubtful: Installation, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, late = doubtful.host.store, Store(url, Vault("a key that only tests use"))
    await late.open()
    follower, last = ClockFollower(store), ClockFollower(late)
    assert not await follower.follow()
    assert not await last.follow()
    put_server_clock(monkeypatch, -HOUR)
    assert await follower.follow()
    await late.write(lambda tx: subscriptions.record_failure(tx, _subscription(tx), 60 * SECOND))
    assert await _subscription_waits(store) > 3000
    assert await last.follow()
    for one in (follower, last, follower):
        await one.make_up(60 * SECOND)
    assert await _subscription_waits(store) <= 60
    await late.close()


def _lend(tx: Transaction) -> float:
    return call_rates.lend(tx, "an account", per_second=1.0, burst=1, turns=5, paused=0.0)


def _subscription(tx: Transaction) -> str:
    return str(tx.run(select(relay_subscription_table.c.id)).scalar_one())


@pytest.mark.parametrize("follows", [False, True], ids=["not before the end", "during the look"])
async def test_a_member_that_has_not_seen_the_clock_put_back_proves_no_absence(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch, *, follows: bool
) -> None:
    store, follower = doubtful.host.store, ClockFollower(doubtful.host.store)

    async def shows_nothing(_client: object, _operation: object) -> None:
        if follows:
            assert await follower.follow()

    monkeypatch.setattr(doubt_resolution, "recorded_outcome", shows_nothing)
    # another member, which has seen it, sent a moment ago; to this one that is an hour
    put_server_clock(monkeypatch, -HOUR)
    sent = operation_table.update().values(next_at=0, sent_at=store.clock.now() - HOUR)
    await store.write(lambda tx: tx.run(sent))
    assert doubtful.host.deliverer is not None
    await doubtful.host.deliverer.resolve()
    assert [operation.state for operation in await doubtful.operations()] == ["uncertain"]


async def test_a_look_that_fails_after_the_clock_was_put_forward_is_soon_made_again(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = doubtful.host.store
    put_server_clock(monkeypatch, HOUR)
    assert await ClockFollower(store).follow()
    doubtful.sevenstamp.faults.status_500 = 1.0
    await store.write(lambda tx: tx.run(operation_table.update().values(next_at=0)))
    assert doubtful.host.deliverer is not None
    await doubtful.host.deliverer.resolve()
    # it has been in doubt for a moment, not for an hour
    assert await _next_look_after(store) <= 12


async def _next_look_after(store: Store) -> float:
    """Return the seconds until the operation is looked up."""
    next_at = await store.read(lambda tx: tx.run(select(operation_table.c.next_at)).scalar_one())
    return float(next_at - store.clock.now()) / SECOND


async def test_a_look_that_began_by_a_clock_put_forward_since_is_soon_made_again(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = doubtful.host.store

    async def shows_nothing(_client: object, _operation: object) -> None:
        store.clock.jump(HOUR)  # type: ignore[attr-defined] # it follows, as another member has before

    monkeypatch.setattr(doubt_resolution, "recorded_outcome", shows_nothing)
    put_server_clock(monkeypatch, HOUR)
    # sent a moment ago; to this member that lies an hour ahead
    sent = operation_table.update().values(next_at=0, sent_at=store.clock.now() + HOUR)
    await store.write(lambda tx: tx.run(sent))
    assert doubtful.host.deliverer is not None
    await doubtful.host.deliverer.resolve()
    (operation,) = await doubtful.operations()
    assert operation.state == "uncertain"
    assert await _next_look_after(store) < 60


async def test_a_member_that_has_not_seen_the_clock_put_forward_sends_nothing(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, follower = doubtful.host.store, ClockFollower(doubtful.host.store)
    store.member = "a member"
    await store.write(lambda tx: tx.run(operation_table.update().values(state="pending")))
    ids = [operation.id for operation in await doubtful.operations()]
    put_server_clock(monkeypatch, HOUR)
    # to others it would seem to have been sent an hour ago, and its absence to prove something
    assert await store.write(lambda tx: ledger.operations.claim(tx, ids)) == []
    assert await follower.follow()
    (claimed,) = await store.write(lambda tx: ledger.operations.claim(tx, ids))
    assert claimed.id == ids[0]


async def test_a_member_that_has_not_seen_the_clock_put_forward_sends_no_voucher(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, vouchers = doubtful.host, doubtful.sevenstamp.state.vouchers
    host.store.member = "a member"
    put_server_clock(monkeypatch, HOUR // 2)
    request = await host.services.cards.issue_voucher(doubtful.connection.business_id, WantedVoucher("A free coffee"))
    assert request.state is RequestState.waiting
    assert not vouchers
    assert await ClockFollower(host.store).follow()
    assert host.vouchers is not None
    await host.vouchers.round()
    assert [code for _, code in vouchers] == [request.redeem_code]


@pytest.mark.parametrize("jumps", [False, True], ids=["begun a moment ago", "a jump a moment ago"])
async def test_an_absence_proves_nothing_to_a_member_whose_time_cannot_be_compared_yet(
    doubtful: Installation, monkeypatch: pytest.MonkeyPatch, *, jumps: bool
) -> None:
    store, follower = doubtful.host.store, ClockFollower(doubtful.host.store)

    async def shows_nothing(_client: object, _operation: object) -> None:
        pass

    monkeypatch.setattr(doubt_resolution, "recorded_outcome", shows_nothing)
    if jumps:
        await follower.follow()
        store.clock.steady_since -= HOUR  # type: ignore[attr-defined]
        put_server_clock(monkeypatch, HOUR)
        assert await follower.follow()
    # written a moment ago by the time before, which nobody has moved
    sent = operation_table.update().values(next_at=0, sent_at=store.clock.now() - HOUR)
    await store.write(lambda tx: tx.run(sent))
    assert doubtful.host.deliverer is not None
    await doubtful.host.deliverer.resolve()
    assert [operation.state for operation in await doubtful.operations()] == ["uncertain"]
    store.clock.steady_since -= HOUR  # type: ignore[attr-defined]
    await store.write(lambda tx: tx.run(sent))
    await doubtful.host.deliverer.resolve()
    assert [operation.state for operation in await doubtful.operations()] == ["pending"]


async def test_a_member_that_stood_still_makes_nobody_wait_for_what_is_to_come(
    doubtful: Installation, url: str
) -> None:
    slept, store = Store(url, Vault("a key that only tests use")), doubtful.host.store
    await slept.open()
    follower = ClockFollower(slept)
    assert not await follower.follow()
    slept.clock.put_forward(-HOUR)  # type: ignore[attr-defined]
    assert await follower.follow()
    await slept.close()
    connection = await doubtful.host.services.connections.get(doubtful.connection.id)
    assert connection.next_poll_at - store.clock.now() <= 70 * SECOND
