"""Addresses of subscribers: which may be posted to, checked when they are set and again at the connection itself.

Owns that nothing inside the operator's network can be reached by an address that a cafe typed: only addresses of the
public internet count, after resolution, and the one that is connected to is the one that was checked. No proxy, no
redirect, no cookie.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
_LONGEST_URL = 2000
_PORTS = {"https": 443, "http": 80}
_DEADLINE = 10.0
_MOST_ANSWER = 64 * 1024
_SHOWN_ANSWER = 1024
_MOST_CONNECTIONS = 200

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Refused(Exception):
    """An address is not posted to; the text is the end of a sentence and says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address of a subscriber, taken apart."""

    scheme: str
    host: str
    port: int

    @property
    def allowed_as(self) -> tuple[str, str]:
        """The names by which an operator may have allowed it: with its port, and without."""
        return (f"{self.host}:{self.port}", self.host)


def parse_hosts(text: str) -> frozenset[str]:
    """Return the hosts that an operator allows, between spaces or commas (`n8n.internal`, `10.0.0.5:5678`)."""
    return frozenset(host.lower() for host in text.replace(",", " ").split())


class AddressPolicy:
    """Decides which addresses may be posted to; `allowed` are hosts of the operator's own network that may be, too."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed)

    def parse(self, url: str) -> Target:
        """Take an address apart. Raises `Refused` for one that could never be posted to."""
        if len(url) > _LONGEST_URL or not url.isascii() or any(sign <= " " or sign == "\\" for sign in url):
            raise Refused(f"is no address of at most {_LONGEST_URL} characters without spaces")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise Refused("is no address") from None
        if parts.scheme not in _PORTS or not host:
            raise Refused("begins with https://")
        if parts.username is not None or parts.password is not None:
            raise Refused("has no user and no password: put what lets us in into its path")
        target = Target(parts.scheme, host.lower(), port or _PORTS[parts.scheme])
        if parts.scheme != "https" and not self.is_allowed(target):
            raise Refused("begins with https://")
        return target

    def is_allowed(self, target: Target) -> bool:
        """Say whether the operator allows this host, wherever it is."""
        return any(name in self._allowed for name in target.allowed_as)

    async def check(self, url: str) -> Target:
        """Take an address apart and resolve it. Raises `Refused` where it leads to anything but the public internet."""
        target = self.parse(url)
        await resolve(target, allowed=self.is_allowed(target))
        return target


async def resolve(target: Target, *, allowed: bool) -> Sequence[Address]:
    """Resolve a host to the addresses that may be connected to.

    Raises `Refused` where one of them is not public: a name that leads to several is refused as a whole.
    """
    try:
        # the system's own resolver, as a connection would ask it: it also reads 2130706433 and 0177.0.0.1
        found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused("leads nowhere: its host is not known") from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    if not allowed and not all(is_public(address) for address in addresses):
        raise Refused("leads into a private network")
    return addresses


def is_public(address: Address) -> bool:
    """Say whether an address is one of the public internet, also where it holds an IPv4 address inside."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
        if address in _NAT64_LOCAL:
            return False
    return address.is_global and not address.is_multicast


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for: mapped, translated (NAT64), 6to4, Teredo or compatible."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour is not None:
        return address.sixtofour
    return address.teredo[1] if address.teredo is not None else None


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
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _resolve_checked(policy: AddressPolicy, host: str, port: int) -> Sequence[Address]:
    target = Target("", host.lower(), port)
    return await resolve(target, allowed=policy.is_allowed(target))


@dataclass(frozen=True, slots=True)
class Reply:
    """What a subscriber answered: `status`, or the name of what went wrong; `text` is the answer's first kilobyte."""

    status: int | None
    error: str | None
    text: str
    milliseconds: int
    retry_after: str | None = None


class SubscriberClient:
    """Posts to subscribers: ten seconds for the whole call, 64 KiB of answer, no redirect."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, url: str, body: bytes, headers: Sequence[tuple[str, str]]) -> Reply:
        """Post a body; whatever goes wrong is a reply, too."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def reply(status: int | None, error: str | None, text: bytes = b"", retry: str | None = None) -> Reply:
            took = int((loop.time() - began) * 1000)
            return Reply(status, error, text[:_SHOWN_ANSWER].decode("utf-8", "replace"), took, retry)

        try:
            # before anything is sent: the operator may have forbidden since what was allowed when it was set
            self._policy.parse(url)
            async with asyncio.timeout(_DEADLINE):
                async with self._open().post(
                    URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
                ) as answer:
                    text = await _read(answer)
        except Refused as refusal:
            return reply(None, f"the address {refusal}")
        except TimeoutError:
            return reply(None, f"no answer within {_DEADLINE:g} seconds")
        except Exception as error:  # noqa: BLE001 - a TLS library, a socket: whatever it is, it was not delivered
            return reply(None, _reason(error))
        if text is None:
            return reply(answer.status, f"the answer is longer than {_MOST_ANSWER // 1024} KiB")
        return reply(answer.status, None, text, answer.headers.get("retry-after"))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            # no cookies, no proxy of the environment, and an answer that is packed stays so: a kilobyte may hold much
            self._session = aiohttp.ClientSession(
                connector=_CheckedConnector(self._policy),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding"),
            )
        return self._session


def _reason(error: Exception) -> str:
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


async def _read(answer: aiohttp.ClientResponse) -> bytes | None:
    """Read an answer's body; `None` where it is too long."""
    text = bytearray()
    async for part in answer.content.iter_any():
        text += part
        if len(text) > _MOST_ANSWER:
            answer.close()
            return None
    return bytes(text)
