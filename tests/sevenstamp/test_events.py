"""7stamp's webhooks on the wire: the thirteen events in both spellings, and whatever else a body may hold."""

from __future__ import annotations

import contextlib
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector_sdk.loyalty import (
    CampaignSent,
    CardIssued,
    LoyaltyEvent,
    OtherEvent,
    StampAdded,
    VoucherRedeemed,
    event_from_json,
)
from connectors.sevenstamp.events import EVENTS, MALAY_EVENTS, UnreadableEvent, read_event
from connectors.sevenstamp.sandbox.webhooks import _in_malay
from tests.sevenstamp.contract import SPEC, Contract

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SAMPLES = Path(__file__).parents[1] / "samples" / "sevenstamp"
FACTS: dict[str, Any] = {
    "timestamp": "2026-05-11T12:34:56Z",
    "business_id": "b_123",
    "location_id": "loc_45",
    "customer": {"id": "c_789", "wallet_pass_id": "wp_abc", "language": "en", "phone": "+380501112201"},
    "card": {"id": "card_001", "goal_index": 2, "number": "123456", "stamps": 3, "goal": 8},
}
VOUCHER = {
    "id": "v_555",
    "type": "voucher",
    "redeem_code": "FREECOFFEE",
    "redeem_code_formats": ["text", "qr", "barcode"],
    "status": "redeemed",
    "redeemed_via": "staff_scanner",
}
OWN: dict[str, dict[str, Any]] = {
    "stamp_added": {"stamps": 2, "code": "poster:1:2:1", "receipt": "poster:1:2"},
    "reward_issued": {"reward": {"type": "voucher"}},
    "voucher_issued": {"voucher": {**VOUCHER, "status": "issued"}},
    "voucher_redeemed": {"voucher": VOUCHER, "code": "poster:1:2:3"},
    "voucher_expired": {"voucher": {**VOUCHER, "status": "expired"}},
    "lottery_played": {"lottery": {"result": "won"}},
    "campaign_sent": {"campaign": {"name": "Autumn", "channel": "messengers"}},
}


def body(event: str) -> dict[str, Any]:
    return {"event": event, **FACTS, **OWN.get(event, {})}


def read(content: Any) -> LoyaltyEvent:
    return read_event(json.dumps(content).encode(), "msg_1", NOW)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_reads_to_the_same_value_in_both_spellings(event: str) -> None:
    english, malay = body(event), _in_malay(body(event))
    assert isinstance(malay, dict)
    assert MALAY_EVENTS[malay["acara"]] == event  # the translation is the documentation's, not only ours
    value = read(english)
    assert read(malay) == value
    assert read({**malay, "acara": malay["acara"].upper()}) == value
    assert value.event == event
    assert value.further == {}  # everything of it has a place
    assert event_from_json(value.model_dump_json()) == value
    Contract(None).validate(english, SPEC["components"]["schemas"]["LoyaltyEvent"], event)  # type: ignore[arg-type]


def test_both_published_samples_read_to_the_same_value() -> None:
    english, malay = (
        read_event((SAMPLES / f"voucher_redeemed.{language}.json").read_bytes(), "msg_1", NOW)
        for language in ("en", "ms")
    )
    assert isinstance(english, VoucherRedeemed)
    assert english.voucher.redeemed_via == "staff_scanner"
    assert english.voucher.redeem_code_formats == ("text", "qr", "barcode")
    # the documentation wrote another card's id into the translated sample: ids are never translated
    assert malay.card.id == "kad_001"
    assert malay.model_copy(update={"card": english.card}) == english


def test_values_of_single_events_stand_where_a_reader_looks_for_them() -> None:
    stamp, campaign = read(body("stamp_added")), read(body("campaign_sent"))
    assert isinstance(stamp, StampAdded)
    assert (stamp.count, stamp.code, stamp.receipt) == (2, "poster:1:2:1", "poster:1:2")
    assert isinstance(campaign, CampaignSent)
    assert (campaign.channel, campaign.campaign) == ("messengers", "Autumn")
    issued = read(body("card_issued"))
    assert isinstance(issued, CardIssued)
    assert issued.customer.phone == "+380501112201"
    assert "+380501112201" not in repr(issued)


def test_unknown_events_and_keys_are_kept() -> None:
    event = read({**body("card_opened"), "event": "card_shared", "via": "link", "card": {"id": "c", "colour": "red"}})
    assert isinstance(event, OtherEvent)
    assert event.event == "card_shared"
    assert event.further == {"via": "link", "card": {"colour": "red"}}


def test_what_has_another_type_is_left_out_and_kept() -> None:
    odd = {
        "event": "stamp_added",
        "timestamp": 5,
        "stamps": True,
        "card": "c1",
        "customer": {"phone": 5},
        "code": "x" * 501,
    }
    event = read(odd)
    assert isinstance(event, StampAdded)
    assert (event.at, event.count, event.card.id, event.code) == (NOW, None, None, None)
    assert event.further == {key: value for key, value in odd.items() if key != "event"}


_NO_EVENTS = (
    b"",
    b"[]",
    b"{}",
    b'{"event": 5}',
    b'{"event": ""}',
    b'{"event":"a\\nb"}',
    b"\xff",
    b'{"event":"\\ud800"}',
    b'{"event":"x","a":NaN}',
    b'{"event":"x","a":' + b"9" * 5000 + b"}",
    b'{"event":"x","a":' + b"[" * 60 + b"]" * 60 + b"}",
    b"[" * 9000,
)


@pytest.mark.parametrize("content", _NO_EVENTS)
def test_what_is_no_event_says_so(content: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        read_event(content, "msg_1", NOW)


_ODD: tuple[Any, ...] = (
    None, True, -1, 10**30, 1e308, -0.0, "", "x" * 600, "\x00", "ditebus", "2026-13-01", [], {}, [[[]]],
    {"id": {"id": 1}}, {"jenis": "voucher", "type": 5}, ["teks"] * 11, "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
)  # fmt: skip


def _mutated(chance: random.Random, value: Any) -> Any:
    """Change a body somewhere: drop a member, put something odd in its place, name it otherwise, or nest it."""
    if not isinstance(value, dict) or not value or chance.random() < 0.2:
        return chance.choice(_ODD)
    name = chance.choice(list(value))
    match chance.randrange(4):
        case 0:
            return {key: inner for key, inner in value.items() if key != name}
        case 1:
            return {**value, chance.choice(["acara", "kad", "further", "", "\u2028", name]): chance.choice(_ODD)}
        case 2:
            return {**value, name: _mutated(chance, value[name])}
    return {**value, name: chance.choice([value, value[name], [value[name]]])}


def test_ten_thousand_bodies_are_events_or_not_and_nothing_else() -> None:
    chance, events = random.Random(13), 0
    for number in range(10_000):
        content: Any = body(EVENTS[number % len(EVENTS)])
        for _ in range(chance.randrange(1, 6)):
            content = _mutated(chance, content)
        text = json.dumps(_in_malay(content) if number % 2 else content).encode()
        if number % 10 == 0:  # cut off, or with a byte that is another
            text = text[: chance.randrange(len(text) + 1)] + bytes([chance.randrange(256)])
        try:
            value = read_event(text, "msg_1", NOW)
        except UnreadableEvent:
            continue
        events += 1
        restored = event_from_json(value.model_dump_json())
        assert (restored.event, restored.id, restored.at) == (value.event, "msg_1", value.at)
    assert events > 3000  # most of what was changed still is one


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_anything_are_an_event_or_not(content: bytes) -> None:
    with contextlib.suppress(UnreadableEvent):
        read_event(content, "msg_1", NOW)
