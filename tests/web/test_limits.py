"""No client takes more than its share: of headers, time, connections and memory, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.cookies
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.cli.servers import serving
from connectors.store import counters
from connectors.web.app import MOST_BODY, application
from connectors.web.console.posted_form import MAX_FORM_BYTES
from connectors.web.console.routers import ROUTERS
from connectors.web.limited_protocol import limited
from connectors.web.limits import Limits
from tests.installation import KEY, Installation
from tests.processes import origin_in, run, started
from tests.served_installation import until
from tests.web.browser import Browser, open_browsers

LOOPBACK = ip_network("127.0.0.0/8")
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: host\r\n"
KIB = 1024


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


class Client:
    """One connection to a server, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send what the server takes: it may close before it has everything."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(head[0].split()[1]), headers, body.decode())

    async def closed(self) -> bool:
        """Wait for the server to close."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


class Served:
    """A server and its clients."""

    def __init__(self, origin: str, refused: Counter[str]) -> None:
        self.origin, self.refused = origin, refused
        self.clients: list[Client] = []

    async def client(self, data: bytes = b"") -> Client:
        host, _, port = self.origin.removeprefix("http://").rpartition(":")
        client = Client(*await asyncio.open_connection(host, int(port)))
        self.clients.append(client)
        if data:
            await client.send(data)
        return client

    async def ask(self, data: bytes) -> Answer:
        return await (await self.client(data)).answer()


@asynccontextmanager
async def served(
    app: Any, refused: Counter[str] | None = None, *, proxied: bool = False, **limits: Any
) -> AsyncIterator[Served]:
    counter = refused if refused is not None else Counter()
    protocol = limited(Limits(**limits), [LOOPBACK] if proxied else [], counter)
    async with serving(app, protocol=protocol) as origin:
        server = Served(origin, counter)
        try:
            async with asyncio.timeout(30):
                yield server
        finally:
            for client in server.clients:
                await client.close()


def host_of(installation: Installation, **limits: Any) -> Any:
    """The installation's host, served within these limits."""
    return served(application(installation.host), installation.host.refused, **limits)


def post(path: str, body: bytes, *more: bytes, length: int | None = None) -> bytes:
    """A POST with this body, or the beginning of a longer one."""
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join((b"POST %s HTTP/1.1" % path.encode(), b"Host: host", size, *more, b"", body))


def hook(size: int, sent: int | None = None) -> bytes:
    """A hook of so many bytes, of which some are sent."""
    return post("/hooks/tills/poster", b" " * (size if sent is None else sent), length=size)


# --- headers and target -----------------------------------------------------------------------------------------


async def test_headers_over_64_kib_are_refused_with_431_and_counted(installation: Installation) -> None:
    async with host_of(installation) as server:
        for size in (64 * KIB, 40 * KIB * KIB):
            client = await server.client()
            sending = asyncio.create_task(client.send(HEALTH + b"Cookie: " + b"a" * size))
            answer = await client.answer()  # also while the client still sends
            await sending
            assert (answer.status, answer.headers["connection"]) == (431, "close")
            assert "at most 64 KiB" in answer.body
            assert await client.closed()
        many = b"".join(b"h%d: %s\r\n" % (number, b"v" * 1000) for number in range(70))
        assert (await server.ask(HEALTH + many + b"\r\n")).status == 431
        assert server.refused == {"headers too large": 3}
    # the host stopped with its server, and has written the counters
    assert (await installation.host.store.read(counters.read_counters))["refused: headers too large"] == 3


async def test_headers_just_below_the_limits_are_taken(installation: Installation) -> None:
    async with host_of(installation) as server:
        large = b"X-Large: " + b"a" * (64 * KIB - len(HEALTH) - 13) + b"\r\n\r\n"
        assert len(HEALTH + large) == 64 * KIB
        assert (await server.ask(HEALTH + large)).status == 200
        many = b"".join(b"h%d: %s\r\n" % (number, b"v" * 55) for number in range(990))
        assert (await server.ask(HEALTH + many + b"\r\n")).status == 200


async def test_many_small_headers_are_refused_for_what_they_take_in_memory(installation: Installation) -> None:
    async with host_of(installation) as server:
        assert (await server.ask(HEALTH + b"a:\r\n" * 1001 + b"\r\n")).status == 431


async def test_a_target_over_8_kib_is_refused_with_414(installation: Installation) -> None:
    async with host_of(installation) as server:
        for size in (8 * KIB + 1, KIB * KIB):
            answer = await server.ask(b"GET /" + b"a" * (size - 1) + b" HTTP/1.1\r\nHost: host\r\n\r\n")
            assert (answer.status, "at most 8 KiB" in answer.body) == (414, True)
        path = b"/healthz?q="
        taken = path + b"a" * (8 * KIB - len(path))
        assert (await server.ask(b"GET " + taken + b" HTTP/1.1\r\nHost: host\r\n\r\n")).status == 200
        assert server.refused == {"address too long": 2}


async def test_what_is_no_request_is_refused_with_400(installation: Installation) -> None:
    async with host_of(installation) as server:
        assert (await server.ask(b"\x16\x03\x01 hello\r\n\r\n")).status == 400


# --- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"GET", HEALTH, HEALTH + b"X-Slow: a"])
async def test_headers_that_do_not_end_are_answered_408_and_closed(installation: Installation, begun: bytes) -> None:
    async with host_of(installation, header_seconds=0.3) as server:
        client = await server.client(begun)
        answer = await client.answer()
        assert (answer.status, "took longer" in answer.body) == (408, True)
        assert await client.closed()


@pytest.mark.parametrize("part", ["headers", "body"])
async def test_a_byte_now_and_then_does_not_keep_a_request_open(installation: Installation, part: str) -> None:
    async with host_of(installation, header_seconds=0.4, body_seconds=0.4) as server:
        client = await server.client(HEALTH + b"X-Slow: " if part == "headers" else hook(1000, 1))
        answer = asyncio.create_task(client.answer())
        while not answer.done():
            await client.send(b"a")
            await asyncio.wait({answer}, timeout=0.05)
        assert (await answer).status == 408
        assert server.refused == {f"{part} too slow": 1}


async def test_a_body_that_does_not_end_is_answered_408_and_closed(installation: Installation) -> None:
    async with host_of(installation, body_seconds=0.3) as server:
        for request in (
            hook(1000, 10),
            post("/sign-in", b"key=", length=1000),
            b"POST /hooks/tills/poster HTTP/1.1\r\nHost: host\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n",
        ):
            client = await server.client(request)
            answer = await client.answer()
            assert (answer.status, "body took longer" in answer.body) == (408, True)
            assert await client.closed()


async def test_a_later_request_of_a_connection_has_the_same_time(installation: Installation) -> None:
    async with host_of(installation, header_seconds=1) as server:
        client = await server.client(HEALTH + b"\r\n")
        assert (await client.answer()).status == 200
        await client.send(HEALTH)
        assert (await client.answer()).status == 408
        assert await client.closed()


async def test_a_connection_ends_whose_body_came_after_its_answer(installation: Installation) -> None:
    async with host_of(installation, header_seconds=1) as server:
        client = await server.client(hook(MOST_BODY + 1, 0))
        assert (await client.answer()).status == 413
        await client.send(b" " * (MOST_BODY + 1))
        assert await client.closed()
        assert not server.refused


async def test_a_live_stream_outlives_every_time_limit(installation: Installation) -> None:
    await installation.connect()
    async with (
        host_of(installation, header_seconds=1, body_seconds=1, unread_seconds=1) as server,
        httpx.AsyncClient(base_url=server.origin, trust_env=False) as client,
    ):
        await (await Browser(client).sign_in(KEY)).get("/")
        async with client.stream("GET", f"/connections/{installation.connection.id}/events") as stream:
            lines = stream.aiter_lines()
            async for line in lines:  # said every three seconds
                if line == ": still here":
                    break
        assert not server.refused


# --- connections ------------------------------------------------------------------------------------------------


async def test_one_address_has_so_many_connections_and_the_rest_are_answered_503(installation: Installation) -> None:
    async with host_of(installation, connections_per_address=3) as server:
        first = [await server.client(HEALTH) for _ in range(3)]
        for _ in range(2):
            refused = await server.client()
            answer = await refused.answer()
            assert (answer.status, "at most 3" in answer.body, "retry-after" in answer.headers) == (503, True, True)
            assert await refused.closed()
        assert server.refused == {"too many connections of one address": 2}
        await first[0].close()
        await until(lambda: _is_taken(server))


async def _is_taken(server: Served) -> bool:
    try:
        return (await server.ask(HEALTH + b"\r\n")).status == 200
    except (ConnectionError, asyncio.IncompleteReadError):
        return False


async def test_a_trusted_proxy_speaks_for_many_and_all_together_are_bounded(installation: Installation) -> None:
    async with host_of(installation, proxied=True, connections_per_address=1, connections=4) as server:
        clients = [await server.client(HEALTH) for _ in range(4)]
        assert (await server.ask(HEALTH + b"\r\n")).status == 503
        assert server.refused == {"too many connections": 1}
        await clients[0].send(b"\r\n")
        assert (await clients[0].answer()).status == 200


# --- memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("of_one_address", [True, False])
async def test_unfinished_bodies_have_one_total_which_ends_with_those_who_sent_them(
    installation: Installation, of_one_address: bool
) -> None:
    limits = {"unfinished_bytes_per_address" if of_one_address else "unfinished_bytes": 512 * KIB}
    async with host_of(installation, proxied=not of_one_address, **limits) as server:
        begun = hook(MOST_BODY, 200 * KIB)
        first = [await server.client(begun) for _ in range(2)]
        await _heard(server)
        refused = await server.client(begun)
        answer = await refused.answer()
        assert (answer.status, answer.headers["retry-after"], "unfinished requests" in answer.body) == (503, "5", True)
        assert await refused.closed()
        # what arrives in one piece waits for nobody
        assert (await server.ask(hook(1000))).status == 400
        assert server.refused == {"too many unfinished requests": 1}
        for client in first:
            await client.close()
        await _heard(server)
        later = await server.client(begun)
        await _heard(server)
        await later.send(b" " * (MOST_BODY - 200 * KIB))
        assert (await later.answer()).status == 400


async def _heard(server: Served) -> None:
    """Wait until the server has read what was sent before: it serves sockets in turns."""
    for _ in range(3):
        assert (await server.ask(HEALTH + b"\r\n")).status == 200


async def test_unfinished_headers_count_to_the_same_total(installation: Installation) -> None:
    async with host_of(installation, unfinished_bytes=100 * KIB) as server:
        for _ in range(2):
            await server.client(HEALTH + b"X: " + b"a" * (40 * KIB))
        await _heard(server)
        assert (await server.ask(HEALTH + b"X: " + b"a" * (40 * KIB))).status == 503


async def test_a_body_is_counted_until_its_request_is_answered() -> None:
    go_on = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})

    async with served(_without_lifespan(slow), unfinished_bytes=100 * KIB) as server:
        waiting = await server.client(post("/", b" " * 60 * KIB))
        gone = await server.client(post("/", b" " * 30 * KIB))
        assert (await server.ask(post("/", b" " * 60 * KIB))).status == 503
        await gone.close()
        assert (await server.ask(post("/", b" " * 60 * KIB))).status == 503
        small = await server.client(post("/", b" " * 4 * KIB))  # as a till's hook is
        go_on.set()
        assert (await waiting.answer()).status == 200
        assert (await small.answer()).status == 200
        assert (await server.ask(post("/", b" " * 60 * KIB))).status == 200


def _without_lifespan(app: Any) -> Any:
    async def whole(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        await app(scope, receive, send)

    return whole


async def test_a_client_that_reads_no_answer_is_given_up() -> None:
    given_up = asyncio.Event()

    async def endless(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"a" * KIB * KIB, "more_body": True})
        finally:
            given_up.set()

    async with served(_without_lifespan(endless), unread_seconds=0.3) as server:
        client = await server.client(HEALTH + b"\r\n")
        await given_up.wait()
        await client.close()


# --- bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "most"), [("/hooks/tills/poster", MOST_BODY), ("/sign-in", MAX_FORM_BYTES)])
async def test_a_body_said_to_be_too_large_is_refused_before_it_is_sent(
    installation: Installation, path: str, most: int
) -> None:
    async with host_of(installation) as server:
        assert (await server.ask(post(path, b"", length=most + 1))).status == 413
        client = await server.client(post(path, b"", b"Expect: 100-continue", length=most + 1))
        assert (await client.answer()).status == 413  # and no `100 Continue` before it
        assert await client.closed()
        for size in ("9" * 30, "-1", "²", "x"):
            request = b"POST %s HTTP/1.1\r\nHost: host\r\nContent-Length: %s\r\n\r\n" % (path.encode(), size.encode())
            assert (await server.ask(request)).status == 400


async def test_the_largest_hook_is_taken_whole_and_in_chunks(installation: Installation) -> None:
    async with host_of(installation) as server:
        assert (await server.ask(hook(MOST_BODY))).status == 400  # read, and not understood
        head = b"POST /hooks/tills/poster HTTP/1.1\r\nHost: host\r\nTransfer-Encoding: chunked\r\n\r\n"
        tiny = b"1\r\n \r\n" * (64 * KIB) + b"0\r\n\r\n"
        assert (await server.ask(head + tiny)).status == 400
        large = b"%x\r\n%s\r\n" % (MOST_BODY, b" " * MOST_BODY)
        assert (await server.ask(head + large + b"0\r\n\r\n")).status == 400
        assert (await server.ask(head + large + b"1\r\n \r\n0\r\n\r\n")).status == 413


@pytest.mark.parametrize("end", [b"1;" + b"a" * 100 * KIB, b"0\r\n" + b"X-Trailer: aaaaaaa\r\n" * 10 * KIB])
async def test_chunk_extensions_and_trailers_count_as_headers_do(installation: Installation, end: bytes) -> None:
    async with host_of(installation) as server:
        head = b"POST /hooks/tills/poster HTTP/1.1\r\nHost: host\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await server.client(head)
        await client.send(end)
        answer = await client.answer()
        assert (answer.status, "framing" in answer.body) == (431, True)


async def test_trailers_do_not_become_headers() -> None:
    async def informed_app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        names = b" ".join(name for name, _ in scope["headers"])
        headers = [(b"content-length", str(len(names)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": names})

    async with served(_without_lifespan(informed_app)) as server:
        head = b"POST / HTTP/1.1\r\nHost: host\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await server.ask(head + b"0\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n")
        assert answer.body == "host transfer-encoding"


# --- several requests on a connection -----------------------------------------------------------------------------


async def test_requests_that_follow_each_other_at_once_are_answered_in_turn(installation: Installation) -> None:
    async with host_of(installation) as server:
        client = await server.client((HEALTH + b"\r\n") * 3 + hook(60 * KIB) + HEALTH + b"\r\n")
        assert [(await client.answer()).status for _ in range(5)] == [200, 200, 200, 400, 200]
        await client.send(b"\r\n" + HEALTH + b"\r\n")
        assert (await client.answer()).status == 200


async def test_a_thousand_requests_at_once_on_a_connection_end_it_and_nothing_else(installation: Installation) -> None:
    async with host_of(installation) as server:
        client = await server.client((HEALTH + b"\r\n") * 1000)
        assert await client.closed()
        assert server.refused == {"too many requests before an answer": 1}
        assert (await server.ask(HEALTH + b"\r\n")).status == 200


async def test_a_limit_never_writes_into_an_answer_that_is_under_way() -> None:
    go_on = asyncio.Event()

    async def slow(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"b"})

    async with served(_without_lifespan(slow), header_seconds=0.1) as server:
        client = await server.client(HEALTH + b"\r\n" + HEALTH + b"X: " + b"a" * 100 * KIB)
        assert b"431" not in await client.reader.read()
        patient = await server.client(HEALTH + b"\r\n" + HEALTH)
        assert (await patient.reader.readuntil(b"\r\n\r\na")).endswith(b"a")
        await asyncio.wait({asyncio.create_task(patient.closed())}, timeout=0.3)  # its second request is overdue
        go_on.set()
        assert (await server.ask(HEALTH + b"\r\n")).body == "ab"


async def test_an_upgrade_is_answered_as_the_request_it_is(installation: Installation) -> None:
    async with host_of(installation) as server:
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        client = await server.client(HEALTH + upgrade)
        assert (await client.answer()).status == 200
        assert await client.closed()


async def test_a_server_ends_while_requests_are_unfinished(installation: Installation) -> None:
    async with host_of(installation, header_seconds=60, body_seconds=60) as server:
        for begun in (b"", HEALTH, hook(1000, 10), HEALTH + b"X: " + b"a" * 100 * KIB):
            await server.client(begun)
        await _heard(server)


# --- work ---------------------------------------------------------------------------------------------------------


def _calls(work: Callable[[], None]) -> int:
    """Count the calls that a piece of work makes, of Python and of C."""
    count = 0

    def called(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # what others left behind must not be finalized, and counted, within this
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


@pytest.mark.parametrize("piece", ["a=;", ";", '"', "=", 'a="b"; '])
def test_reading_a_cookie_takes_work_that_grows_as_its_header_does(piece: str) -> None:
    from starlette.requests import HTTPConnection

    from connectors.web.request_input import read_cookie

    def read(size: int) -> Callable[[], None]:
        header = (piece * size)[:size].encode()
        return lambda: _ignore(
            read_cookie(HTTPConnection({"type": "http", "headers": [(b"cookie", header)]}), "visitor")
        )

    assert _calls(read(32 * KIB)) <= 2 * _calls(read(16 * KIB)) + 50


def _ignore(_value: object) -> None:
    return


async def test_no_page_undoes_the_escapes_of_cookies(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard library's way takes ten seconds for 64 KiB of them, at every address."""
    undone = 0

    def count(text: str) -> str:
        nonlocal undone
        undone += len(text)
        return text

    monkeypatch.setattr(http.cookies, "_unquote", count)
    hostile = 'a="' + '\\"' * 30_000 + '"'
    async with open_browsers(installation) as made:
        browser = made.new()
        for route in [route for router in ROUTERS for route in router.routes]:
            path = route.path.replace("{", "").replace("}", "")
            await browser.client.request(route.method, path, headers={"cookie": hostile})
    assert undone == 0


@pytest.mark.parametrize("piece", ["a=b&", "&", "%41", "+", "a="])
async def test_reading_a_form_or_a_query_takes_work_that_grows_as_it_does(
    installation: Installation, piece: str
) -> None:
    from starlette.datastructures import QueryParams

    def read(size: int) -> Callable[[], None]:
        return lambda: _ignore(QueryParams((piece * size)[:size]))

    read(64)()  # what is made once, as the table of escapes
    assert _calls(read(8 * KIB)) <= 2 * _calls(read(4 * KIB)) + 50


def test_a_client_that_leaves_before_its_answers_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The loop that `connectors serve` runs on raises where something is written to a closed connection."""
    uvloop = pytest.importorskip("uvloop")

    async def leave() -> None:
        asked, left, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await _lifespan(receive, send)
                return
            asked.set()
            await left.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(10):
                await asyncio.sleep(0)  # what was written meets the reset
            await send({"type": "http.response.body", "body": b"late"})
            answered.set()

        async with served(app) as server:
            host, _, port = server.origin.removeprefix("http://").rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall((HEALTH + b"\r\n") * 2)  # while one is answered, nothing more is read of a connection
                await asked.wait()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, at once
            left.set()
            await answered.wait()

    uvloop.run(leave())
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def _lifespan(receive: Any, send: Any) -> None:
    while (message := await receive())["type"]:
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


# --- as an operator starts it -----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_connectors_serve_has_the_limits_and_doctor_says_what_they_refused(tmp_path: Path) -> None:
    environment = {
        "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
        "CONNECTORS_SEVENSTAMP_URL": "http://127.0.0.1:9",
        "CONNECTORS_HEADER_SECONDS": "1",
        "CONNECTORS_BODY_SECONDS": "1",
        "CONNECTORS_MAX_CONNECTIONS_PER_ADDRESS": "5",
        "CONNECTORS_UNFINISHED_REQUESTS_MIB": "1",
    }
    log = tmp_path / "serve.log"
    async with AsyncExitStack() as stack:
        process = stack.enter_context(started(["serve", "--port", "0"], environment, log))
        server = Served(await asyncio.to_thread(origin_in, log, timeout=60), Counter())
        await until(lambda: _is_taken(server))
        assert (await server.ask(HEALTH + b"Cookie: " + b"a" * 64 * KIB)).status == 431
        assert (await server.ask(b"GET /" + b"a" * 8 * KIB + b" HTTP/1.1\r\nHost: host\r\n\r\n")).status == 414
        for begun in (HEALTH, hook(1000, 10)):
            assert (await server.ask(begun)).status == 408
        for client in server.clients:
            await client.close()
        await until(lambda: _is_taken(server))
        many = [await server.client(HEALTH) for _ in range(7)]
        assert 503 in [(await client.answer()).status for client in many]
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
    said = await asyncio.to_thread(run, ["doctor"], environment)
    assert "refused: headers too large (1 times)" in " ".join(said.stdout.split())
    assert log.read_text().count("refused: ") == 1
