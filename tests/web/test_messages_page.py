"""Messages to phones by Web Push: switched on in a browser, encrypted, quiet at night, and ended with the session."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.domain.clock import DAY, MINUTE, micros
from connectors.domain.quiet_hours import QuietHours
from connectors.store import access
from connectors.store.access.push_devices import MOST, PushAddress, PushDevice, PushOwner
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Principal
from connectors.store.connections import push_alerts
from connectors.store.engine import Transaction
from poster_connector.sandbox import Account
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.phone import Phone, phone
from tests.test_notices import rounds
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.clock import MovableClock
from tests.web.test_people import invite, joined
from tests.web.test_voucher_at_a_till import words

SECOND = "861053:5a9e1570ff9af128e93c5a771055bb21"
TITLE = "Poster · Cafe Lviv"


def move_to(cafe: Installation, hour: int, minute: int = 0, *, weekday: int | None = None) -> None:
    """Go on to the next time of a day at the cafe."""
    zone = ZoneInfo("Europe/Kyiv")
    local = datetime.fromtimestamp(clock(cafe).now() / 1e6, zone)
    target = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    while target <= local or (weekday is not None and target.weekday() != weekday):
        target = datetime.fromtimestamp(target.timestamp() + 86400, zone).replace(hour=hour, minute=minute)
    clock(cafe).ahead += micros(target) - clock(cafe).now()


@pytest.fixture
async def told() -> AsyncIterator[Phone]:
    async with phone() as one:
        yield one


@pytest.fixture
async def cafe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch, relay_hosts="127.0.0.1") as installation:
        installation.host.store.clock = MovableClock()
        installation.host.listens_on("https://till.example")
        await installation.connect(StampRule(unknown_customer=UnknownCustomer.issue, refunds=Refunds.flag))
        yield installation


@pytest.fixture
async def browsers(cafe: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(cafe) as browsers:
        yield browsers


@pytest.fixture
async def owner(browsers: Browsers) -> Browser:
    return await browsers.new().sign_in()


def clock(cafe: Installation) -> MovableClock:
    assert isinstance(cafe.host.store.clock, MovableClock)
    return cafe.host.store.clock


async def devices(cafe: Installation) -> list[PushDevice]:
    return await cafe.host.store.read(lambda tx: access.push_devices.of_business(tx, cafe.connection.business_id))


async def switched_on(cafe: Installation, browser: Browser, told: Phone) -> str:
    """Switch messages on in a browser, and return the device's id."""
    answer = await browser.post("/messages", **told.form)
    assert answer.status_code == 303, words(answer)
    return (await devices(cafe))[0].id


async def choose(browser: Browser, device: str, **values: str) -> None:
    assert (await browser.post(f"/messages/{device}/choices", **values)).status_code == 303


async def trouble(cafe: Installation) -> None:
    """Have a refund wait for a person."""
    receipt = cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    cafe.cafe.refund(receipt)
    await cafe.sync()


async def end_trouble(cafe: Installation) -> None:
    for held in [one for one in await cafe.operations() if one.state == "held"]:
        await cafe.host.services.review.dismiss(cafe.connection.id, held.id)


async def test_a_phone_is_told_of_trouble_and_of_its_end_and_nobody_else_can_read_it(
    cafe: Installation, owner: Browser, told: Phone
) -> None:
    await switched_on(cafe, owner, told)
    assert told.titles == ["7stamp: messages come to this device"]
    assert "Last message" in words(await owner.get("/messages"))
    assert await rounds(cafe, 30) == 0
    await trouble(cafe)
    assert await rounds(cafe, 15) == 0
    assert await rounds(cafe, 60) == 1
    message = told.messages[-1]
    assert message["title"] == f"{TITLE}: something needs you"
    assert message["path"] == f"/connections/{cafe.connection.id}"
    sent = told.service.received[-1]
    assert (sent.headers["urgency"], sent.headers["ttl"]) == ("high", "86400")
    assert TITLE.encode() not in sent.body
    for secret in (KEY, ANNA):
        assert secret not in str(message)
    await end_trouble(cafe)
    assert await rounds(cafe, 30) == 1
    assert told.titles[-1] == f"{TITLE}: all is well again"
    # the end takes the place of the trouble on a phone that was off
    assert told.service.received[-1].headers["topic"] == sent.headers["topic"]
    assert await rounds(cafe, 30) == 0


async def test_in_quiet_hours_nothing_comes_and_what_has_passed_by_their_end_never_does(
    cafe: Installation, owner: Browser, told: Phone
) -> None:
    device = await switched_on(cafe, owner, told)
    await choose(owner, device, trouble="1", quiet_begin="22:00", quiet_end="07:30")
    move_to(cafe, 23)
    await trouble(cafe)
    assert await rounds(cafe, 60) == 0
    await end_trouble(cafe)
    assert await rounds(cafe, 2) == 0
    await trouble(cafe)
    await rounds(cafe, 2)
    move_to(cafe, 7, 28)
    assert await rounds(cafe, 1) == 0
    assert len(told.messages) == 1, "only the one that switched it on"
    # what still needs somebody is told at once: its quarter of an hour has passed
    assert await rounds(cafe, 3) == 1
    assert told.titles[-1] == f"{TITLE}: something needs you"
    # its end is not told by night either, but in the morning
    move_to(cafe, 22, 30)
    await end_trouble(cafe)
    assert await rounds(cafe, 30) == 0
    move_to(cafe, 7, 31)
    assert await rounds(cafe, 2) == 1
    assert told.titles[-1] == f"{TITLE}: all is well again"


async def test_each_phone_hears_what_it_chose(cafe: Installation, browsers: Browsers, told: Phone) -> None:
    owner = await browsers.new().sign_in()
    device = await switched_on(cafe, owner, told)
    other = Phone(told.service, "other")
    colleague = await joined(browsers, owner, "Olena", "manager")
    await colleague.post("/messages", **other.form)
    await choose(owner, device, week="1")
    page = words(await owner.get("/messages"))
    assert "Turn off" in page
    await trouble(cafe)
    await rounds(cafe, 30)
    assert len(told.messages) == 1
    assert other.titles[1:] == [f"{TITLE}: something needs you"]
    move_to(cafe, 9, 1, weekday=0)
    await rounds(cafe, 2)
    assert told.titles[1:] == [f"{TITLE}: the week"]
    assert told.messages[-1]["path"] == f"/connections/{cafe.connection.id}/numbers"
    assert "Receipts:" in told.messages[-1]["body"]
    assert len(other.messages) == 2


async def test_a_plan_that_ends_is_told_once(cafe: Installation, owner: Browser, told: Phone) -> None:
    await switched_on(cafe, owner, told)
    cafe.sevenstamp.state.allowed = 5
    await cafe.host.services.plans.check(cafe.connection.business_id)
    for _ in range(4):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    assert await rounds(cafe, 5) == 1
    assert "4 of 5 card updates" in told.titles[-1]
    for _ in range(2):
        cafe.cafe.sell(cafe.cafe.client(BORYS))
    await cafe.sync()
    assert await rounds(cafe, 5) == 1
    assert "None is lost" in told.messages[-1]["body"]


@pytest.mark.parametrize("status", [404, 410])
async def test_a_browser_that_is_gone_is_forgotten_and_the_others_are_told(
    cafe: Installation, browsers: Browsers, told: Phone, status: int
) -> None:
    owner = await browsers.new().sign_in()
    await switched_on(cafe, owner, told)
    other = Phone(told.service, "other")
    await (await browsers.new().sign_in()).post("/messages", **other.form)
    told.service.answer = lambda one: status if one.path == "/phone" else 200
    await trouble(cafe)
    assert await rounds(cafe, 30) == 1
    assert other.titles[-1] == f"{TITLE}: something needs you"
    assert [one.address.endpoint for one in await devices(cafe)] == [other.form["endpoint"]]


async def test_what_did_not_go_out_goes_out_later_once_after_growing_pauses(
    cafe: Installation, owner: Browser, told: Phone
) -> None:
    await switched_on(cafe, owner, told)
    told.service.answer = lambda _one: 503
    await trouble(cafe)
    assert await rounds(cafe, 120) == 0
    assert len(told.service.received) < 12, "each pause is longer than the one before"
    assert "It could not be reached since" in words(await owner.get("/messages"))
    told.service.answer = lambda _one: 200
    assert await rounds(cafe, 150) == 1
    assert told.titles[1:] == [f"{TITLE}: something needs you"]
    assert "It could not be reached since" not in words(await owner.get("/messages"))
    # one that never answers again is given up in two weeks
    told.service.answer = lambda _one: 503
    await end_trouble(cafe)
    for _ in range(40):
        clock(cafe).ahead += DAY // 2
        await cafe.host.notices.round()
    assert await devices(cafe) == []


async def test_a_test_message_says_what_became_of_it(cafe: Installation, owner: Browser, told: Phone) -> None:
    device = await switched_on(cafe, owner, told)
    for status, said in {
        200: "It is on its way",
        503: "could not be sent just now",
        403: "takes nothing from here",
    }.items():
        told.service.answer = lambda _one, status=status: status  # type: ignore[misc]
        await owner.post(f"/messages/{device}/test")
        assert said in words(await owner.get("/messages"))
    told.service.answer = lambda _one: 410
    await owner.post(f"/messages/{device}/test")
    assert "takes no messages any more" in words(await owner.get("/messages"))
    assert await devices(cafe) == []


async def test_messages_asked_for_by_hand_are_bounded(cafe: Installation, owner: Browser, told: Phone) -> None:
    device = await switched_on(cafe, owner, told)
    answers = [(await owner.post(f"/messages/{device}/test")).status_code for _ in range(12)]
    assert answers.count(303) == 9
    assert answers[-1] == 429


async def test_there_are_only_so_many_devices(cafe: Installation, browsers: Browsers, told: Phone) -> None:
    owner, another = await browsers.new().sign_in(), await browsers.new().sign_in()
    await switched_on(cafe, owner, told)
    business = cafe.connection.business_id

    def fill(tx: Transaction) -> None:
        mine = PushOwner(business, None, "session", None)
        for number in range(1, MOST):
            form = Phone(told.service, f"phone{number}").form
            address = PushAddress(form["endpoint"], form["public_key"], form["auth"])
            assert access.push_devices.add(tx, mine, address, "", language="en", zone="UTC")

    await cafe.host.store.write(fill)
    refused = await another.post("/messages", **Phone(told.service, "another").form)
    assert refused.status_code == 422
    assert f"{MOST} devices are told already" in words(refused)
    # the same browser once more is the same device
    await another.post("/messages", **Phone(told.service, "phone3").form)
    assert len(await devices(cafe)) == MOST


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("endpoint", ""),
        ("endpoint", "http://push.example/a"),
        ("endpoint", "https://10.0.0.1/a"),
        ("endpoint", "https://[2606:4700::1111]/a"),
        ("endpoint", "https://user:secret@93.184.216.34/a"),
        ("public_key", ""),
        ("public_key", base64.urlsafe_b64encode(b"\x04" + b"1" * 64).decode()),
        ("public_key", "A" * 4000),
        ("auth", "%%%"),
        ("auth", "AAAA"),
    ],
)
async def test_an_address_that_nothing_could_be_sent_to_is_refused(
    cafe: Installation, owner: Browser, told: Phone, name: str, value: str
) -> None:
    refused = await owner.post("/messages", **{**told.form, name: value})
    assert refused.status_code == 422
    assert "no address that can be reached" in words(refused)
    assert await devices(cafe) == []


@pytest.mark.parametrize(("begin", "end"), [("22:00", ""), ("", "07:00"), ("22:00", "22:00"), ("night", "day")])
async def test_quiet_hours_that_are_none_are_refused_and_shown_as_typed(
    cafe: Installation, owner: Browser, told: Phone, begin: str, end: str
) -> None:
    device = await switched_on(cafe, owner, told)
    refused = await owner.post(f"/messages/{device}/choices", quiet_begin=begin, quiet_end=end, week="1")
    assert refused.status_code == 422
    assert "Say when they begin and when they end" in words(refused)
    assert (await devices(cafe))[0].choices.week is False


async def test_messages_end_with_what_let_the_device_in(cafe: Installation, browsers: Browsers, told: Phone) -> None:
    owner = await browsers.new().sign_in()
    await switched_on(cafe, owner, told)
    await owner.post("/sign-out")
    assert await devices(cafe) == []
    # signed out from another device
    phone_of_owner = await browsers.new().sign_in()
    await switched_on(cafe, phone_of_owner, told)
    [session] = await cafe.host.store.read(lambda tx: access.sessions.devices(tx, cafe.connection.business_id))
    other = await browsers.new().sign_in()
    await other.post(f"/devices/{session.id_hash}/sign-out")
    assert await devices(cafe) == []
    # signed in anew in the same browser it goes on, whichever session it was
    owner = await browsers.new().sign_in()
    device = await switched_on(cafe, owner, told)
    await owner.sign_in()
    assert [one.id for one in await devices(cafe)] == [device]
    await owner.post("/devices/sign-out-everywhere")
    assert await devices(cafe) == []


async def test_a_colleague_who_is_removed_or_stands_at_the_counter_is_told_no_more(
    cafe: Installation, browsers: Browsers, told: Phone
) -> None:
    owner = await browsers.new().sign_in()
    for change in ("remove", "role"):
        colleague = await joined(browsers, owner, f"Olena {change}", "manager")
        await colleague.post("/messages", **told.form)
        [device] = await devices(cafe)
        await owner.post(f"/people/{device.colleague_id}/{change}", role="counter")
        assert await devices(cafe) == []
    assert (await colleague.get("/messages")).status_code == 403


async def test_a_device_whose_session_ran_out_is_not_left_behind(
    cafe: Installation, browsers: Browsers, told: Phone
) -> None:
    owner = browsers.new()
    await owner.sign_in(remember="")
    device = await switched_on(cafe, owner, told)
    clock(cafe).ahead += 2 * DAY
    assert (await owner.get("/messages")).status_code == 303, "the session has run out"
    # who signs in anew is told on, and signing out ends it
    await owner.sign_in()
    assert [one.id for one in await devices(cafe)] == [device]
    await owner.post("/sign-out")
    assert await devices(cafe) == []
    # another person on the same phone ends it
    await owner.sign_in()
    await switched_on(cafe, owner, told)
    other = await browsers.new().sign_in()
    token = await invite(other, "Olena", "counter")
    clock(cafe).ahead += 100 * DAY
    await owner.get("/")
    token = await invite(await browsers.new().sign_in(), "Borys", "counter")
    assert (await owner.post(token)).status_code == 303
    assert await devices(cafe) == []


async def test_a_browser_with_a_new_address_keeps_what_was_chosen(
    cafe: Installation, owner: Browser, told: Phone
) -> None:
    device = await switched_on(cafe, owner, told)
    await choose(owner, device, week="1", quiet_begin="22:00", quiet_end="07:00")
    await owner.post("/messages", **Phone(told.service, "again").form)
    [again] = await devices(cafe)
    assert again.id == device
    assert again.address.endpoint.endswith("/again")
    assert (again.choices.week, again.choices.quiet) == (True, QuietHours(22 * 60, 7 * 60))


async def test_who_writes_anothers_id_into_a_cookie_ends_nothing(
    cafe: Installation, browsers: Browsers, told: Phone
) -> None:
    device = await switched_on(cafe, await browsers.new().sign_in(), told)
    owner = await browsers.new().sign_in()
    for forged in (device, f"{device}.", f"{device}.{'0' * 32}"):
        stranger = browsers.new()
        stranger.client.cookies.set("told", forged)
        came_in = await stranger.post(await invite(owner, f"Olena {len(forged)}", "counter"))
        assert came_in.status_code == 303
        assert [one.id for one in await devices(cafe)] == [device]


async def test_what_the_operator_opened_is_told_nothing(cafe: Installation, browsers: Browsers, told: Phone) -> None:
    somebody = Principal(cafe.connection.business_id, "Cafe", "Europe/Kyiv", OPERATOR)
    link = await cafe.host.store.write(lambda tx: access.sessions.make_link(tx, somebody))
    let_in = browsers.new()
    assert (await let_in.post(f"/link/{link}")).status_code == 303
    refused = await let_in.post("/messages", **told.form)
    assert refused.status_code == 422
    assert "let in by a link of the operator" in words(refused)
    assert await devices(cafe) == []


async def test_who_wants_no_more_messages_of_trouble_and_then_does_again_hears_of_the_next(
    cafe: Installation, owner: Browser, told: Phone
) -> None:
    device = await switched_on(cafe, owner, told)
    await choose(owner, device, trouble="1")
    await trouble(cafe)
    assert await rounds(cafe, 30) == 1
    await choose(owner, device)
    await end_trouble(cafe)
    assert await rounds(cafe, 5) == 0
    await trouble(cafe)
    await choose(owner, device, trouble="1")
    assert await rounds(cafe, 30) == 1
    assert told.titles[-1] == f"{TITLE}: something needs you"


async def test_two_tills_of_a_browser_that_is_gone_or_out_of_reach_hold_up_nothing(
    tmp_path: Path, cafe: Installation, owner: Browser, told: Phone
) -> None:
    await switched_on(cafe, owner, told)
    cafe.till.accounts[SECOND] = Account(token=SECOND, name="other")
    await cafe.host.services.onboarding.connect("poster", {"access_token": SECOND}, KEY, lambda _account: StampRule())
    cafe.sevenstamp.revoked.add(KEY)
    cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    told.service.answer = lambda _one: 503
    before = len(told.service.received)
    assert await rounds(cafe, 16) == 0
    assert len(told.service.received) == before + 1, "the second till's message is not tried behind the first"
    told.service.answer = lambda _one: 410
    assert await rounds(cafe, 10) == 0
    assert await devices(cafe) == []


async def test_a_failure_now_and_then_ends_nothing(cafe: Installation, owner: Browser, told: Phone) -> None:
    device = await switched_on(cafe, owner, told)
    for _ in range(3):
        told.service.answer = lambda _one: 503
        await owner.post(f"/messages/{device}/test")
        clock(cafe).ahead += 15 * DAY
        await owner.sign_in()
    assert [one.id for one in await devices(cafe)] == [device]


async def test_the_weeks_of_several_tills_are_one_message(cafe: Installation, owner: Browser, told: Phone) -> None:
    device = await switched_on(cafe, owner, told)
    await choose(owner, device, week="1")
    cafe.till.accounts[SECOND] = Account(token=SECOND, name="other")
    other = await cafe.host.services.onboarding.connect(
        "poster", {"access_token": SECOND}, KEY, lambda _account: StampRule()
    )
    move_to(cafe, 9, 1, weekday=0)
    assert await rounds(cafe, 2) == 1
    message = told.messages[-1]
    assert message["title"] == f"{TITLE}, {other.title}: the week"
    assert message["body"].count("Receipts:") == 2
    assert message["path"] == "/"


async def test_of_two_hosts_one_takes_a_message(cafe: Installation, owner: Browser, told: Phone) -> None:
    await switched_on(cafe, owner, told)
    await trouble(cafe)
    await rounds(cafe, 10)
    clock(cafe).ahead += 10 * MINUTE
    read = push_alerts._changed
    rows = await cafe.host.store.read(lambda tx: read(tx, 10))
    assert await cafe.host.store.write(push_alerts.take_due)
    # another host has read the same rows before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(push_alerts, "_changed", lambda _tx, _limit: rows)
        assert await cafe.host.store.write(push_alerts.take_due) == []


async def test_a_manager_sees_and_changes_only_their_own(cafe: Installation, browsers: Browsers, told: Phone) -> None:
    owner = await browsers.new().sign_in()
    device = await switched_on(cafe, owner, told)
    colleague = await joined(browsers, owner, "Olena", "manager")
    assert device not in (await colleague.get("/messages")).text
    for act in ("choices", "test", "remove"):
        assert (await colleague.post(f"/messages/{device}/{act}")).status_code == 404
    assert [one.id for one in await devices(cafe)] == [device]


async def test_another_person_in_the_same_browser_is_not_told_what_the_first_was(
    cafe: Installation, browsers: Browsers, told: Phone
) -> None:
    owner = await browsers.new().sign_in()
    await switched_on(cafe, owner, told)
    token = await invite(owner, "Olena", "counter")
    match = re.search(r'name="replaces" value="(\w+)"', (await owner.get(token)).text)
    assert match
    assert (await owner.post(token, replaces=match[1])).status_code == 303
    assert await devices(cafe) == []


async def test_a_refused_key_leaves_only_what_says_so(cafe: Installation, owner: Browser, told: Phone) -> None:
    device = await switched_on(cafe, owner, told)
    await choose(owner, device, trouble="1", plan="1", week="1")
    cafe.sevenstamp.revoked.add(KEY)
    cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    clock(cafe).ahead += 10 * MINUTE
    assert (await owner.get("/messages")).status_code == 303, "the session has ended"
    assert await rounds(cafe, 30) == 1
    assert told.titles[-1] == f"{TITLE}: something needs you"
    move_to(cafe, 9, 1, weekday=0)
    assert await rounds(cafe, 2) == 0, "nobody who has only this key learns more"
    # whoever signs in with a good one is told all again
    cafe.sevenstamp.revoked.clear()
    await owner.sign_in()
    assert await rounds(cafe, 2) == 1
    assert told.titles[-1] == f"{TITLE}: the week"


async def test_who_turned_messages_on_and_off_stands_in_the_security_log(
    cafe: Installation, owner: Browser, told: Phone
) -> None:
    device = await switched_on(cafe, owner, told)
    await owner.post(f"/messages/{device}/remove")
    assert await devices(cafe) == []
    events = await cafe.host.store.read(
        lambda tx: access.security_log.list_newest(tx, cafe.connection.business_id, kind=EventKind.messages_changed)
    )
    assert len(events) == 2
    page = words(await owner.get("/security"))
    assert "turned messages on" in page
    assert "turned messages off" in page


async def test_the_operator_has_no_messages(browsers: Browsers) -> None:
    operator = await browsers.new().as_operator()
    assert (await operator.get("/messages")).status_code == 404


@pytest.mark.parametrize(
    ("hours", "at", "until"),
    [
        ((22 * 60, 7 * 60), "2026-11-27T23:10", "2026-11-28T07:00"),
        ((22 * 60, 7 * 60), "2026-11-27T06:59", "2026-11-27T07:00"),
        ((22 * 60, 7 * 60), "2026-11-27T07:00", None),
        ((13 * 60, 15 * 60), "2026-11-27T14:00", "2026-11-27T15:00"),
        ((13 * 60, 15 * 60), "2026-11-27T15:00", None),
        # the clock goes back at four in the night: the hours are by the clock on the wall
        ((22 * 60, 7 * 60), "2026-10-24T23:00", "2026-10-25T07:00"),
        # the hour from three to four comes twice in autumn, and never in spring
        ((22 * 60, 3 * 60 + 30), "2026-10-24T23:00", "2026-10-25T03:30+02:00"),
        ((22 * 60, 3 * 60 + 30), "2026-03-28T23:00", "2026-03-29T04:30+03:00"),
    ],
)
def test_quiet_hours_go_by_the_clock_on_the_wall(hours: tuple[int, int], at: str, until: str | None) -> None:
    zone = ZoneInfo("Europe/Kyiv")
    now = micros(datetime.fromisoformat(at).replace(tzinfo=zone))
    expected = None
    if until is not None:
        end = datetime.fromisoformat(until)
        expected = micros(end if end.tzinfo else end.replace(tzinfo=zone))
    assert QuietHours(*hours).until(now, "Europe/Kyiv") == expected
