"""Recordings of a real account hold no secrets and no people, and are read for ever as they were then."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.testing import Fault, Faulty, awkward_moments, written
from connector_sdk.testing.disguise import Disguise, Undisguisable
from connector_sdk.testing.recording import Exchange, Recorder, Recording, Replay, make_recording, read_once
from poster_connector import PosterConnector
from poster_connector.sandbox import Account, PosterSandbox
from poster_connector.settings import PosterApp, PosterSettings

SINCE = datetime.now(UTC) - timedelta(days=1)


async def record(account: Account) -> Recording:
    """Poll a Poster account of the sandbox, and record the reading."""
    sandbox = PosterSandbox(account)
    settings = PosterSettings.model_validate(sandbox.settings())
    app = PosterApp(api_url="http://poster.test/api")
    transport = Recorder(httpx.ASGITransport(app=sandbox.application()))
    till_account = await PosterConnector(settings, app=app, transport=transport).check()
    connector = PosterConnector(settings, app=app, account=till_account, transport=transport)
    await read_once(connector, SINCE)
    return await make_recording(PosterConnector, settings, app, till_account, transport.exchanges, SINCE)


async def test_a_recording_tells_no_secret_and_nobody_and_is_read_as_the_account_was() -> None:
    account = Account()
    for number in range(3):
        client = account.client("+380501112201", email="anna@example.com")
        account.sell(client, paid=12750 + number, comment="voucher FREECOFFEE9 for Anna")
    text = (await record(account)).to_text()
    token = PosterSandbox(account).settings()["access_token"]
    for hidden in (token, token.partition(":")[2], "anna@example.com", "+380501112201", "501112201", "FREECOFFEE9"):
        assert hidden not in text
    recording = Recording.from_text(text)
    assert [sale["paid"]["minor"] for sale in recording.sales] == [12750, 12751, 12752]
    assert await recording.difference(PosterConnector) == ""


async def test_what_is_read_otherwise_than_then_is_named() -> None:
    account = Account()
    account.sell(0, paid=4500)
    raw = json.loads((await record(account)).to_text())
    raw["sales"][0]["paid"]["minor"] = 45
    difference = await Recording.from_text(json.dumps(raw)).difference(PosterConnector)
    assert difference.startswith(f"receipt {raw['sales'][0]['receipt_id']}: paid was")
    raw["sales"] = []
    assert "0 receipts were read from it, and 1 are now" in await Recording.from_text(json.dumps(raw)).difference(
        PosterConnector
    )
    raw["settings"] = {"access_token": "no token"}
    assert "its settings do not fit any more" in await Recording.from_text(json.dumps(raw)).difference(PosterConnector)
    with pytest.raises(ValueError, match="this is no recording"):
        Recording.from_text("{}")


SECRET = "sk_live_9f8e7d6c5b4a"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(BODIES, TEXTS)
def test_no_body_keeps_a_secret_and_all_stay_what_they_were(body: object, around: str) -> None:
    # the secret stands within a longer text, the phone under a telling name; total and id must stay as they are
    sent = {"data": body, "note": f"{around}{SECRET}", "phone": "+34600111222", "total": "12.50", "id": 1234567890123}
    disguised = Disguise([SECRET]).body(json.dumps(sent).encode())
    assert SECRET.encode() not in disguised
    assert b"600111222" not in disguised
    received = json.loads(disguised)
    assert (received["total"], received["id"]) == ("12.50", 1234567890123)
    assert _shape(received["data"]) == _shape(body)


def _shape(value: object) -> object:
    """Return a JSON value with the type of each leaf in its place."""
    match value:
        case dict():
            return {name: _shape(member) for name, member in value.items()}
        case list():
            return [_shape(element) for element in value]
    return type(value)


def test_numbers_stay_as_they_were_sent() -> None:
    assert b'"total": 12.50' in Disguise().body(b'{"total": 12.50, "long": 123456789012345678901234567890}')


def test_the_same_person_is_the_same_everywhere_and_another_is_another() -> None:
    disguise = Disguise()
    first, same, other = (
        disguise.value({"phone": phone})["phone"] for phone in ("+34600111222", "+34600111222", "+34600111333")
    )
    assert first == same != other
    assert first.startswith("+3460")


async def test_a_replay_answers_by_query_and_then_by_turn_and_asks_nobody() -> None:
    pages = [Exchange("GET", "/r", (("cursor", str(page)),), 200, {}, f"[{page}]".encode()) for page in range(3)]
    async with httpx.AsyncClient(transport=Replay(pages), base_url="http://till") as client:
        # by its query, out of turn; then by turn, for a query that was not recorded; then by its query again
        assert (await client.get("/r?cursor=1")).json() == [1]
        assert (await client.get("/r?cursor=of-today")).json() == [0]
        assert (await client.get("/r?cursor=2")).json() == [2]
        with pytest.raises(httpx.ConnectError, match="nothing was recorded for GET /other"):
            await client.get("/other")


async def test_a_stub_fails_as_it_is_told_and_then_answers() -> None:
    faulty = Faulty(httpx.MockTransport(lambda _request: httpx.Response(200, json={})))
    faulty.fail(Fault.rate_limited, 2)
    async with httpx.AsyncClient(transport=faulty, base_url="http://till") as client:
        assert [(await client.get("/")).status_code for _ in range(3)] == [429, 429, 200]


def test_awkward_moments_hold_the_hour_that_comes_twice_and_the_one_that_never_was() -> None:
    moments = awkward_moments("Europe/Madrid", datetime(2026, 11, 24, 12, tzinfo=UTC))
    assert datetime(2026, 11, 23, 23, 0, tzinfo=UTC) in moments  # midnight
    texts = [written(moment, "Europe/Madrid") for moment in moments]
    assert "2026-10-25 02:30:00" in texts
    # the clock went back in October: 02:30 came twice, and both moments read the same
    assert len(texts) - len(set(texts)) == 1
    # it went forward in March: no time from 02:00 to 03:00 was ever shown
    assert not [text for text in texts if text.startswith("2026-03-29 02:")]
    assert moments == tuple(sorted(moments))


TOKEN = "861052:0239abcdef0239abcdef"


@pytest.mark.parametrize(
    ("sent", "hidden"),
    [
        ({"next": "https://till.example/r?token=861052%3A0239abcdef0239abcdef"}, "0239abcdef"),
        ({"data": json.dumps({"access_token": "999:0000ffff0000ffff"})}, "0000ffff0000ffff"),
        ({TOKEN: "x"}, TOKEN),
        ({"auth": base64.b64encode(TOKEN.encode()).decode()}, base64.b64encode(TOKEN.encode()).decode()[:20]),
        ({"note": TOKEN.upper()}, TOKEN.upper()),
        ({"anna@example.org": 1, "+34600111222": 2}, "anna"),
        ({"x": "mail to anna.smith%40example.org or 0034600111222"}, "600111222"),
        ({"name": "Anna Smith <anna@example.org>"}, "Anna Smith"),
        ({"comment": "Anna Smith, call +34600111222"}, "Anna Smith"),
        ({"cliente": {"nombre": "Anna"}, "telefono": "600111222"}, "600111222"),
        ({"phones": ["600111222"], "msisdn": 34600111222}, "600111222"),
        ({"customer": "Anna Smith"}, "Anna"),
        ({"name": "Bo"}, "Bo"),
    ],
)
def test_secrets_and_people_are_hidden_however_they_are_written(sent: dict[str, object], hidden: str) -> None:
    disguised = Disguise([TOKEN]).body(json.dumps(sent).encode()).decode()
    assert hidden not in disguised
    json.loads(disguised)


def test_a_short_name_is_never_replaced_by_itself() -> None:
    drawn = [Disguise().body(b'{"name": "Bo"}') for _ in range(2000)]
    assert not [disguised for disguised in drawn if b"Bo" in disguised]


def test_forms_are_looked_through_and_what_cannot_be_is_not_kept() -> None:
    form = b"phone=600111222&total=12.50&token=861052%3A0239abcdef0239abcdef"
    disguised = Disguise([TOKEN]).body(form).decode()
    assert "600111222" not in disguised
    assert "0239abcdef" not in disguised
    assert "total=12.50" in disguised
    with pytest.raises(Undisguisable, match="neither JSON nor a form"):
        Disguise().body(b"<receipt>" + b"<name>Anna</name>" * 20)
    with pytest.raises(Undisguisable, match="nested too deep"):
        Disguise().body(b"[" * 900 + b"]" * 900)
