"""Hooks in: what is answered, and that it is on disk by then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector_sdk.messages import Message
from connectors.domain.clock import SECOND, SteadyClock
from connectors.domain.connection import Health
from connectors.store import connections, counters, inbox
from connectors.store.connections.registry import ConnectionChange
from connectors.store.errors import Conflict
from connectors.sync import health as health_records
from connectors.sync import lifecycle
from connectors.web.app import MOST_BODY
from poster_connector.sandbox import SECRET, Account
from tests.installation import ANNA, Installation, build

ACCEPT = (200, {"status": "accept"})


class Ahead(SteadyClock):
    """The machine's clock, so many seconds ahead."""

    seconds = 0

    def now(self) -> int:
        return super().now() + self.seconds * SECOND


def answer_of(answer: httpx.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()


async def waiting(installation: Installation) -> int:
    return await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, installation.connection.id))


async def test_a_hook_is_kept_before_it_is_answered_and_leads_to_the_stamp(installation: Installation) -> None:
    await installation.connect()
    await installation.sync()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    assert answer_of(await installation.hook(installation.cafe.hook(receipt, "closed"))) == ACCEPT
    assert await waiting(installation) == 1
    assert answer_of(await installation.hook(installation.cafe.hook(receipt, "closed"))) == ACCEPT
    assert await waiting(installation) == 1
    await installation.sync()
    assert (await waiting(installation), installation.stamps(ANNA)) == (0, 1)


@pytest.mark.parametrize(
    "data", [None, '{"a":1}', {"transactions_history": {"type_history": "close", "value2": 1}}, [1.50, "ї"]]
)
async def test_data_is_signed_as_it_was_sent_whatever_it_is(installation: Installation, data: Any) -> None:
    await installation.connect()
    body = installation.cafe.hook(330660, "changed", data=data)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert answer_of(await installation.hook(body, headers=kind)) == ACCEPT


async def test_a_forged_hook_is_refused(installation: Installation) -> None:
    await installation.connect()
    body = installation.cafe.hook(330660, "closed", secret="guessed")
    assert (await installation.hook(body)).status_code == 401
    unsigned = json.dumps({**json.loads(body), "verify": ""}).encode()
    assert (await installation.hook(unsigned)).status_code == 401
    assert await waiting(installation) == 0


async def test_the_developer_sites_check_gets_its_green_tick(installation: Installation) -> None:
    transport = httpx.ASGITransport(app=_application(installation))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        assert answer_of(await client.get("/hooks/tills/poster")) == ACCEPT
        test = {"account": "", "object": "", "object_id": "", "action": "test", "time": "1", "verify": "0"}
        assert answer_of(await client.post("/hooks/tills/poster", json=test)) == ACCEPT


def _application(installation: Installation) -> Any:
    from connectors.web.app import application

    return application(installation.host)


@pytest.mark.parametrize(
    ("body", "named"),
    [(b"", "body"), (b"nonsense", "body"), (b"[1]", "body"), (b'{"object":"x"}', "action"), (b'{"a":1}{', "body")],
)
async def test_what_cannot_be_understood_and_proves_nothing_is_refused_by_name(
    installation: Installation, body: bytes, named: str
) -> None:
    answer = await installation.hook(body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(named)


async def test_what_proves_itself_but_cannot_be_understood_is_kept_and_accepted(installation: Installation) -> None:
    await installation.connect()
    body = installation.cafe.signed_hook("transaction", "", "closed")  # type: ignore[arg-type]
    assert answer_of(await installation.hook(body)) == ACCEPT
    (unread,) = await installation.host.store.read(
        lambda tx: inbox.unreadable.with_bodies(tx, installation.connection.id)
    )
    assert (unread.body, unread.where) == (body, "object_id")
    assert (await installation.journal())[-1] == "A hook could not be read and is kept: object_id is missing."


async def test_a_hook_of_an_account_we_do_not_have_is_accepted_and_counted(installation: Installation) -> None:
    assert answer_of(await installation.hook(Account(token="999:a").hook(1, "closed"))) == ACCEPT
    assert await installation.host.store.read(counters.read_counters) == {"hooks for accounts we do not have": 1}


async def test_other_objects_are_accepted_and_leave_nothing(installation: Installation) -> None:
    await installation.connect()
    before = await installation.journal()
    assert answer_of(await installation.hook(installation.cafe.signed_hook("stock", 7, "changed"))) == ACCEPT
    assert (await waiting(installation), await installation.journal()) == (0, before)


async def test_a_body_over_256_kib_is_refused(installation: Installation) -> None:
    assert (await installation.hook(b" " * (MOST_BODY + 1))).status_code == 413


async def test_unknown_addresses_are_not_there(installation: Installation) -> None:
    assert (await installation.hook(b"{}", path="/hooks/tills/nosuch")).status_code == 404
    assert (await installation.hook(b"{}", path="/hooks/tills/poster/guessed")).status_code == 404


async def test_a_connection_has_an_address_of_its_own(installation: Installation) -> None:
    connection = await installation.connect()
    token = installation.host.store.vault.decrypt(connection.hook_token)
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    path = f"/hooks/tills/poster/{token}"
    assert answer_of(await installation.hook(installation.cafe.hook(receipt, "closed"), path=path)) == ACCEPT
    assert await waiting(installation) == 1
    assert (
        await installation.hook(installation.cafe.hook(receipt, "closed", secret="x"), path=path)
    ).status_code == 401


async def test_without_its_secret_the_connector_asks_the_till_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(tmp_path, monkeypatch) as installation:
        monkeypatch.delenv("POSTER_APPLICATION_SECRET")
        from connectors.runtime.host import Host

        async with Host(installation.settings) as host:
            installation.host = host
            assert (await installation.hook(installation.cafe.hook(1, "closed"))).status_code == 503


async def health(installation: Installation) -> str:
    return (await installation.host.services.connections.get(installation.connection.id)).health.value


async def polled(installation: Installation) -> None:
    """Read whatever is due by now."""
    for turn in await installation.host.store.write(lambda tx: connections.schedule.lease_polls(tx, 10)):
        await installation.host.reader.poll(turn)


async def test_the_application_being_removed_is_asked_of_the_till_and_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ahead()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        await installation.connect()
        await polled(installation)
        removed = installation.cafe.signed_hook("application", 76, "removed")
        clock.seconds = 60
        calls = installation.cafe.calls
        assert answer_of(await installation.hook(removed)) == ACCEPT
        assert (await health(installation), installation.cafe.calls) == (
            "active",
            calls,
        )  # answered without asking anybody
        await polled(installation)
        assert await health(installation) == "active"
        assert installation.cafe.calls > calls
        installation.cafe.fail_next = [11]  # now it is so: Poster refuses the token
        clock.seconds = 120
        assert answer_of(await installation.hook(removed)) == ACCEPT
        await polled(installation)
        assert await health(installation) == "needs_authorisation"


async def test_a_removal_sent_again_and_again_costs_one_reading_in_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ahead()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        await installation.connect()
        await polled(installation)
        clock.seconds = 60
        removed = installation.cafe.signed_hook("application", 76, "removed")
        await installation.hook(removed)
        await polled(installation)
        calls = installation.cafe.calls
        for _ in range(5):
            await installation.hook(removed)
            await polled(installation)
        assert installation.cafe.calls == calls


@pytest.mark.parametrize("action", ["removed", "closed"])
async def test_the_unsigned_number_of_a_hook_leads_it_to_no_other_account(
    installation: Installation, action: str
) -> None:
    await installation.connect()
    await installation.sync()
    other = Account(token="999:a", name="another-cafe")
    body = json.loads(other.signed_hook("application" if action == "removed" else "transaction", 76, action))
    answer = await installation.hook(json.dumps({**body, "account_number": installation.cafe.number}).encode())
    assert answer.status_code == 401
    connection = await installation.host.services.connections.get(installation.connection.id)
    assert (connection.health, connection.last_hook_at, await waiting(installation)) == ("active", None, 0)


async def test_a_signed_text_is_not_cut_anew_into_other_fields(installation: Installation) -> None:
    await installation.connect()
    cafe = installation.cafe
    # one signature, and three ways to cut what it covers; the second and third are somebody's own
    honest = json.loads(cafe.signed_hook("client", 38, "changed", data="x;76;removed"))
    for cut in (
        {"object": "client;38", "object_id": "changed", "action": "x", "data": "76;removed"},
        {"account": f"{cafe.name};client", "object": "38", "object_id": "changed", "action": "x;76", "data": "removed"},
        {"action": "changed;x;76;removed", "data": None},
        {"data": "x;76", "time": f"removed;{honest['time']}"},
    ):
        body = {name: value for name, value in (honest | cut).items() if value is not None}
        answer = await installation.hook(json.dumps(body).encode())
        assert answer.status_code == 400, cut
    assert answer_of(await installation.hook(json.dumps(honest).encode())) == ACCEPT


async def test_a_token_that_somebody_sends_again_replaces_no_newer_one_and_none_after_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ahead()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        await installation.connect()
        good = installation.cafe.token
        other = f"{installation.cafe.number}:00000000000000000000000000000000"

        async def access_token_after(token: str, at: int) -> str:
            now = installation.cafe.now().timestamp()
            data = json.dumps({"user_id": "4", "access_token": token})
            body = installation.cafe.signed_hook("application", 76, "added", data=data, at=int(now) + at)
            assert answer_of(await installation.hook(body)) == ACCEPT
            connection = await installation.host.services.connections.get(installation.connection.id)
            credentials = installation.host.tills.credentials_of(connection)
            if credentials is not None:
                return credentials.grant.secret("access_token")
            return str(installation.host.services.connections.settings_of(connection)["access_token"])

        assert await access_token_after(other, -3600) == good  # older than the cafe's own sign-in
        clock.seconds = 3 * 86400
        assert await access_token_after(other, 60) == good  # newer than that, but nobody sends for three days
        assert await access_token_after(other, 4 * 86400) == good  # from tomorrow
        assert await access_token_after(other, 3 * 86400 - 3600) == other
        assert await access_token_after(good, 3 * 86400 - 7200) == other


async def test_a_connection_that_does_not_know_its_name_in_hooks_learns_it_with_the_next_look_back(
    installation: Installation,
) -> None:
    connection = await installation.connect()
    before = connection.account.model_copy(update={"hook_name": None})
    await installation.host.store.write(lambda tx: lifecycle.edit(tx, connection.id, ConnectionChange(account=before)))
    assert (
        await installation.hook(installation.cafe.hook(330660, "closed"))
    ).status_code == 503  # Poster sends it again
    await installation.sync()
    assert answer_of(await installation.hook(installation.cafe.hook(330660, "closed"))) == ACCEPT
    assert await waiting(installation) == 1


async def test_a_token_that_is_added_puts_a_connection_right_again(installation: Installation) -> None:
    await installation.connect()
    connection = await installation.host.services.connections.get(installation.connection.id)
    await installation.host.store.write(
        lambda tx: health_records.report_unwell(tx, connection, Health.needs_authorisation, Message("why.till_refuses"))
    )
    token = json.dumps({"user_id": "4", "access_token": installation.cafe.token})
    assert (
        answer_of(await installation.hook(installation.cafe.signed_hook("application", 76, "added", data=token)))
        == ACCEPT
    )
    assert (await installation.host.services.connections.get(installation.connection.id)).health == "active"
    odd = json.dumps({"access_token": f"{installation.cafe.number}:!! bad"})
    assert (
        answer_of(await installation.hook(installation.cafe.signed_hook("application", 76, "added", data=odd)))
        == ACCEPT
    )
    assert "data.access_token" in (await installation.journal())[-1]
    await installation.host.services.connections.pause(installation.connection.id)
    await installation.hook(installation.cafe.signed_hook("application", 76, "removed"))
    assert (await installation.host.services.connections.get(installation.connection.id)).health == "paused"
    await installation.host.services.connections.resume(installation.connection.id)
    stranger = json.dumps({"access_token": "111:abc"})
    await installation.hook(installation.cafe.signed_hook("application", 76, "added", data=stranger))
    await installation.sync()


async def test_closed_said_before_it_shows_is_asked_again(installation: Installation) -> None:
    await installation.connect()
    await installation.sync()
    receipt = installation.cafe.open(installation.cafe.client(ANNA))
    installation.cafe.add(receipt, "161")
    await installation.hook(installation.cafe.hook(receipt, "closed"))
    await installation.sync()
    assert (await waiting(installation), installation.stamps(ANNA)) == (1, 0)


async def test_liveness_and_readiness(installation: Installation) -> None:
    transport = httpx.ASGITransport(app=_application(installation))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503  # it is open, and does not run
        await installation.host.start()
        assert (await client.get("/readyz")).status_code == 200
        await installation.host.stop()


def test_the_samples_are_signed_with_the_documented_secret() -> None:
    from connector_sdk import HookRequest
    from poster_connector import PosterConnector
    from poster_connector.settings import PosterApp

    app = PosterApp(application_secret=SECRET)  # type: ignore[arg-type]
    for file in sorted((Path(__file__).parents[1] / "samples" / "poster").glob("webhook.transaction.*.json")):
        whose = PosterConnector.route(app, HookRequest("POST", {}, {}, file.read_bytes()))
        assert getattr(whose, "id", None) == "203941", file


async def test_while_the_database_is_away_a_hook_is_asked_for_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))

    async def fail(*_work: object) -> object:
        raise Conflict("the database server cannot be reached")

    with monkeypatch.context() as away:
        away.setattr(installation.host.store, "gather", fail)
        answer = await installation.hook(installation.cafe.hook(receipt, "closed"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Traceback" not in caplog.text
    assert (await installation.hook(installation.cafe.hook(receipt, "closed"))).status_code == 200
