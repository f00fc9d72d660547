"""Events of 7stamp: taken once, proven, and of effect; a host and a 7stamp that signs, repeats and reorders."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from connector_sdk.loyalty import LoyaltyEvent, StampAdded
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.signatures import StandardWebhooks
from connectors.domain.clock import DAY, micros
from connectors.domain.operation import State
from connectors.sevenstamp.sandbox import Faults
from connectors.store import connections, counters, inbox, ledger
from connectors.store.inbox.loyalty_events import Stage, StoredEvent
from connectors.sync.loyalty_effects import UNKNOWN_CARDS
from poster_connector.connector import PosterConnector
from tests.installation import ANNA, BORYS, KEY, Installation
from tests.served_installation import ServedInstallation, serve_installation, until
from tests.sync.test_decisions import issue_card
from tests.web.clock import MovableClock


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedInstallation]:
    async with serve_installation(tmp_path, monkeypatch, browser=False, settle_seconds=10.0) as served:
        yield served


async def stored(installation: Installation) -> list[StoredEvent]:
    """The events of the business, oldest first."""
    business = installation.connection.business_id
    newest = await installation.host.store.read(lambda tx: inbox.loyalty_events.newest(tx, business, 500))
    return newest[::-1]


async def all_done(installation: Installation) -> bool:
    return all(event.stage not in inbox.loyalty_events.UNFINISHED for event in await stored(installation))


class Poster:
    """Posts events to the host as 7stamp would, signed with the secret that it was told."""

    def __init__(self, served: ServedInstallation) -> None:
        (webhook,) = served.installation.sevenstamp.webhooks.subscriptions.values()
        self.url, self.secret, self.business = webhook.url, webhook.secret, webhook.business

    async def post(self, event: Any, event_id: str = "msg_1", **more: Any) -> httpx.Response:
        content = event if isinstance(event, bytes) else json.dumps({"business_id": self.business, **event}).encode()
        at = more.get("at", datetime.now(UTC))
        headers = StandardWebhooks(more.get("secret", self.secret)).sign(content, event_id, at)
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(more.get("url", self.url), content=content, headers=headers)


# The subscription


async def test_a_business_is_subscribed_once_and_unsubscribed_with_its_last_connection(
    served: ServedInstallation,
) -> None:
    installation = served.installation
    webhooks = installation.sevenstamp.webhooks
    first = await installation.connect()
    second = await installation.host.services.onboarding.connect(
        "poster", {"access_token": served.other.token}, f"{KEY}--other", lambda _account: StampRule()
    )
    (webhook,) = webhooks.subscriptions.values()
    assert webhook.url.startswith(f"{served.origin}/hooks/7stamp/")
    assert len(webhook.events) == 13
    await installation.host.services.connections.remove(first.id)
    assert list(webhooks.subscriptions.values()) == [webhook]
    await installation.host.services.connections.remove(second.id)
    assert webhooks.subscriptions == {}


async def test_connections_from_before_are_subscribed_by_themselves_also_at_another_address(
    served: ServedInstallation,
) -> None:
    installation = served.installation
    host, webhooks = installation.host, installation.sevenstamp.webhooks
    await installation.connect()
    # as a host of an older version left it: a connection, and no source
    await host.store.write(lambda tx: connections.loyalty_sources.delete(tx, installation.connection.business_id))
    webhooks.subscriptions.clear()
    assert host.loyalty_subscriber is not None
    await host.loyalty_subscriber.round()
    (webhook,) = webhooks.subscriptions.values()
    host.public_url = "https://other.test"
    await host.loyalty_subscriber.round()
    (moved,) = webhooks.subscriptions.values()
    assert (moved.url, moved.secret) == (webhook.url.replace(served.origin, "https://other.test"), webhook.secret)


async def test_what_could_not_be_subscribed_is_tried_again_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovableClock()
    async with serve_installation(tmp_path, monkeypatch, browser=False, time=clock) as served:
        installation = served.installation
        webhooks, subscriber = installation.sevenstamp.webhooks, installation.host.loyalty_subscriber
        assert subscriber is not None
        await installation.connect()
        clock.ahead += DAY
        installation.sevenstamp.faults = Faults(drop_before=1.0)
        webhooks.subscriptions.clear()
        await subscriber.round()
        installation.sevenstamp.faults = Faults()
        await subscriber.round()
        assert webhooks.subscriptions == {}  # not yet: 7stamp is not pressed
        clock.ahead += DAY // 1440
        await subscriber.round()
        assert len(webhooks.subscriptions) == 1


async def test_a_host_that_runs_subscribes_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.runtime.scheduler._SUBSCRIPTIONS_SECONDS", 0.2)
    clock = MovableClock()
    async with serve_installation(tmp_path, monkeypatch, browser=False, time=clock) as served:
        installation = served.installation
        webhooks = installation.sevenstamp.webhooks
        await installation.connect()
        webhooks.subscriptions.clear()  # 7stamp has given us up
        clock.ahead += 2 * DAY
        async with asyncio.timeout(10):
            while not webhooks.subscriptions:  # noqa: ASYNC110 - another's dictionary
                await asyncio.sleep(0.05)


# Taking events


async def test_events_that_are_repeated_and_reordered_are_stored_once_each(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()
    installation.sevenstamp.webhooks.language = "ms"
    installation.sevenstamp.faults = Faults(webhook_repeat=1.0, webhook_delay_ms=(0, 300), seed=7)
    for _ in range(4):
        installation.cafe.sell(installation.cafe.client(ANNA))
        installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()

    async def all_arrived() -> bool:
        return len(installation.sevenstamp.webhooks.posted) == 20 and len(await stored(installation)) == 10

    await until(all_arrived)
    await until(lambda: all_done(installation))
    events = await stored(installation)
    names = [event.name for event in events]
    assert (names.count("card_issued"), names.count("stamp_added")) == (2, 8)
    assert {event.stage for event in events} == {Stage.done}
    assert all(posted.status == 200 for posted in installation.sevenstamp.webhooks.posted)
    assert installation.stamps(ANNA) == 4  # and nothing was given twice


async def test_new_cards_and_rewards_are_counted_once_on_the_day_of_the_cafe(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()  # in Kyiv
    poster, business_id = Poster(served), installation.connection.business_id
    midnight = datetime.now(ZoneInfo("Europe/Kyiv")).replace(hour=0, minute=0, second=0, microsecond=0)
    today, before = midnight.date().isoformat(), (midnight - timedelta(hours=1)).date().isoformat()
    told = {
        "msg_1": ("card_issued", midnight.isoformat()),
        "msg_2": ("card_issued", (midnight - timedelta(seconds=1)).isoformat()),
        "msg_3": ("kad_diterbitkan", midnight.isoformat()),
        "msg_4": ("reward_issued", midnight.isoformat()),
        "msg_5": ("card_opened", midnight.isoformat()),
        "msg_6": ("card_issued", "0001-01-01T00:00:00Z"),  # counted when it was told
        "msg_7": ("card_issued", "9999-12-31T23:59:59Z"),
    }
    for event_id, (name, at) in [*told.items(), *told.items()]:
        answer = await poster.post({"event": name, "timestamp": at, "card": {"id": "c_1"}}, event_id=event_id)
        assert answer.status_code == 200, answer.text
    days = await installation.host.store.read(lambda tx: inbox.card_totals.of_days(tx, business_id, before))
    assert days == {before: (1, 0), today: (4, 1)}


def test_an_upgrade_counts_what_7stamp_told_at_odd_times_and_in_odd_zones() -> None:
    day = import_module("connectors.store.migrations.versions.0022_card_tally")._day
    told = micros(datetime(2026, 11, 27, 23, 30, tzinfo=UTC))
    assert day(told, told, "Europe/Kyiv") == "2026-11-28"
    assert day(told, told, "Nowhere/Land") == "2026-11-27"
    for odd in (datetime.min, datetime.max):
        assert day(micros(odd.replace(tzinfo=UTC)), told, "Europe/Kyiv") == "2026-11-28"


async def test_forged_and_replayed_events_are_refused_and_leave_nothing(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()
    poster = Poster(served)
    forged = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    refused = [
        await poster.post({"event": "card_opened"}, secret=forged),
        await poster.post({"event": "card_opened"}, at=datetime.now(UTC) - timedelta(minutes=6)),
        await poster.post({"event": "card_opened"}, event_id="x" * 256),
    ]
    assert [answer.status_code for answer in refused] == [401, 401, 401]
    assert (await poster.post({"event": "card_opened"}, url=f"{served.origin}/hooks/7stamp/none")).status_code == 404
    assert await stored(installation) == []


async def test_a_secret_that_is_renewed_lives_a_day_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MovableClock()
    async with serve_installation(tmp_path, monkeypatch, browser=False, time=clock) as served:
        installation = served.installation
        await installation.connect()
        former = Poster(served)
        business = installation.connection.business_id
        await installation.host.store.write(lambda tx: connections.loyalty_sources.renew_secret(tx, business))
        assert installation.host.loyalty_subscriber is not None
        await installation.host.loyalty_subscriber.round()
        renewed = Poster(served)
        assert renewed.url == former.url
        assert renewed.secret != former.secret
        assert (await former.post({"event": "card_opened"}, "a")).status_code == 200
        assert (await renewed.post({"event": "card_opened"}, "b")).status_code == 200
        clock.ahead += DAY + 1
        assert (await former.post({"event": "card_opened"}, "c")).status_code == 401


async def test_what_cannot_be_read_and_what_nobody_knows_is_kept(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()
    poster = Poster(served)
    assert (await poster.post(b"<html>", "broken")).status_code == 200
    assert (await poster.post({"event": "card_shared", "via": "link"}, "new")).status_code == 200
    assert (await poster.post({"event": "card_opened", "card": {"id": "card_none"}}, "stranger")).status_code == 200
    assert (await poster.post({"event": "card_opened", "business_id": "b_other"}, "other")).status_code == 200
    await until(lambda: all_done(installation))
    stages = {event.event_id: event.stage for event in await stored(installation)}
    assert stages == {
        "broken": Stage.unreadable,
        "new": Stage.done,
        "stranger": Stage.unknown,
        "other": Stage.unknown,
    }
    assert (await installation.host.store.read(counters.read_counters))[UNKNOWN_CARDS] == 2


async def test_unknown_events_are_kept_a_week_and_others_as_long_as_bodies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovableClock()
    async with serve_installation(tmp_path, monkeypatch, browser=False, time=clock) as served:
        installation = served.installation
        await installation.connect()
        poster = Poster(served)
        await poster.post({"event": "card_opened", "card": {"id": "card_none"}}, "stranger")
        await poster.post({"event": "birthday_reached"}, "birthday")
        await until(lambda: all_done(installation))
        clock.ahead += 8 * DAY
        assert (await installation.host.retention.round()).events == 1
        assert [event.event_id for event in await stored(installation)] == ["birthday"]
        clock.ahead += 23 * DAY
        await installation.host.retention.round()
        assert await stored(installation) == []


async def test_more_events_than_may_come_are_asked_for_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_installation(tmp_path, monkeypatch, browser=False, events_per_minute=2) as served:
        await served.installation.connect()
        poster = Poster(served)
        answers = [await poster.post({"event": "card_opened"}, f"msg_{number}") for number in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert int(answers[2].headers["retry-after"]) > 0


# Effects


async def test_an_operation_whose_answer_was_lost_is_settled_by_the_event_before_its_history_is_read(
    served: ServedInstallation,
) -> None:
    installation = served.installation
    await installation.connect()
    await issue_card(installation, ANNA)
    # the history shows nothing for ten seconds: what settles the operation before that can only be the event
    installation.sevenstamp.faults = Faults(drop_after=1.0, history_lag_ms=(10_000, 10_000))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync_quietly()

    async def settled() -> bool:
        return [operation.state for operation in await installation.operations()] == [State.applied]

    await until(settled, 5)
    assert installation.stamps(ANNA) == 1
    assert [event.name for event in await stored(installation)] == ["card_issued", "stamp_added"]


async def test_a_redemption_in_doubt_is_settled_by_the_event(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()
    client = installation.host.sevenstamp.with_key(KEY)  # type: ignore[union-attr]
    await client.write("/v1/vouchers", '{"code":"v:1","redeem_code":"FREECOFFEE9"}', "k", 5)
    installation.sevenstamp.faults = Faults(drop_after=1.0, history_lag_ms=(10_000, 10_000))
    installation.cafe.sell(0, comment="voucher FREECOFFEE9")
    await installation.sync_quietly()

    async def settled() -> bool:
        return [operation.state for operation in await installation.operations()] == [State.applied]

    await until(settled, 5)


async def test_an_event_with_another_code_settles_nothing(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()
    card = await issue_card(installation, ANNA)
    poster = Poster(served)
    installation.sevenstamp.webhooks.subscriptions.clear()  # 7stamp itself tells nothing of it
    installation.sevenstamp.faults = Faults(drop_after=1.0, history_lag_ms=(10_000, 10_000))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync_quietly()

    async def is_uncertain() -> bool:
        return [operation.state for operation in await installation.operations()] == [State.uncertain]

    await until(is_uncertain)
    (operation,) = await installation.operations()
    for number, event in enumerate(
        (
            {"event": "stamp_added", "code": operation.code + "0", "card": {"id": card}},
            {"event": "voucher_redeemed", "code": operation.code},
            {"event": "stamp_added", "code": operation.code, "business_id": "b_other"},
        )
    ):
        await poster.post(event, f"msg_{number}")
    await until(lambda: all_done(installation))
    assert (await installation.operations())[0].state is not State.applied


async def test_a_held_stamp_goes_out_when_7stamp_tells_of_the_card(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await installation.sync()  # the look that follows a hold at once is over: the next is a minute away
    assert [operation.state for operation in await installation.operations()] == [State.held]
    await issue_card(installation, ANNA)

    async def is_on_the_card() -> bool:
        return installation.stamps(ANNA) == 1

    await until(is_on_the_card)


async def test_a_card_that_is_told_of_without_a_name_is_asked_for(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await installation.sync()
    poster = Poster(served)
    installation.sevenstamp.webhooks.subscriptions.clear()  # 7stamp itself tells nothing of this card
    card = await issue_card(installation, ANNA)
    await poster.post({"event": "card_saved", "card": {"id": card}}, "saved")

    async def is_on_the_card() -> bool:
        return installation.stamps(ANNA) == 1

    await until(is_on_the_card)


async def test_a_search_that_missed_the_card_by_a_moment_looks_again(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await installation.sync()
    store, business = installation.host.store, installation.connection.business_id
    (search,) = await store.write(lambda tx: ledger.card_searches.lease(tx, 10, installation.connection.id))
    # 7stamp was asked and knew no card; then it tells of one, and only then the answer is written down
    woken = await store.write(lambda tx: ledger.card_searches.wake(tx, business, [search.customer_hash]))
    assert woken == 1
    await store.write(lambda tx: ledger.card_searches.wait_for_card(tx, search, search.sale_id, tx.now + DAY, 30 * DAY))
    claimed_again = await store.write(lambda tx: ledger.card_searches.lease(tx, 10))
    assert [again.sale_id for again in claimed_again] == [search.sale_id]


async def test_a_voucher_used_elsewhere_shows_on_the_receipt_and_nothing_older_undoes_it(
    served: ServedInstallation,
) -> None:
    installation = served.installation
    await installation.connect()
    poster = Poster(served)
    voucher = {"redeem_code": "FREECOFFEE9", "redeemed_via": "staff_scanner"}
    told = (
        ("voucher_redeemed", "2026-11-20T10:00:00Z"),
        ("voucher_issued", "2026-11-01T10:00:00Z"),
        ("voucher_expired", "2019-01-01T00:00:00Z"),
    )
    for number, (event, at) in enumerate(told):
        await poster.post({"event": event, "timestamp": at, "voucher": voucher}, f"msg_{number}")
    await until(lambda: all_done(installation))
    business = installation.connection.business_id
    states = await installation.host.store.read(
        lambda tx: ledger.voucher_states.of_codes(tx, business, ["FREECOFFEE9"])
    )
    assert states["FREECOFFEE9"].status == "redeemed"
    assert states["FREECOFFEE9"].at == micros(datetime(2026, 11, 20, 10, tzinfo=UTC))


# Connectors and plugins


async def test_a_connector_is_told_again_until_it_takes_the_event_and_stamps_go_on(
    served: ServedInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[LoyaltyEvent] = []

    async def on_loyalty_event(_self: PosterConnector, event: LoyaltyEvent) -> None:
        heard.append(event)
        if len(heard) < 3:
            raise RuntimeError("the till is asleep")

    monkeypatch.setattr(PosterConnector, "on_loyalty_event", on_loyalty_event)
    monkeypatch.setattr("connectors.sync.loyalty_effects._TELL_PAUSES", (0, 0, 0, 0))
    installation = served.installation
    await installation.connect()
    card = await issue_card(installation, ANNA)
    await Poster(served).post({"event": "stamp_added", "stamps": 2, "card": {"id": card}}, "stamp")

    async def is_heard() -> bool:
        return len(heard) >= 3 and await all_done(installation)

    await until(is_heard)
    assert isinstance(heard[-1], StampAdded) or heard[-1].event == "card_issued"
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_plugins_are_told_once_each_and_one_that_raises_is_told_again(
    served: ServedInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connector_sdk import hookimpl

    heard: dict[str, int] = {"good": 0, "bad": 0}

    class Good:
        @hookimpl
        async def loyalty_event(self, event: LoyaltyEvent) -> None:
            heard["good"] += 1

    class Bad:
        @hookimpl
        async def loyalty_event(self, event: LoyaltyEvent) -> None:
            heard["bad"] += 1
            if heard["bad"] < 3:
                raise RuntimeError("no")

    monkeypatch.setattr("connectors.sync.loyalty_effects._TELL_PAUSES", (0, 0, 0, 0))
    installation = served.installation
    installation.host.plugins.manager.register(Good(), "good")
    installation.host.plugins.manager.register(Bad(), "bad")
    await installation.connect()
    await Poster(served).post({"event": "birthday_reached"}, "birthday")

    async def is_heard() -> bool:
        return heard["bad"] >= 3 and await all_done(installation)

    await until(is_heard)
    assert heard == {"good": 1, "bad": 3}


# Forgetting


async def test_a_customer_who_is_forgotten_is_in_no_event_any_more(served: ServedInstallation) -> None:
    installation = served.installation
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    installation.cafe.sell(installation.cafe.client(BORYS))
    await installation.sync()

    async def all_arrived() -> bool:
        return len(await stored(installation)) == 4 and await all_done(installation)

    await until(all_arrived)
    people = installation.host.services.people
    (business,) = await people.businesses(None)
    from connectors.domain.person import Reference

    async def ignore(_share: float) -> None:
        return

    counted = await people.forget_person(Reference("phone", ANNA), business, ignore)
    assert counted.counts.events == 2
    assert [event.event.customer.phone for event in await stored(installation) if event.event] == [BORYS, BORYS]
