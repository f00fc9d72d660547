"""One outgoing HTTP call: transport, deadline, bounded answer, and whether a failed request was ever sent.

Owns what is true of any HTTP peer; what an answer means is `TillClient`'s or the 7stamp client's concern.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx

if TYPE_CHECKING:  # a command that calls nobody does not wait for it
    import aiohttp

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # a page of a busy till is a few hundred KiB; the rest is room for odd ones
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "7stamp-connectors"}
_parsed_url = lru_cache(maxsize=4096)(httpx.URL)


def production_transport(connections: int = 100) -> httpx.AsyncBaseTransport:
    """Build a transport over aiohttp's connection pool: httpx's own collapses under concurrency (see `bench/`)."""
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    # a function, because aiohttp wants its session made inside the running event loop
    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context(), keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),  # a cookie of one account must never reach another
        )

    return AiohttpTransport(client=session)


def never_sent(error: BaseException) -> bool:
    """Tell whether a failed request surely never left this machine.

    httpx-aiohttp names a connection cut *after* the request `ConnectTimeout` too, so that name
    proves nothing: only aiohttp's own "could not connect" as its cause does.
    """
    import aiohttp

    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientError | TimeoutError):
        return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
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
    import aiohttp

    # an address with parameters may hold a token, so only addresses without any stay in the cache
    target = f"{url}?{urlencode(params)}" if params else _parsed_url(url)
    request = httpx.Request(method, target, headers={**_HEADERS, **(headers or {})}, content=content, data=data)
    try:
        async with asyncio.timeout(deadline):
            response = await transport.handle_async_request(request)
            try:
                body = await bounded_body(response)
            finally:
                await response.aclose()
    except (aiohttp.ClientError, ValueError) as error:
        # an error that httpx-aiohttp does not translate (an answer that is no HTTP, say) has the whole URL in its text
        raise httpx.RemoteProtocolError(type(error).__name__) from None
    return Reply(response.status_code, response.headers, body)


async def bounded_body(response: httpx.Response) -> bytes:
    """Read and decode an answer's body. Raises `TooLarge` beyond `MAX_ANSWER_BYTES`, counted after decoding."""
    # a body without encoding is read from the raw stream: `aiter_bytes` would copy every chunk through its decoders
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    chunks = response.aiter_bytes() if encoded else response.stream
    body = bytearray()
    async for chunk in chunks:  # type: ignore[union-attr]
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise TooLarge(f"the answer is over {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def retry_after(response: Reply, default: float = 5.0, most: float = 3600.0) -> float:
    """Return the seconds of a `Retry-After` header, at most `most`; `default` where it is missing or no number."""
    text = response.headers.get("retry-after", "")
    return min(float(text), most) if text.isascii() and text.isdigit() else default
