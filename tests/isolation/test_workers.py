"""A connector that computes or waits without end, or dies, is cut off and named; the host and the others go on."""

from __future__ import annotations

import asyncio
import io
import logging
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connector_sdk import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.connection import Connection
from connectors.isolation.calls import ClassReference, ConnectorArguments, ReceiveCall, Returned
from connectors.isolation.offences import NO_TENANT, Offences
from connectors.isolation.pool import LimitExceeded, Limits, QueueFull, WorkerPool
from connectors.isolation.runner import PluginRunner
from tests.installation import ANNA, KEY, Installation, build
from tests.isolation.misbehaving_tills import PROOF, KeyedTill, NoSettings, OddTill, OtherTill, SharedTill
from tests.web.browser import open_browsers

RULE = StampRule(unknown_customer=UnknownCustomer.issue)


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """A host with odd connectors in real workers; little time, so that the tests take little."""
    async with build(tmp_path, monkeypatch, plugin_workers=2, plugin_seconds=0.3) as made:
        for odd in (OddTill, OtherTill, KeyedTill, SharedTill):
            made.host.plugins.classes[odd.info.name] = odd
            made.host.hooks._apps[odd.info.name] = None
        yield made


async def connect(installation: Installation, till: type[Connector[Any]] = OddTill) -> Connection:
    return await installation.host.services.onboarding.connect(till.info.name, {}, KEY, lambda _account: RULE)


async def send(
    installation: Installation, connection: Connection, body: bytes, proof: str = PROOF
) -> tuple[int, str | None]:
    path = str(installation.host.services.connections.hook_url(connection)).removeprefix(installation.host.public_url)
    answer = await installation.hook(body, path=path, headers={"x-proof": proof})
    return answer.status_code, answer.headers.get("retry-after")


async def test_a_hook_is_proven_and_read_in_a_worker_and_becomes_stamps(installation: Installation) -> None:
    connection = await connect(installation)
    assert await send(installation, connection, b"sale r1 " + ANNA.encode(), proof="bad") == (401, None)
    assert await send(installation, connection, b"sale r1 " + ANNA.encode()) == (200, None)
    installation.connection = connection
    await installation.sync()
    assert installation.stamps(ANNA) == 1


@pytest.mark.parametrize("word", [b"compute", b"die"])
async def test_a_connector_that_exceeds_its_limits_is_cut_off_and_named(
    installation: Installation, caplog: pytest.LogCaptureFixture, word: bytes
) -> None:
    connection = await connect(installation)
    with caplog.at_level(logging.ERROR):
        assert await send(installation, connection, word) == (503, "60")
    assert any("connector odd was cut off" in line.message for line in caplog.records)
    assert await send(installation, connection, b"sale r1 " + ANNA.encode()) == (200, None)


async def test_a_key_that_the_till_gave_proves_its_hooks_in_a_worker_and_is_told_to_nobody(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyedTill, "told", {})
    host = installation.host
    installation.reach_at("https://host.test")
    connection = await connect(installation, KeyedTill)
    ((address, key),) = KeyedTill.told.items()
    sale = b"sale r1 " + ANNA.encode()
    assert await send(installation, connection, sale, proof="guessed") == (401, None)
    assert await send(installation, connection, sale, proof=key) == (200, None)
    # the till gives no key with an address that it knows: the one that it gave stays
    await host.subscriber.subscribe(await host.services.connections.get(connection.id))
    assert await send(installation, connection, sale, proof=key) == (200, None)
    renewed = await host.services.connections.renew_hook_address(connection.id)
    ((other_address, other_key),) = KeyedTill.told.items()
    assert other_address != address
    assert await send(installation, renewed, sale, proof=key) == (401, None)
    assert await send(installation, renewed, sale, proof=other_key) == (200, None)
    with zipfile.ZipFile(io.BytesIO(await host.services.connections.diagnostics(connection.id))) as file:
        told = "".join(file.read(name).decode() for name in file.namelist())
    assert other_key not in told
    assert other_address not in told
    await host.services.connections.remove(connection.id)
    assert KeyedTill.told == {}


async def test_settings_that_do_not_fit_any_more_have_the_till_send_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect(installation)

    class Changed(NoSettings):
        needed: str

    monkeypatch.setattr(OddTill, "settings_model", Changed)
    installation.host.tills._instances.clear()
    status, _ = await send(installation, connection, b"sale r1 " + ANNA.encode())
    assert status == 503


async def test_a_connector_that_waits_is_cut_off_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool = WorkerPool(Limits(processor_seconds=5, seconds=0.5))
    state = ConnectorArguments("k", NoSettings(), None, None)
    hook = HookRequest("POST", {"x-proof": PROOF}, {}, b"wait")
    with pytest.raises(LimitExceeded):
        await pool.call("t", ClassReference.of(OddTill), ReceiveCall(state, hook))
    await pool.aclose()


async def test_more_memory_than_a_worker_may_have_is_the_connectors_error(installation: Installation) -> None:
    connection = await connect(installation)
    assert await send(installation, connection, b"memory") == (200, None)  # kept for a person, as other errors are
    assert [str(entry.why.id) for entry in await installation.host.services.review.list_unread(connection.id)] == [
        "the connector raised MemoryError"
    ]


async def test_what_a_connector_raises_prints_or_returns_is_no_harm(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await connect(installation)
    for body in (b"raise somebody's phone", b"print", b"answer"):
        assert (await send(installation, connection, body))[0] == 200
    assert "somebody's phone" not in caplog.text
    assert sorted(
        str(entry.why.id) for entry in await installation.host.services.review.list_unread(connection.id)
    ) == [
        "the connector answered with object",
        "the connector raised KeyError",
    ]
    assert await send(installation, connection, b"sale r1 " + ANNA.encode()) == (200, None)


async def test_another_cafe_is_answered_while_one_connector_computes(installation: Installation) -> None:
    """Each sender waits for its own turn: three floods of the odd till, and a sale of the other one between them."""
    odd, other = await connect(installation), await connect(installation, OtherTill)
    flood = [asyncio.create_task(send(installation, odd, b"compute")) for _ in range(6)]
    assert await send(installation, other, b"sale r1 " + ANNA.encode()) == (200, None)
    assert not all(task.done() for task in flood)
    statuses = {status for status, _ in await asyncio.gather(*flood)}
    assert statuses == {503}


async def test_a_connection_that_keeps_exceeding_is_left_alone_and_others_of_its_connector_are_not(
    installation: Installation,
) -> None:
    connection = await connect(installation)
    for _ in range(3):
        await send(installation, connection, b"compute")
    status, retry_after = await send(installation, connection, b"sale r1 " + ANNA.encode())
    assert status == 503
    assert retry_after is not None
    assert 0 < int(retry_after) <= 60
    assert installation.host.runner.suspended_for("odd") == 0


async def test_what_waits_for_a_connection_is_not_read_once_it_is_left_alone(
    installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await connect(installation)
    with caplog.at_level(logging.ERROR):
        answers = await asyncio.gather(*(send(installation, connection, b"compute") for _ in range(10)))
    assert {status for status, _ in answers} == {503}
    assert caplog.text.count("was cut off") == 3


async def test_a_connector_that_hangs_before_anybody_is_known_is_suspended_and_its_tile_says_so(
    installation: Installation,
) -> None:
    await connect(installation, SharedTill)
    for _ in range(3):
        assert (await installation.hook(b"compute", path="/hooks/tills/shared")).status_code == 503
    assert (await installation.hook(b"quick", path="/hooks/tills/shared")).status_code == 503
    assert installation.host.runner.suspended_for("shared") > 0
    async with open_browsers(installation) as browsers:
        mine = await browsers.new().sign_in()
        assert "It took too long to read what tills sent" in (await mine.get("/")).text


def test_three_offences_within_ten_minutes_make_a_pause_and_each_is_longer() -> None:
    now = [0.0]
    offences = Offences(lambda: now[0])
    assert [offences.add("c", "t") for _ in range(3)] == [False, False, True]
    assert offences.pause("c", "t") == 60
    assert offences.pause("c", "u") == 0
    now[0] = 61
    assert offences.pause("c", "t") == 0
    assert offences.add("c", "t")
    assert offences.pause("c", "t") == 120
    now[0] = 10_000
    assert not offences.add("c", "t")  # long ago: it begins anew


def test_several_tenants_offences_set_a_connector_aside_for_all() -> None:
    offences = Offences(lambda: 0.0)
    for tenant in ("a", "b"):
        for _ in range(3):
            offences.add("c", tenant)
    assert offences.pause_for_all("c") == 0
    for _ in range(3):
        offences.add("c", "d")
    assert offences.pause_for_all("c") == 60
    assert offences.pause("c", "z") == 0
    for _ in range(3):
        offences.add("x", NO_TENANT)
    assert offences.pause_for_all("x") == 60
    assert offences.pause_for_all("y") == 0
    runner = PluginRunner(Limits(), shipped={"c"}, offences=offences)
    assert (runner.suspended_for("c"), runner.suspended_for("x")) == (
        0,
        60,
    )  # what came with the host stops for nobody else


async def test_what_waits_is_bounded_for_a_tenant_and_in_all() -> None:
    pool = WorkerPool(Limits(processor_seconds=0.3, waiting=2, waiting_in_all=3, workers=1))
    state = ConnectorArguments("k", NoSettings(), None, None)

    def hook(body: bytes) -> ReceiveCall:
        return ReceiveCall(state, HookRequest("POST", {"x-proof": PROOF}, {}, body))

    name = ClassReference.of(OddTill)
    running = asyncio.create_task(pool.call("a", name, hook(b"compute")))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(pool.call("a", name, hook(b"quick"))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await pool.call("a", name, hook(b"quick"))
    other = asyncio.create_task(pool.call("b", name, hook(b"quick")))
    await asyncio.sleep(0)
    third = asyncio.create_task(pool.call("c", name, hook(b"quick")))  # the longest queue makes room for it
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await waiting[1]
    with pytest.raises(QueueFull):
        await pool.call("d", name, hook(b"quick"))  # no queue is longer than one
    waiting[0].cancel()  # whoever asked has gone: it is not read
    with pytest.raises(LimitExceeded):
        await running
    assert isinstance(await other, Returned)
    assert isinstance(await third, Returned)
    await pool.aclose()


async def test_no_worker_is_left_behind(installation: Installation) -> None:
    connection = await connect(installation)
    await send(installation, connection, b"quick")
    (worker, _timer) = installation.host.runner._pool._idle[0]
    await installation.host.runner.aclose()
    assert worker._process.returncode is not None


async def test_a_worker_that_was_ended_by_somebody_else_is_nobodys_offence(installation: Installation) -> None:
    connection = await connect(installation)
    await send(installation, connection, b"quick")
    (worker, _timer) = installation.host.runner._pool._idle[0]
    worker._process.kill()
    await worker._process.wait()
    assert await send(installation, connection, b"sale r1 " + ANNA.encode()) == (200, None)


async def test_what_a_worker_cannot_be_handed_is_answered_503(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect(installation)
    monkeypatch.setattr(installation.host.tills.of(connection), "settings", lambda: None)  # it cannot be pickled
    assert (await send(installation, connection, b"quick"))[0] == 503
