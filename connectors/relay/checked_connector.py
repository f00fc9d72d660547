"""Connections to subscribers: only to an address that was checked, with no second look-up, asked of the socket too.

Owns aiohttp's side of `addresses`; importing this costs what aiohttp costs, so `posting` does it at the first post.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from connectors.relay.addresses import Address, AddressPolicy, Refused, Target, is_public, resolve

_MOST_CONNECTIONS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `text` is `None` where it is longer than it may be, and the rest was not read."""

    status: int
    text: bytes | None
    retry_after: str | None


class CheckedSession:
    """A session whose connections are to checked addresses only; close it in the loop that opened it."""

    def __init__(self, policy: AddressPolicy) -> None:
        # no cookies, no proxy of the environment, and an answer that is packed stays so: a kilobyte may hold much
        self._session = aiohttp.ClientSession(
            connector=_CheckedConnector(policy),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def post(self, url: str, body: bytes, headers: Sequence[tuple[str, str]], most: int) -> Answer:
        """Post a body and read at most `most` bytes of the answer.

        Raises `Refused` before anything is sent to an address that may not be, and what `reason_of` knows.
        """
        # as it was typed: aiohttp would spell its escapes anew
        address = URL(url, encoded=True)
        async with self._session.post(address, headers=headers, data=body, allow_redirects=False) as answer:
            text = bytearray()
            async for part in answer.content.iter_any():
                text += part
                if len(text) > most:
                    answer.close()
                    return Answer(answer.status, None, None)
            return Answer(answer.status, bytes(text), answer.headers.get("retry-after"))

    @staticmethod
    def reason_of(error: Exception) -> str:
        """Say why nothing was delivered, without the address: what lets us in may stand in its path."""
        match error:
            case aiohttp.ClientConnectorCertificateError():
                return "its certificate is not one that is trusted"
            case aiohttp.ClientSSLError():
                return "no encrypted connection"
            case aiohttp.ClientConnectorError():
                return "no connection"
            case aiohttp.ClientConnectionError():
                return "the connection ended before an answer"
            case _:
                return type(error).__name__


class _CheckedResolver(AbstractResolver):
    """Resolves names as `resolve` does; what it returns is connected to, with no second look-up between."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await _resolve_checked(self._policy, host, port)
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""


class _CheckedConnector(aiohttp.TCPConnector):
    """Connects to an address that was checked, and hands out no connection whose other end is not public."""

    def __init__(self, policy: AddressPolicy) -> None:
        # no cache of names: a connection that is kept is the cache
        super().__init__(
            resolver=_CheckedResolver(policy),
            use_dns_cache=False,
            ssl=httpx.create_ssl_context(trust_env=False),
            limit=_MOST_CONNECTIONS,
            keepalive_timeout=30.0,
        )
        self._policy = policy

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[aiohttp.tracing.Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        host, port = req.url.host or "", req.url.port or 0
        if _is_literal(host):  # of which no resolver is asked
            await _resolve_checked(self._policy, host, port)
        connection = await super().connect(req, traces, timeout)
        # asked of the socket itself: what counts is who is at the other end
        peer = connection.transport and connection.transport.get_extra_info("peername")
        if not self._policy.is_allowed(Target("", host.lower(), port)) and not (
            peer and is_public(ipaddress.ip_address(peer[0].partition("%")[0]))
        ):
            connection.close()
            raise Refused("leads into a private network")
        return connection


def _is_literal(host: str) -> bool:
    """Say whether aiohttp takes a host for an address, such as `127.1`, and asks no resolver."""
    return ":" in host or not any(sign.isalpha() for sign in host)


async def _resolve_checked(policy: AddressPolicy, host: str, port: int) -> Sequence[Address]:
    target = Target("", host.lower(), port)
    return await resolve(target, allowed=policy.is_allowed(target))
