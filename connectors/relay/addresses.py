"""Addresses of subscribers: which may be posted to, checked when they are set and again at the connection itself.

Owns that nothing inside the operator's network can be reached by an address that a cafe typed: only addresses of the
public internet count, after resolution. That what is connected to is what was checked is `checked_connector`'s.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
_LONGEST_URL = 2000
_PORTS = {"https": 443, "http": 80}

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
            raise Refused("is no address without spaces, or too long")
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
