"""Events on their way to subscribers: signed, at least once, in order per card, bounded, replayable."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from connector_sdk.loyalty import CampaignSent, CardIssued, CardOpened, LoyaltyCard, LoyaltyCustomer, StampAdded
from connectors.domain.clock import DAY, HOUR, MINUTE, SECOND, moment
from connectors.domain.events import LoyaltyEventReceived, Wakeup
from connectors.domain.relay import DeliveryState, SubscriptionState
from connectors.relay.bodies import BODIES
from connectors.relay.delivering import PLACES
from connectors.services import Refusal, SubscriptionRequest
from connectors.services.subscriptions import KNOWN_EVENTS
from connectors.store import relay
from connectors.store.errors import NotFound
from tests.installation import ANNA, BORYS
from tests.relay.relayed import PHONE, Relayed
from tests.relay.subscriber import Received, subscribing


def counts(received: list[Received], card: str) -> list[int]:
    """The stamps of a card's events, in the order in which they were taken."""
    return [one.json["data"]["count"] for one in received if one.json["data"]["card"]["id"] == card]


# What is sent


async def test_every_kind_of_event_reaches_a_subscriber_as_documented(relayed: Relayed) -> None:
    made = await relayed.subscribe(personal=True)
    installation = relayed.installation
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    await relayed.host.services.connections.pause(installation.connection.id)
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    # in no order: they are of different cards, or of none
    bodies = {one.json["type"]: one.json for one in relayed.subscriber.received}
    assert len(relayed.subscriber.received) == 4
    assert set(bodies) == {"sale.ingested", "operation.applied", "connection.health_changed", "stamp_added"}
    for body in bodies.values():
        fitting = next(model for model in BODIES if _fits(model, body["type"]))
        assert fitting.model_validate(body).model_dump()["id"] == body["id"]
    assert bodies["sale.ingested"]["data"]["customer"]["till_id"] == str(installation.cafe.client(ANNA))
    assert bodies["stamp_added"]["data"]["customer"]["phone"] == PHONE
    assert bodies["sale.ingested"]["data"]["paid"] == {"amount": "27.50", "currency": "UAH"}
    assert bodies["operation.applied"]["data"]["code"].startswith("poster:861052:")
    assert await relayed.states(made) == ["delivered"] * 4


def _fits(model: Any, event: str) -> bool:
    annotation = str(model.model_fields["type"].annotation)
    return event in annotation or (annotation == "<class 'str'>" and "." not in event)


async def test_stamps_go_first_for_a_moment(relayed: Relayed, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await relayed.subscribe()
    await relayed.happen("card_1")
    deliverer = relayed.host.deliverer
    assert deliverer is not None
    monkeypatch.setattr(type(deliverer), "is_behind", lambda _deliverer: True)
    relaying = asyncio.create_task(relayed.host.relay.drain())
    await asyncio.sleep(0.3)
    assert await relayed.states(made) == ["pending"]
    relayed.clock.ahead += 11 * SECOND
    await relaying
    assert await relayed.states(made) == ["delivered"]
    await relayed.happen("card_2")
    monkeypatch.setattr(type(deliverer), "is_behind", lambda _deliverer: False)
    await relayed.host.relay.drain()
    assert await relayed.states(made) == ["delivered"] * 2


async def test_an_endpoint_that_is_back_gets_all_its_places_again(relayed: Relayed) -> None:
    answers = iter([503])
    relayed.subscriber.answer = lambda _one: next(answers, 200)
    made = await relayed.subscribe()
    for number in range(6):
        await relayed.happen(f"card_{number}")
    await relayed.host.store.write(lambda tx: relay.subscriptions.record_failure(tx, made.subscription.id, 0))
    woken: list[Wakeup] = []
    relayed.host.store.listeners.append(lambda wakeups, _events: woken.extend(wakeups))
    assert await relayed.host.relay.round() == 1  # is it back?
    await relayed.host.relay.stop()
    assert Wakeup.relay not in woken
    relayed.clock.ahead += 10 * MINUTE
    assert await relayed.host.relay.round() == 1
    await relayed.host.relay.stop()
    assert Wakeup.relay in woken
    assert await relayed.host.relay.round() == PLACES
    await relayed.host.relay.drain()
    assert await relayed.states(made) == ["delivered"] * 6


async def test_a_claim_by_a_clock_that_was_put_back_since_holds_nothing_up(relayed: Relayed) -> None:
    made = await relayed.subscribe()
    await relayed.happen("card_1")

    async def claim() -> list[int]:
        claimed = await relayed.host.store.write(lambda tx: relay.deliveries.claim(tx, made.subscription.id, 1))
        return [one.seq for one in claimed]

    relayed.clock.ahead += HOUR
    first = await claim()
    assert (len(first), await claim()) == (1, [])
    # its member could not write any more that it is done, and others may not wait an hour for it
    relayed.clock.ahead -= HOUR
    assert await claim() == first


async def test_nothing_personal_goes_to_whoever_did_not_ask_for_it(relayed: Relayed) -> None:
    await relayed.subscribe()
    await relayed.happen("card_1", further={"customer_phone": PHONE, "note": f"call {PHONE}", "colour": "red"})
    relayed.installation.cafe.sell(relayed.installation.cafe.client(ANNA))
    await relayed.installation.sync()
    await relayed.host.relay.drain()
    assert len(relayed.subscriber.received) == 3
    everything = b"".join(one.body for one in relayed.subscriber.received)
    for personal in (PHONE, ANNA, "123456", ANNA[1:], PHONE[1:]):
        assert personal.encode() not in everything
    assert b'"colour":"red"' in everything


async def test_deliveries_are_verified_by_the_package_also_while_a_secret_is_renewed(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    renewed = await relayed.service.renew_secret(relayed.business, made.subscription.id)
    await relayed.happen("card_1", 2)
    await relayed.host.relay.drain()
    first, second = relayed.subscriber.received
    assert Webhook(made.secret).verify(first.body, first.headers) == first.json
    for secret in (made.secret, renewed.secret):
        assert Webhook(secret).verify(second.body, second.headers)["data"]["count"] == 2
    assert first.headers["webhook-id"] == first.json["id"]


async def test_only_what_was_asked_for_is_sent(relayed: Relayed) -> None:
    made = await relayed.subscribe("campaign_sent", filter="data.channel=='push' || data.channel=='email'")
    for number, channel in enumerate(("push", "messengers", "email")):
        event = CampaignSent(
            id=f"m{number}", at=moment(relayed.clock.now()), business_id=relayed.business, channel=channel
        )
        await relayed.host.store.write(
            lambda tx, event=event: tx.events.append(LoyaltyEventReceived(relayed.business, event))  # type: ignore[misc]
        )
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    assert sorted(one.json["data"]["channel"] for one in relayed.subscriber.received) == ["email", "push"]
    assert await relayed.states(made) == ["delivered", "filtered", "delivered"]


async def test_a_host_that_stopped_and_starts_again_goes_on_sending(relayed: Relayed) -> None:
    await relayed.subscribe("stamp_added")
    await relayed.host.stop()
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    assert len(relayed.subscriber.taken) == 1


async def test_a_chat_gets_one_sentence(relayed: Relayed) -> None:
    await relayed.subscribe("stamp_added", shape="slack")
    await relayed.happen("card_1", 2)
    await relayed.host.relay.drain()
    assert relayed.subscriber.received[0].json == {"text": "2 stamps were added (card card_1)."}


async def test_a_business_is_told_of_its_own_events_only(relayed: Relayed) -> None:
    await relayed.subscribe("card_issued")
    event = CardIssued(id="x", at=moment(relayed.clock.now()), business_id="b_other")
    await relayed.host.store.write(lambda tx: tx.events.append(LoyaltyEventReceived("b_other", event)))
    await relayed.host.relay.drain()
    assert relayed.subscriber.received == []


# Order, and again


async def test_a_card_waits_for_its_refused_event_and_others_do_not(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    relayed.subscriber.answer = lambda one: 400 if one.json["data"]["count"] == 1 else 200
    for number in (1, 2, 3):
        await relayed.happen("card_1", number)
        await relayed.happen("card_2", number + 10)
    await relayed.host.relay.drain()
    assert counts(relayed.subscriber.taken, "card_1") == []
    assert counts(relayed.subscriber.taken, "card_2") == [11, 12, 13]
    relayed.subscriber.answer = lambda _one: 200
    relayed.clock.ahead += MINUTE
    await relayed.host.relay.drain()
    assert counts(relayed.subscriber.taken, "card_1") == [1, 2, 3]
    assert (await relayed.subscription(made)).pending == 0


async def test_an_endpoint_down_for_three_days_gets_everything_in_order_once_it_is_back(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    relayed.subscriber.answer = lambda _one: 503
    began = relayed.clock.ahead
    number = 0
    while relayed.clock.ahead - began < 3 * DAY - HOUR:
        number += 1
        for card in ("card_1", "card_2"):
            await relayed.happen(card, number)
        await relayed.host.relay.drain()
        relayed.clock.ahead += 3 * HOUR
    failed = len(relayed.subscriber.received)
    assert failed < 40  # a probe now and then, whatever waits
    relayed.subscriber.answer = lambda _one: 200
    for _ in range(3):
        relayed.clock.ahead += 3 * HOUR
        await relayed.host.relay.drain()
    assert (await relayed.subscription(made)).state is SubscriptionState.active
    for card in ("card_1", "card_2"):
        assert counts(relayed.subscriber.taken, card) == list(range(1, number + 1))


async def test_an_endpoint_that_fails_for_longer_is_stopped_and_goes_on_where_it_was(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    relayed.subscriber.answer = lambda _one: 500
    await relayed.happen("card_1")
    for _ in range(14):
        await relayed.host.relay.drain()
        relayed.clock.ahead += 8 * HOUR
    stopped = await relayed.subscription(made)
    assert stopped.state is SubscriptionState.disabled
    assert stopped.reason.id == "relay.failing"
    await relayed.happen("card_1", 2)  # not recorded: nobody asks for it now
    relayed.subscriber.answer = lambda _one: 200
    await relayed.service.set_active(relayed.business, made.subscription.id, active=True)
    await relayed.host.relay.drain()
    assert counts(relayed.subscriber.taken, "card_1") == [1]


async def test_one_that_answers_410_is_stopped_at_once(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    relayed.subscriber.answer = lambda _one: 410
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    stopped = await relayed.subscription(made)
    assert (stopped.state, stopped.reason.id) == (SubscriptionState.disabled, "relay.gone")
    assert len(relayed.subscriber.received) == 1


async def test_an_event_that_is_refused_for_three_days_is_given_up_and_can_be_replayed(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    relayed.subscriber.answer = lambda one: 422 if one.json["data"]["card"]["id"] == "card_1" else 200
    await relayed.happen("card_1")
    await relayed.happen("card_1", 2)
    for number in range(16):
        await relayed.happen("card_2", number)  # others are taken: the endpoint itself is well
        await relayed.host.relay.drain()
        relayed.clock.ahead += 8 * HOUR
    states = await relayed.states(made)
    assert states[0] == "failed"
    assert (await relayed.subscription(made)).state is SubscriptionState.active
    relayed.subscriber.answer = lambda _one: 200
    assert await relayed.service.replay_failed(relayed.business, made.subscription.id) >= 1
    relayed.clock.ahead += 8 * HOUR
    await relayed.host.relay.drain()
    assert sorted(counts(relayed.subscriber.taken, "card_1")) == [1, 2]
    assert await relayed.service.replay_failed(relayed.business, made.subscription.id) == 0


async def test_a_pause_that_is_asked_for_is_kept(relayed: Relayed) -> None:
    await relayed.subscribe("stamp_added")
    relayed.subscriber.answer, relayed.subscriber.headers = lambda _one: 429, [(b"retry-after", b"600")]
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    relayed.clock.ahead += 9 * MINUTE
    await relayed.host.relay.drain()
    assert len(relayed.subscriber.received) == 1
    relayed.clock.ahead += MINUTE
    await relayed.host.relay.drain()
    assert len(relayed.subscriber.received) == 2


async def test_replays_of_one_and_of_a_time(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    await relayed.happen("card_1", 1)
    between = relayed.clock.now() + 1
    relayed.clock.ahead += SECOND
    await relayed.happen("card_1", 2)
    await relayed.happen("card_1", 3)
    await relayed.host.relay.drain()
    deliveries = await relayed.service.deliveries(relayed.business, made.subscription.id)
    assert await relayed.service.replay(relayed.business, made.subscription.id, deliveries[-1].delivery.seq) == 1
    end = relayed.clock.now() + 1
    assert await relayed.service.replay_range(relayed.business, made.subscription.id, between, end) == 2
    with pytest.raises(Refusal, match="ends before"):
        await relayed.service.replay_range(relayed.business, made.subscription.id, between, between)
    await relayed.host.relay.drain()
    assert counts(relayed.subscriber.taken, "card_1") == [1, 2, 3, 1, 2, 3]
    first, again = (one for one in relayed.subscriber.taken if one.json["data"]["count"] == 1)
    assert first.headers["webhook-id"] == again.headers["webhook-id"]


# Tests, attempts, bounds


async def test_a_test_says_how_it_was_answered(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    relayed.subscriber.answer, relayed.subscriber.text = lambda _one: 500, b"no " * 1000
    failed = await relayed.service.send_test(relayed.business, made.subscription.id)
    (attempt,) = failed.attempts
    assert (failed.delivery.state, attempt.status, attempt.answer) == (DeliveryState.pending, 500, ("no " * 342)[:1024])
    relayed.subscriber.answer = lambda _one: 200
    taken = await relayed.service.send_test(relayed.business, made.subscription.id)
    assert taken.delivery.state is DeliveryState.delivered
    assert relayed.subscriber.taken[-1].json["type"] == "test"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"text": b"x" * 2_000_000}, "longer than 64 KiB"),
        ({"answer": lambda _one: 302, "headers": [(b"location", b"http://127.0.0.1:1/")]}, None),
    ],
)
async def test_an_answer_that_is_too_long_or_leads_elsewhere_is_a_failure(
    relayed: Relayed, more: dict[str, Any], error: str | None
) -> None:
    made = await relayed.subscribe("stamp_added")
    for name, value in more.items():
        setattr(relayed.subscriber, name, value)
    tried = await relayed.service.send_test(relayed.business, made.subscription.id)
    assert tried.delivery.state is DeliveryState.pending
    assert error is None or error in str(tried.attempts[0].error)
    assert len(relayed.subscriber.received) == 1  # nothing was followed


async def test_one_slow_endpoint_delays_nobody(relayed: Relayed) -> None:
    async with subscribing(seconds=30) as slow:
        await relayed.subscribe("stamp_added", url=f"{slow.origin}/slow")
        await relayed.subscribe("stamp_added")
        for number in range(1, 31):
            await relayed.happen(f"card_{number}", number)
        draining = asyncio.create_task(relayed.host.relay.drain())
        async with asyncio.timeout(9):  # before the slow one's first call is given up
            while len(relayed.subscriber.taken) < 30:  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(0.02)
        assert len(slow.received) <= 8
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)


async def test_a_subscriber_for_whom_too_much_waits_is_stopped(relayed: Relayed) -> None:
    import dataclasses

    relayed.host.store.quotas = dataclasses.replace(relayed.host.store.quotas, relayed=3)
    made = await relayed.subscribe("stamp_added")
    for number in range(5):
        await relayed.happen("card_1", number)
    stopped = await relayed.subscription(made)
    assert (stopped.state, stopped.reason.id, stopped.pending) == (SubscriptionState.disabled, "relay.full", 3)


async def test_an_event_is_recorded_only_with_what_caused_it(relayed: Relayed) -> None:
    await relayed.subscribe("stamp_added")
    event = StampAdded(id="x", at=moment(relayed.clock.now()), business_id=relayed.business)

    def work(tx: Any) -> None:
        tx.events.append(LoyaltyEventReceived(relayed.business, event))
        raise RuntimeError("the transaction fails")

    with pytest.raises(RuntimeError):
        await relayed.host.store.write(work)
    assert await relayed.host.store.read(lambda tx: relay.deliveries.newest_events(tx, relayed.business, limit=5)) == []


# Bad input


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"events": ("stamp_aded",)}, "nearest: stamp_added"),
        ({"filter": "length(data)"}, "no functions"),
        ({"filter": "data["}, "no path"),
        ({"shape": "slak"}, "known: slack"),
        ({"url": "https://10.0.0.1/hook"}, "private network"),
        ({"url": "http://example.com/hook"}, "https://"),
        ({"url": "https://user:pass@example.com/"}, "no user"),
        ({"url": "https://exa mple.com/"}, "no address"),
    ],
)
async def test_what_cannot_be_subscribed_is_refused_in_words(relayed: Relayed, wrong: Any, says: str) -> None:
    request = {"url": relayed.subscriber.origin, **wrong}
    with pytest.raises(Refusal, match=says):
        await relayed.service.create(relayed.business, SubscriptionRequest(**request))


async def test_subscriptions_of_a_business_are_bounded_and_nobody_elses(relayed: Relayed) -> None:
    import dataclasses

    relayed.host.store.quotas = dataclasses.replace(relayed.host.store.quotas, subscriptions=1)
    made = await relayed.subscribe()
    with pytest.raises(Refusal, match="at most 1"):
        await relayed.subscribe()
    for call in (
        relayed.service.get("b_other", made.subscription.id),
        relayed.service.remove("b_other", made.subscription.id),
        relayed.service.send_test("b_other", made.subscription.id),
        relayed.service.replay_failed("b_other", made.subscription.id),
        relayed.service.renew_secret("b_other", made.subscription.id),
        relayed.service.edit("b_other", made.subscription.id, title="x"),
        relayed.service.deliveries("b_other", made.subscription.id),
    ):
        with pytest.raises(NotFound):
            await call
    await relayed.service.remove(relayed.business, made.subscription.id)
    assert await relayed.service.list_all(relayed.business) == []


async def test_an_address_that_is_mended_gets_what_waited(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added", url="http://127.0.0.1:9/closed")
    await relayed.happen("card_1")
    await relayed.host.relay.drain()
    assert (await relayed.subscription(made)).failures == 1
    await relayed.service.edit(relayed.business, made.subscription.id, url=f"{relayed.subscriber.origin}/hook")
    await relayed.service.set_active(relayed.business, made.subscription.id, active=True)
    await relayed.host.relay.drain()
    assert counts(relayed.subscriber.taken, "card_1") == [1]


async def test_every_event_has_a_sample(relayed: Relayed) -> None:
    for event in KNOWN_EVENTS:
        (sample,) = await relayed.service.samples(relayed.business, event)
        assert sample["type"] == event
        assert json.dumps(sample)
    await relayed.subscribe("stamp_added")
    await relayed.happen("card_1", 7)
    (newest,) = await relayed.service.samples(relayed.business, "stamp_added")
    assert newest["data"]["count"] == 7  # type: ignore[index,call-overload]
    assert PHONE not in json.dumps(newest)


async def test_a_customer_who_is_forgotten_is_sent_to_nobody_any_more(relayed: Relayed) -> None:
    from connectors.domain.person import Reference

    made = await relayed.subscribe("card_opened", personal=True)
    for phone in (ANNA, BORYS):
        event = CardOpened(
            id=phone,
            at=moment(relayed.clock.now()),
            business_id=relayed.business,
            card=LoyaltyCard(id=f"card {phone}"),
            customer=LoyaltyCustomer(phone=phone),
        )
        await relayed.host.store.write(
            lambda tx, event=event: tx.events.append(LoyaltyEventReceived(relayed.business, event))  # type: ignore[misc]
        )
    people = relayed.host.services.people
    (business,) = await people.businesses(None)

    async def ignore(_share: float) -> None:
        return

    assert (await people.forget_person(Reference("phone", ANNA), business, ignore)).counts.events == 1
    await relayed.host.relay.drain()
    assert [one.json["data"]["customer"]["phone"] for one in relayed.subscriber.received] == [BORYS]
    assert (await relayed.subscription(made)).pending == 0


async def test_old_deliveries_go_and_what_waits_stays(relayed: Relayed) -> None:
    made = await relayed.subscribe("stamp_added")
    await relayed.happen("card_1", 1)
    await relayed.host.relay.drain()
    relayed.subscriber.answer = lambda _one: 400
    await relayed.happen("card_1", 2)
    await relayed.host.relay.drain()
    relayed.clock.ahead += 31 * DAY
    await relayed.host.retention.round()
    assert await relayed.states(made) == ["pending"]
