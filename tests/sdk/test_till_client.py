"""The till client: deadline, retries of what is safe, a shared rate limit, and errors that hold no token."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import respx
from pydantic import SecretStr

from connector_sdk import (
    Ambiguous,
    BadPayload,
    Cursor,
    Grant,
    Link,
    MissingRight,
    NotAuthorised,
    NotFound,
    RateLimit,
    RateLimited,
    TillClient,
    TillUnavailable,
)
from connector_sdk.authorisation import Credentials
from connector_sdk.http import production_transport, send
from connector_sdk.json_text import encode_json
from tests.virtual_time import VirtualLoop, run

TOKEN = "861052:02391570ff9af128e93c5a771055ba88"


def client(**options: Any) -> TillClient:
    """Build a client of a till at `till.test`; `options` replace or add arguments of `TillClient`."""
    defaults: dict[str, Any] = {
        "limit": RateLimit(1000),
        "secrets": [TOKEN],
        "query": {"token": TOKEN},
        # respx patches httpx's own transport; the production transport is aiohttp's
        "transport": httpx.AsyncHTTPTransport(),
    }
    return TillClient("https://till.test/api", **(defaults | options))


@respx.mock
async def test_a_read_is_tried_again_and_the_token_goes_along() -> None:
    route = respx.get("https://till.test/api/x").mock(
        side_effect=[httpx.ConnectError("no"), httpx.Response(502), httpx.Response(200, json={"a": 1})]
    )
    assert await client().read("x", {"id": "7"}) == {"a": 1}
    assert dict(route.calls.last.request.url.params) == {"token": TOKEN, "id": "7"}


@respx.mock
async def test_a_write_is_never_tried_again() -> None:
    route = respx.post("https://till.test/api/x").mock(side_effect=httpx.ReadError("cut"))
    with pytest.raises(Ambiguous):
        await client().write("x", form={"a": "1"})
    assert route.call_count == 1
    # never connected, so the write surely has not taken effect
    respx.post("https://till.test/api/x").mock(side_effect=httpx.ConnectError("no"))
    with pytest.raises(TillUnavailable):
        await client().write("x", form={})
    # an answer nobody understands: the till may well have done it
    respx.post("https://till.test/api/x").mock(return_value=httpx.Response(200, content=b"ok"))
    with pytest.raises(Ambiguous):
        await client().write("x", form={})


@respx.mock
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401), NotAuthorised),
        (httpx.Response(429, headers={"retry-after": "60"}), RateLimited),
        (httpx.Response(500, text=f"oops {TOKEN}"), TillUnavailable),
        (httpx.Response(200, text="<html>"), TillUnavailable),
        (httpx.Response(400, json={}), BadPayload),
        (httpx.ConnectTimeout(f"https://till.test/api/x?token={TOKEN}"), TillUnavailable),
    ],
)
async def test_errors_say_what_to_do_and_never_the_token(answer: Any, error: type[Exception]) -> None:
    mock = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
    respx.get("https://till.test/api/x").mock(**mock)
    with pytest.raises(error) as raised:
        await client(deadline=1.0).read("x")
    # a traceback prints the errors behind an error, too, unless they are suppressed
    chain: BaseException | None = raised.value
    while chain is not None:
        assert TOKEN not in str(chain)
        chain = None if chain.__suppress_context__ else chain.__context__


@pytest.mark.parametrize(
    ("answer_seconds", "attempts"),
    [
        (60.0, 1),  # the first answer does not come in time
        (4.0, 3),  # two attempts fail in time, and the third is cut off
        (4.8, 2),  # the pause before a third attempt would end after the deadline: it is not begun
    ],
)
def test_one_deadline_holds_for_the_whole_call(
    monkeypatch: pytest.MonkeyPatch, answer_seconds: float, attempts: int
) -> None:
    loop = VirtualLoop()
    requests: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        await asyncio.sleep(answer_seconds)
        return httpx.Response(503)

    async def call() -> None:
        with pytest.raises(TillUnavailable):
            await client(transport=httpx.MockTransport(answer), deadline=10.0).read("x")

    # the client's own clock must be the loop's, which jumps to the next timer
    monkeypatch.setattr("connector_sdk.till_client.time", SimpleNamespace(monotonic=loop.time))
    try:
        run(loop, call())
    finally:
        loop.close()
    assert len(requests) == attempts
    assert loop.time() <= 10.0 + 0.001  # an event loop's timers are a clock tick late


async def test_an_answer_too_large_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connector_sdk.http.MAX_ANSWER_BYTES", 1000)
    large = httpx.MockTransport(lambda _request: httpx.Response(200, content=b"[" + b"1," * 1000 + b"1]"))
    with pytest.raises(TillUnavailable):
        await client(transport=large, attempts=1).read("x")


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    paths: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readuntil(b"\r\n\r\n")).decode().split()[1])
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /inside\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    # the production transport over a real socket: it is this one that must not follow
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    transport = production_transport(1)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    assert (await send(transport, "GET", address, deadline=10)).status_code == 302
    assert paths == ["/x"]
    await transport.aclose()
    server.close()
    await server.wait_closed()


_SLEEP = asyncio.sleep


@dataclass
class PauseRecorder:
    """A clock on which only pauses take time; it records them, in seconds."""

    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


async def test_the_rate_limit_is_the_accounts_whoever_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = PauseRecorder()
    monkeypatch.setattr("connector_sdk.rate_limit.time", clock)
    monkeypatch.setattr("connector_sdk.rate_limit.asyncio.sleep", clock.sleep)
    first, second = RateLimit.shared("account-1", 4), RateLimit.shared("account-1", 4)
    assert first is second
    assert RateLimit.shared("account-2", 4) is not first
    for limit in (first, second) * 7:
        await limit.turn()
    # fourteen calls at four a second: ten in a burst, and each further call a quarter of a second after the last
    assert clock.pauses == [0.25] * 4


@dataclass
class LenderOfOne:
    """Lends turns as the database of a cluster does, and notes what it is asked; without `given_until` it is down."""

    clock: PauseRecorder
    asked: list[int] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    given_until: float | None = 0.0

    async def __call__(self, name: str, per_second: float, burst: int, turns: int, paused: float) -> float | None:
        self.asked.append(turns)
        self.paused.append(paused)
        await _SLEEP(0)  # as a database takes its time
        if self.given_until is None:
            return None
        begin = max(self.given_until, self.clock.now + (paused or -burst / per_second))
        self.given_until = begin + turns / per_second
        return begin + 1 / per_second - self.clock.now


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> LenderOfOne:
    clock = PauseRecorder()
    monkeypatch.setattr("connector_sdk.rate_limit.time", clock)
    monkeypatch.setattr("connector_sdk.rate_limit.asyncio.sleep", clock.sleep)
    lender = LenderOfOne(clock)
    monkeypatch.setattr(RateLimit, "lender", lender)
    return lender


async def test_turns_that_are_lent_in_slices_are_as_far_apart_as_others(lent: LenderOfOne) -> None:
    limit = RateLimit.shared("lent-1", 4)
    for _ in range(30):
        await limit.turn()
    assert sum(lent.clock.pauses) == pytest.approx(20 * 0.25)
    # one, two, then a second's worth at a time
    assert lent.asked[:3] == [1, 2, 4]
    assert set(lent.asked[3:]) == {4}


async def test_who_calls_seldom_keeps_no_turns_from_others(lent: LenderOfOne) -> None:
    limit = RateLimit.shared("lent-2", 4)
    for _ in range(6):
        await limit.turn()
        lent.clock.now += 60
    assert lent.asked == [1] * 6
    assert lent.clock.pauses == []


async def test_callers_at_once_borrow_their_turns_together(lent: LenderOfOne) -> None:
    limit = RateLimit.shared("lent-3", 20)
    await asyncio.gather(*(limit.turn() for _ in range(15)))
    assert lent.asked == [1, 14]


async def test_a_pause_that_the_till_asked_for_is_told_with_what_is_lent_next(lent: LenderOfOne) -> None:
    limit = RateLimit.shared("lent-4", 4)
    await limit.turn()
    limit.pause(30)
    with pytest.raises(RateLimited):
        await limit.turn(most=10)
    assert lent.paused == [0.0, 30.0]
    lent.clock.now += 31
    await limit.turn()
    assert lent.clock.pauses == []


async def test_a_lender_that_is_down_leaves_the_pace_of_one_process(lent: LenderOfOne) -> None:
    limit = RateLimit.shared("lent-5", 4)
    lent.given_until = None
    for _ in range(14):
        await limit.turn()
    assert lent.clock.pauses == [0.25] * 4


# --- pages ------------------------------------------------------------------------------------------------------------


def scripted(*answers: httpx.Response) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A transport that gives these answers in turn, and the requests that it was asked."""
    requests: list[httpx.Request] = []
    remaining = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return next(remaining)

    return httpx.MockTransport(answer), requests


async def pages_of(transport: httpx.MockTransport, by: Cursor | Link, **asked: Any) -> list[Any]:
    return [page async for page in client(transport=transport, query={}).pages("x", by=by, **asked)]


async def test_pages_follow_a_cursor_wherever_the_answer_has_it() -> None:
    transport, requests = scripted(
        httpx.Response(200, json={"meta": {"next": "b"}}),
        httpx.Response(200, json={"meta": {"next": 7}}),
        httpx.Response(200, json={"meta": {}}),
    )
    pages = await pages_of(transport, Cursor("meta.next", sent_as="after"), params={"limit": "2"})
    assert len(pages) == 3
    assert [dict(request.url.params) for request in requests] == [
        {"limit": "2"},
        {"limit": "2", "after": "b"},
        {"limit": "2", "after": "7"},
    ]


async def test_a_cursor_that_the_till_repeats_ends_with_an_empty_list() -> None:
    answers = [{"items": [1], "last": "b"}, {"items": [2], "last": "c"}, {"items": [], "last": "c"}]
    transport, requests = scripted(*(httpx.Response(200, json=answer) for answer in answers))
    pages = await pages_of(transport, Cursor("last", until_empty="items"))
    assert [page["items"] for page in pages] == [[1], [2], []]
    assert len(requests) == 3


async def test_a_link_shows_no_token_of_its_query_in_an_error_and_keeps_what_goes_with_every_request() -> None:
    transport, requests = scripted(
        httpx.Response(200, json={"next": "/api/x?page=2&token=of-the-answer"}), httpx.Response(400, json={})
    )
    with pytest.raises(BadPayload) as raised:
        async for _ in client(transport=transport).pages("x", by=Link("next")):
            pass
    assert "of-the-answer" not in str(raised.value)
    assert requests[1].url.params.multi_items() == [("token", TOKEN), ("page", "2")]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_by_another_method_may_be_answered_with_nothing(method: Any) -> None:
    transport, requests = scripted(httpx.Response(204))
    assert await client(transport=transport).write("x", method=method) is None
    assert requests[0].method == method


async def test_a_search_by_post_sends_the_same_question_with_the_cursor_in_it() -> None:
    transport, requests = scripted(httpx.Response(200, json={"cursor": "b"}), httpx.Response(200, json={}))
    await pages_of(transport, Cursor("cursor"), body={"limit": 2})
    assert [(request.method, json.loads(request.content)) for request in requests] == [
        ("POST", {"limit": 2}),
        ("POST", {"limit": 2, "cursor": "b"}),
    ]


async def test_pages_follow_a_link_in_the_body_or_in_the_header() -> None:
    transport, requests = scripted(
        httpx.Response(200, json={"links": {"next": "/api/x?page=2"}}),
        httpx.Response(200, json={"links": {"next": "https://till.test/api/x?page=3"}}),
        httpx.Response(200, json={"links": {"next": None}}),
    )
    await pages_of(transport, Link("links.next"))
    assert [str(request.url).removeprefix("https://till.test/api/") for request in requests] == [
        "x",
        "x?page=2",
        "x?page=3",
    ]
    header = {"link": '<https://till.test/api/x?page=1>; rel="prev", <https://till.test/api/x?page=9>; rel="next"'}
    transport, requests = scripted(httpx.Response(200, json=[1], headers=header), httpx.Response(200, json=[2]))
    assert await pages_of(transport, Link()) == [[1], [2]]
    assert requests[1].url.params["page"] == "9"


@pytest.mark.parametrize(
    "address", ["https://evil.test/api/x", "//evil.test/api/x", "http://till.test/api/x", "https://till.test/admin"]
)
async def test_a_link_to_another_place_is_not_followed_with_our_token(address: str) -> None:
    transport, requests = scripted(httpx.Response(200, json={"next": address}))
    with pytest.raises(BadPayload, match="another address"):
        await pages_of(transport, Link("next"))
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("first", "error"), [({"c": "b"}, "circle"), ({"c": {"b": 1}}, "understood"), ({"c": "x" * 5000}, "understood")]
)
async def test_pages_that_lead_nowhere_are_no_end(first: Any, error: str) -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json=first))
    with pytest.raises(TillUnavailable, match=error):
        await pages_of(transport, Cursor("c"))


# --- access -----------------------------------------------------------------------------------------------------------


class Renewing(Credentials):
    """Credentials that give another token each time."""

    def __init__(self) -> None:
        super().__init__(Grant({"access_token": SecretStr("token-1")}))
        self.renewals = 0

    async def renew(self, refused: Grant) -> Grant:
        if self._grant is refused:
            self.renewals += 1
            self._grant = Grant({"access_token": SecretStr(f"token-{self.renewals + 1}")})
        return self._grant


async def test_a_refused_grant_is_renewed_once_and_the_request_sent_again_with_the_new_one() -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200 if seen[-1] == "Bearer token-2" else 401, json={})

    credentials = Renewing()
    till = client(transport=httpx.MockTransport(answer), credentials=credentials)
    await till.read("x")
    await till.write("x", body={"a": 1})
    assert seen == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
    assert credentials.renewals == 1


async def test_a_grant_that_is_refused_again_after_its_renewal_is_not_renewed_without_end() -> None:
    credentials = Renewing()
    till = client(transport=httpx.MockTransport(lambda _request: httpx.Response(401, json={})), credentials=credentials)
    with pytest.raises(NotAuthorised):
        await till.read("x")
    assert credentials.renewals == 1


async def test_a_right_that_is_missing_is_not_gained_by_a_renewal() -> None:
    def judge(status: int, _answer: object) -> None:
        if status == 403:
            raise MissingRight("read orders")

    credentials = Renewing()
    transport = httpx.MockTransport(lambda _request: httpx.Response(403, json={}))
    with pytest.raises(MissingRight):
        await client(transport=transport, credentials=credentials, judge=judge).read("x")
    assert credentials.renewals == 0


async def test_the_token_of_a_grant_stands_in_no_error() -> None:
    def fail(_request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut while sending token-1")

    with pytest.raises(TillUnavailable) as raised:
        await client(transport=httpx.MockTransport(fail), credentials=Renewing(), attempts=1).read("x")
    assert "token-1" not in str(raised.value)


# --- numbers and limits -----------------------------------------------------------------------------------------------


async def test_numbers_are_exact() -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=b'{"a": 19.99, "b": 7, "c": 1e2}'))
    answer = await client(transport=transport).read("x")
    assert answer == {"a": Decimal("19.99"), "b": 7, "c": Decimal("1e2")}
    assert not any(isinstance(value, float) for value in answer.values())
    assert json.loads(encode_json(answer)) == {"a": 19.99, "b": 7, "c": 100}
    assert json.loads(encode_json({"a": Decimal("0.1") + Decimal(10) ** -20})) == {"a": "0.10000000000000000001"}


async def test_a_429_pauses_everybody_who_shares_the_limit_and_a_pause_longer_than_the_deadline_is_told() -> None:
    answers = iter([httpx.Response(429, headers={"retry-after": "60"})])
    transport = httpx.MockTransport(lambda _request: next(answers))
    first = client(transport=transport, limit=RateLimit.shared("app", 1000))
    with pytest.raises(RateLimited):
        await first.read("x")
    # nothing is sent any more: the transport has no further answer
    other = client(transport=transport, limit=RateLimit.shared("app", 1000))
    for call in (other.read("x"), other.write("x", form={})):
        with pytest.raises(RateLimited) as raised:
            await call
        assert 50 < raised.value.retry_after <= 60


async def test_a_judge_sees_the_status_and_may_say_better_what_a_refusal_is() -> None:
    seen = []

    def judge(status: int, answer: Any) -> None:
        seen.append((status, answer))

    transport, _ = scripted(httpx.Response(404, json={"a": 1}), httpx.Response(200, json={"a": 2}))
    till = client(transport=transport, judge=judge)
    with pytest.raises(NotFound):
        await till.read("x")
    await till.read("x")
    assert seen == [(404, {"a": 1}), (200, {"a": 2})]
