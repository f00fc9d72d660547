"""The till client: deadline, retries of what is safe, a shared rate limit, and errors that hold no token."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import respx

from connector_sdk import (
    Ambiguous,
    BadPayload,
    NotAuthorised,
    RateLimit,
    RateLimited,
    TillClient,
    TillUnavailable,
)
from connector_sdk.http import production_transport, send
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
    monkeypatch.setattr("connector_sdk.till_client.time", clock)
    monkeypatch.setattr("connector_sdk.till_client.asyncio", clock)
    first, second = RateLimit.shared("account-1", 4), RateLimit.shared("account-1", 4)
    assert first is second
    assert RateLimit.shared("account-2", 4) is not first
    for limit in (first, second) * 7:
        await limit.turn()
    # fourteen calls at four a second: ten in a burst, and each further call a quarter of a second after the last
    assert clock.pauses == [0.25] * 4
