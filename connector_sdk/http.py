"""One outgoing HTTP call: transport, deadline, bounded answer, and whether a failed request was ever sent.

Owns what is true of any HTTP peer; what an answer means is `TillClient`'s or the 7stamp client's concern.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx

if TYPE_CHECKING:  # a command that calls nobody does not wait for it
    import aiohttp

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a page of a busy till is a few hundred KiB; the rest is room for odd ones
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "7stamp-connectors"}
_OF_THE_WIRE = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_ABORTED_BY_CLOSE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
_UNHEARD_MILLISECONDS = 10_000
"""How long the system sends what nobody acknowledges, for a process that stands still and so cannot give up itself."""
_parsed_url = lru_cache(maxsize=4096)(httpx.URL)


def production_transport(connections: int = 100) -> httpx.AsyncBaseTransport:
    """Build the transport for calls over the network, with at most so many connections at once."""
    return ConnectionPool(connections)


def never_sent(error: BaseException) -> bool:
    """Tell whether a failed request surely never left this machine."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol)


class TooLarge(httpx.TransportError):
    """An answer is longer than `MAX_ANSWER_BYTES`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer; `content` is its body without content encoding."""

    status_code: int
    headers: httpx.Headers
    content: bytes

    @property
    def is_success(self) -> bool:
        """Tell whether the status is in the two hundreds."""
        return 200 <= self.status_code < 300


class ConnectionPool(httpx.AsyncBaseTransport):
    """aiohttp's connections as an httpx transport: httpx's own pool collapses under concurrency (see `bench/`).

    `send` calls `exchange`: httpx's requests and answers, which other transports need, cost as much as the call.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], content: bytes | None
    ) -> Reply:
        """Send one request to an address that is encoded already, and read its whole answer.

        Raises `httpx.ConnectError` for what never left this machine, `httpx.RemoteProtocolError` for every other
        failure of the connection, and `TooLarge`. Their texts do not hold the address.
        """
        import aiohttp
        from yarl import URL

        session = self._session = self._session or self._open()
        try:
            async with session.request(
                method, URL(url, encoded=True), headers=headers, data=content, allow_redirects=False
            ) as answer:
                body = await _bounded(answer.content.iter_any())
                return Reply(answer.status, httpx.Headers(answer.raw_headers), body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise httpx.ConnectError(type(error).__name__) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise httpx.RemoteProtocolError(type(error).__name__) from None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request for whoever stands before the pool, and return its whole answer."""
        content = await request.aread()
        reply = await self.exchange(request.method, str(request.url), request.headers.multi_items(), content or None)
        headers = [(name, value) for name, value in reply.headers.multi_items() if name not in _OF_THE_WIRE]
        return httpx.Response(reply.status_code, headers=headers, content=reply.content)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        """Make the session: at the first call, for aiohttp wants it made inside the running event loop."""
        import aiohttp

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                ssl=ssl.create_default_context(),
                keepalive_timeout=30,
                socket_factory=_socket_that_gives_up,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),  # a cookie of one account must never reach another
            timeout=aiohttp.ClientTimeout(total=None),  # whoever calls has a deadline of its own
            skip_auto_headers=("Content-Type",),
        )


def _socket_that_gives_up(
    address: tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, object],
) -> socket.socket:
    """Make a socket of which nothing leaves any more once its process has given up or was killed.

    A system goes on sending what a closed socket still has, for minutes where a network is cut: a request would arrive
    long after its deadline, and after its absence was taken for a proof.
    """
    family, kind, protocol, *_ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTED_BY_CLOSE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MILLISECONDS)
    return sock


class ConnectionShare(httpx.AsyncBaseTransport):
    """A part of a transport: at most so many calls at once, so that what they wait for holds up no other part.

    Closing it leaves the transport open, which belongs to all parts.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, calls: int) -> None:
        self._transport = transport
        self._places = asyncio.Semaphore(calls)

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str] | Sequence[tuple[str, str]], content: bytes | None
    ) -> Reply:
        """Send one request when there is a place. Raises what the transport does."""
        async with self._places:
            return await _exchange(self._transport, method, url, headers, content)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request for whoever stands before the transport, when there is a place."""
        async with self._places:
            return await self._transport.handle_async_request(request)


async def send(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: str,
    *,
    deadline: float,
    content: bytes | None = None,
    params: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request and read its whole answer, of at most 16 MiB, within `deadline` seconds.

    The request goes to the transport without httpx's client: no cookies, redirects, proxies of the environment or
    logged addresses, which none of our peers may have, and half the work. Raises `httpx.TransportError` or
    `TimeoutError`; `never_sent` tells which of them are harmless.
    """
    # an address with parameters may hold a token, so only addresses without any stay in the cache
    target = str(_parsed_url(url))
    if params:
        target = f"{target}?{urlencode(params)}"
    all_headers = {**_HEADERS, **(headers or {})}
    if data is not None:
        all_headers["Content-Type"] = "application/x-www-form-urlencoded"
        content = urlencode(data).encode()
    async with asyncio.timeout(deadline):
        return await _exchange(transport, method, target, all_headers, content)


async def _exchange(
    transport: httpx.AsyncBaseTransport,
    method: str,
    url: str,
    headers: Mapping[str, str] | Sequence[tuple[str, str]],
    content: bytes | None,
) -> Reply:
    if isinstance(transport, ConnectionPool | ConnectionShare):
        return await transport.exchange(method, url, headers, content)
    request = httpx.Request(method, url, headers=headers, content=content)
    response = await transport.handle_async_request(request)
    try:
        body = await bounded_body(response)
    finally:
        await response.aclose()
    return Reply(response.status_code, response.headers, body)


async def bounded_body(response: httpx.Response) -> bytes:
    """Read and decode an answer's body. Raises `TooLarge` beyond `MAX_ANSWER_BYTES`, counted after decoding."""
    # a body without encoding is read from the raw stream: `aiter_bytes` would copy every chunk through its decoders
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    chunks = response.aiter_bytes() if encoded else response.stream
    return await _bounded(chunks)  # type: ignore[arg-type]


async def _bounded(chunks: AsyncIterable[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise TooLarge(f"the answer is over {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def retry_after(response: Reply, default: float = 5.0, most: float = 3600.0) -> float:
    """Return the seconds of a `Retry-After` header, at most `most`; `default` where it is missing or no number."""
    text = response.headers.get("retry-after", "")
    return min(float(text), most) if text.isascii() and text.isdigit() else default
