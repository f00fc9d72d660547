"""The HTTP ground that every outgoing call stands on: transport, deadline, bounded answers, "was it sent?".

Owns what is true of any HTTP peer; what an answer means is `TillClient`'s or the 7stamp client's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

MAX_ANSWER_BYTES = 16 * 1024 * 1024


def production_transport(connections: int = 100) -> httpx.AsyncBaseTransport:
    """aiohttp's pool under httpx's face: httpx's own collapses under concurrency (see `bench/`)."""

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context(), keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),  # a cookie of one account must never reach another
        )

    return AiohttpTransport(client=session)


def never_sent(error: BaseException) -> bool:
    """Whether a failed request surely never left.

    httpx-aiohttp names a connection cut *after* the request `ConnectTimeout` too (`wire/sevenstamp.md`), so
    the name says nothing: only aiohttp's own "could not connect" under it does.
    """
    cause = error.__cause__
    if isinstance(cause, aiohttp.ClientError | TimeoutError):
        return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol)


class TooLarge(httpx.TransportError):
    """An answer longer than we are willing to hold."""


async def exchange(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    deadline: float,
    content: bytes | None = None,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    data: Mapping[str, str] | None = None,
) -> httpx.Response:
    """One request and its whole answer within `deadline` seconds, at most 16 MiB.

    Raises `httpx.TransportError` or `TimeoutError`; `never_sent` tells which of them are harmless.
    """
    request = client.build_request(
        method,
        url,
        content=content,
        params=params or None,
        headers=headers,
        data=dict(data) if data else None,
    )
    try:
        async with asyncio.timeout(deadline):
            response = await client.send(request, stream=True)
            try:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise TooLarge(f"the answer is over {MAX_ANSWER_BYTES} bytes")
            finally:
                await response.aclose()
    except (aiohttp.ClientError, ValueError) as error:
        # what httpx-aiohttp does not translate (an answer that is no HTTP, say) has the whole URL in its text
        raise httpx.RemoteProtocolError(type(error).__name__) from None
    # aiter_bytes undid any compression: what is handed on must not say otherwise
    plain = [(k, v) for k, v in response.headers.raw if k.lower() not in (b"content-encoding", b"content-length")]
    return httpx.Response(response.status_code, headers=plain, content=bytes(body))


def retry_after(response: httpx.Response, default: float = 5.0, most: float = 3600.0) -> float:
    """The seconds of a `Retry-After` header, bounded; `default` where there is none that can be read."""
    text = response.headers.get("retry-after", "")
    return min(float(text), most) if text.isascii() and text.isdigit() else default
