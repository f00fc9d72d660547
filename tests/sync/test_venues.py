"""Venues of one account: whose receipts are whose, what a new one means, and one read for all who read alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from connector_sdk.errors import TillUnavailable
from connector_sdk.rule import Multiplier, StampRule, UnknownCustomer
from connectors.domain.clock import DAY, HOUR, moment
from connectors.domain.connection import Connection
from connectors.services import ConnectOptions
from connectors.store import connections, inbox
from connectors.sync.account_checks import follow_account
from square_connector import SquareConnector
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_ticket import Ticket
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.web.clock import MovableClock

ISSUE = StampRule(unknown_customer=UnknownCustomer.issue)
TOKYO, LISBON = "Asia/Tokyo", "Europe/Lisbon"


@pytest.fixture
async def square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    clock = MovableClock()
    places = (Place("Tokyo", TOKYO, "EUR", "JP"), Place("Lisbon", LISBON, "EUR", "PT"))
    seller = Seller(places=places, now=lambda: moment(clock.now()))
    sandbox = SquareSandbox(seller, now=lambda: moment(clock.now()))
    async with build(tmp_path, monkeypatch, square=sandbox, time=clock, public_url="https://host.test") as installation:
        sandbox.post_to("https://host.test/hooks/tills/square")
        yield installation


def sell(square: Installation, place: int | str, phone: str = ANNA) -> str:
    locations = list(square.cafe.locations)
    location = locations[place] if isinstance(place, int) else place
    return str(square.cafe.sell(Ticket(location=location, customer=square.cafe.customer_of(phone))))


async def connect(square: Installation, *places: str, rule: StampRule = ISSUE, **settings: str) -> Connection:
    values = {**square.till.settings(), **settings}
    square.connection = await square.host.services.onboarding.connect(
        "square", values, KEY, lambda _account: rule, ConnectOptions(locations=places)
    )
    return square.connection


async def follow(square: Installation, connection: Connection) -> None:
    await square.host.services.sync.run(connection.id)


async def the(square: Installation, connection: Connection) -> Connection:
    return await square.host.services.connections.get(connection.id)


async def a_day_later(square: Installation, connection: Connection) -> None:
    """So that the till is asked again what its account is."""
    await square.host.store.write(lambda tx: connections.schedule.check_account_soon(tx, connection.id))
    await follow(square, connection)


def ahead(square: Installation) -> MovableClock:
    clock = square.host.store.clock
    assert isinstance(clock, MovableClock)
    return clock


# --- time -------------------------------------------------------------------------------------------------------------


async def test_hours_and_days_of_a_receipt_are_its_venues(square: Installation) -> None:
    now = moment(ahead(square).now())
    in_tokyo = now.astimezone(ZoneInfo(TOKYO))
    window = Multiplier(times=2, start=time(in_tokyo.hour), end=time((in_tokyo.hour + 2) % 24))
    await connect(square, rule=ISSUE.model_copy(update={"multipliers": (window,)}))
    sell(square, 0, ANNA)
    sell(square, 1, BORYS)
    await square.sync()
    assert (square.stamps(ANNA), square.stamps(BORYS)) == (2, 1)


async def test_a_cap_for_a_day_counts_the_venues_own_day(square: Installation) -> None:
    # twenty-five hours apart: it is never the same day at both
    east = square.cafe.open_location(Place("East", "Pacific/Kiritimati", "EUR", "KI"))
    west = square.cafe.open_location(Place("West", "Pacific/Pago_Pago", "EUR", "AS"))
    await connect(square, rule=ISSUE.model_copy(update={"max_per_card_per_day": 1}))
    sell(square, east)
    sell(square, west)
    await square.sync()
    assert square.stamps(ANNA) == 2
    sell(square, west)
    await square.sync()
    assert square.stamps(ANNA) == 2


# --- a venue that opens -----------------------------------------------------------------------------------------------


async def test_a_connection_to_all_venues_takes_a_new_one_along(square: Installation) -> None:
    connection = await connect(square)
    harbour = square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    sell(square, harbour)
    await a_day_later(square, connection)
    await follow(square, connection)
    assert square.stamps(ANNA) == 1
    assert any("new place: Harbour. Its stamps count here" in line for line in await square.journal())


async def test_the_till_is_asked_once_a_day_by_itself_for_its_venues(square: Installation) -> None:
    connection = await connect(square)
    square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    await follow(square, connection)
    assert len((await the(square, connection)).account.locations) == 2
    ahead(square).ahead += DAY
    await follow(square, connection)
    assert len((await the(square, connection)).account.locations) == 3


async def test_a_sale_of_a_venue_that_nobody_has_is_told_once_and_comes_with_a_backfill(square: Installation) -> None:
    connection = await connect(square, "Tokyo")
    harbour = square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    order = sell(square, harbour)
    await a_day_later(square, connection)
    for _ in range(3):
        await follow(square, connection)
    lines = await square.journal()
    assert len([line for line in lines if order in line and "Harbour, whose stamps are nobody's" in line]) == 1
    assert square.stamps(ANNA) == 0
    undecided = (await the(square, connection)).undecided_locations()
    assert [venue.name for venue in undecided] == ["Harbour"]  # Lisbon was left out when the cafe chose Tokyo
    await square.host.services.connections.take_venue(connection.id, harbour)
    since = moment(ahead(square).now() - DAY).date().isoformat()
    await square.host.services.sync.backfill(connection.id, since, _quietly)
    assert square.stamps(ANNA) == 1
    # what was left out stays so, and is not asked about
    assert not (await the(square, connection)).undecided_locations()


async def _quietly(_now: object) -> None:
    return


async def test_a_venue_that_is_left_out_is_asked_about_no_more_and_its_sales_are_no_news(square: Installation) -> None:
    connection = await connect(square, "Tokyo")
    harbour = square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    await a_day_later(square, connection)
    await square.host.services.connections.leave_venue(connection.id, harbour)
    order = sell(square, harbour)
    await follow(square, connection)
    assert not any(order in line for line in await square.journal())
    assert not (await the(square, connection)).undecided_locations()


async def test_of_two_connections_one_takes_the_new_venue_and_the_other_asks_no_more(square: Installation) -> None:
    first, second = await connect(square, "Tokyo"), await connect(square, "Lisbon")
    harbour = square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    for connection in (first, second):
        await a_day_later(square, connection)
    await square.host.services.connections.take_venue(second.id, harbour)
    order = sell(square, harbour)
    await follow(square, first)
    await follow(square, second)
    assert square.stamps(ANNA) == 1
    square.connection = first
    assert not any(order in line for line in await square.journal())


async def test_a_location_hook_has_the_account_asked_at_once(square: Installation) -> None:
    connection = await connect(square)
    square.cafe.take_events()
    square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    (hook,) = square.till.take_hooks()
    answer = await square.hook(hook.body, path="/hooks/tills/square", headers=dict(hook.headers))
    assert answer.status_code == 200
    await follow(square, connection)
    assert len((await the(square, connection)).account.locations) == 3


# --- one read for all -------------------------------------------------------------------------------------------------


def calls(square: Installation) -> Counter[str]:
    counted = Counter(call.path for call in square.till.calls)
    square.till.calls.clear()
    return counted


async def test_connections_that_read_alike_share_one_poll_and_one_fetch(square: Installation) -> None:
    first, second = await connect(square, "Tokyo"), await connect(square, "Lisbon")
    await follow(square, first)
    calls(square)
    in_tokyo, in_lisbon = sell(square, 0, ANNA), sell(square, 1, BORYS)
    await square.host.store.write(
        lambda tx: connections.registry.update(tx, connections.registry._NOT_REMOVED, {"next_poll_at": tx.now})
    )
    due = await square.host.store.write(lambda tx: connections.schedule.lease_polls(tx, 10))
    assert len(due) == 1
    await square.host.reader.poll(due[0])
    assert calls(square)["/v2/orders/search"] == 1
    assert not await square.host.store.write(lambda tx: connections.schedule.lease_polls(tx, 10))
    for connection, order in ((first, in_tokyo), (second, in_lisbon)):
        square.connection = connection
        assert any(order in line for line in await square.journal())
        assert (await the(square, connection)).checkpoint_at is not None
    # a hook is one hint, and one fetch, whoever has the venue
    hook = square.till.hook(in_lisbon)
    assert (await square.hook(hook.body, path="/hooks/tills/square", headers=dict(hook.headers))).status_code == 200
    hints = [
        await square.host.store.read(lambda tx, one=one: inbox.hints.count_of(tx, one.id))  # type: ignore[misc]
        for one in (first, second)
    ]
    assert sorted(hints) == [0, 1]
    assert [(await the(square, one)).last_hook_at is not None for one in (first, second)] == [True, True]


async def test_a_connection_with_other_settings_reads_for_itself(square: Installation) -> None:
    await connect(square, "Tokyo")
    await connect(square, "Lisbon", redeem_codes="false")
    due = await square.host.store.write(lambda tx: connections.schedule.lease_polls(tx, 10))
    assert len(due) == 2


async def test_of_two_that_read_alike_the_one_that_works_reads_for_both(square: Installation) -> None:
    first, second = await connect(square, "Tokyo"), await connect(square, "Lisbon")
    await square.host.services.connections.pause(first.id)
    order = sell(square, 1)
    hook = square.till.hook(order)
    await square.hook(hook.body, path="/hooks/tills/square", headers=dict(hook.headers))
    await follow(square, second)
    assert square.stamps(ANNA) == 1


@pytest.mark.parametrize("stops", ["pause", "remove"])
async def test_a_hint_of_a_connection_that_stops_is_followed_by_one_that_reads_alike(
    square: Installation, stops: str
) -> None:
    both = [await connect(square, "Tokyo"), await connect(square, "Lisbon")]
    in_tokyo, in_lisbon = sell(square, 0, ANNA), sell(square, 1, BORYS)
    for order in (in_tokyo, in_lisbon):
        hook = square.till.hook(order)
        assert (await square.hook(hook.body, path="/hooks/tills/square", headers=dict(hook.headers))).status_code == 200
    # both hints lie with one of them, whoever has the venue: that one stops
    counts = await square.host.store.read(lambda tx: [inbox.hints.count_of(tx, one.id) for one in both])
    assert sorted(counts) == [0, 2]
    stopping = both[counts.index(2)]
    going_on = both[counts.index(0)]
    await getattr(square.host.services.connections, stops)(stopping.id)
    assert await square.host.store.read(lambda tx: inbox.hints.count_of(tx, going_on.id)) == 2
    # not by a poll: only the hints may find them
    due = await square.host.store.write(lambda tx: inbox.hints.lease(tx, 10))
    await square.host.reader.follow_hints(await the(square, going_on), due)
    assert not await square.host.store.read(lambda tx: inbox.hints.count_of(tx, going_on.id))
    square.connection = going_on
    assert any((in_tokyo if going_on is both[0] else in_lisbon) in line for line in await square.journal())
    if stops == "pause":
        square.connection = stopping
        assert any((in_tokyo if stopping is both[0] else in_lisbon) in line for line in await square.journal())


async def test_a_till_that_cannot_say_what_it_is_is_not_asked_with_every_read(
    square: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connect(square)
    await square.host.store.write(lambda tx: connections.schedule.check_account_soon(tx, connection.id))
    asked: list[int] = []

    async def fails(_connector: object) -> None:
        asked.append(1)
        raise TillUnavailable("not now")

    monkeypatch.setattr(SquareConnector, "check", fails)
    for _ in range(5):
        await follow(square, connection)
    assert len(asked) == 1
    ahead(square).ahead += 2 * HOUR
    await follow(square, connection)
    assert len(asked) == 2


async def test_an_edit_made_while_the_till_was_asked_is_not_undone(square: Installation) -> None:
    connection = await connect(square)
    square.cafe.open_location(Place("Harbour", LISBON, "EUR", "PT"))
    asked = await the(square, connection)
    account = await square.host.tills.of(asked).check()
    await square.host.services.connections.edit(connection.id, {}, title="Another")
    await square.host.store.write(lambda tx: follow_account(tx, asked, account, "key"))
    assert len((await the(square, connection)).account.locations) == 2
    # and of two hosts that asked at once, one tells
    current = await the(square, connection)
    for _ in range(2):
        await square.host.store.write(lambda tx: follow_account(tx, current, account, "key"))
    assert sum("Harbour" in line for line in await square.journal()) == 1


# --- hooks at the address of all --------------------------------------------------------------------------------------


async def test_a_signature_counts_over_the_operators_address_whatever_a_proxy_says(square: Installation) -> None:
    await connect(square)
    hook = square.till.hook(sell(square, 0))
    for headers in ({}, {"host": "evil.test", "x-forwarded-host": "evil.test", "x-forwarded-proto": "http"}):
        answer = await square.hook(hook.body, path="/hooks/tills/square", headers={**hook.headers, **headers})
        assert answer.status_code == 200
    square.till.post_to("https://evil.test/hooks/tills/square")
    forged = square.till.hook(sell(square, 0))
    answer = await square.hook(forged.body, path="/hooks/tills/square", headers=dict(forged.headers))
    assert answer.status_code == 401


async def test_refused_hooks_light_a_lamp_until_one_is_taken(square: Installation) -> None:
    from connectors.store.queries.installation import hook_times
    from connectors.sync.hooks import REFUSED_HOOKS

    await connect(square)
    order = sell(square, 0)
    good, forged = square.till.hook(order), square.till.hook(order, "another key")
    await square.hook(forged.body, path="/hooks/tills/square", headers=dict(forged.headers))
    refused = (await square.host.store.read(lambda tx: hook_times(tx, REFUSED_HOOKS)))["square"]
    assert refused.refused is not None
    assert refused.taken is None
    await asyncio.sleep(0)
    await square.hook(good.body, path="/hooks/tills/square", headers=dict(good.headers))
    times = (await square.host.store.read(lambda tx: hook_times(tx, REFUSED_HOOKS)))["square"]
    assert times.taken is not None
    assert times.refused is not None
    assert times.taken > times.refused


async def test_a_backfill_admits_what_came_before_for_the_connection_that_asked_and_no_other(
    square: Installation,
) -> None:
    with square.cafe.clock_at(moment(ahead(square).now() - DAY)):
        sell(square, 0, ANNA)
        sell(square, 1, BORYS)
    first, second = await connect(square, "Tokyo"), await connect(square, "Lisbon")
    since = moment(ahead(square).now() - 2 * DAY).date().isoformat()
    await square.host.services.sync.backfill(first.id, since, _quietly)
    await follow(square, second)
    assert (square.stamps(ANNA), square.stamps(BORYS)) == (1, 0)
