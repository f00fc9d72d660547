"""Limits on what a client may send: their numbers, what one server's connections use together, and what is refused.

Owns the counting. Checking bytes as they arrive is `limited_protocol`'s; how large a hook or a form may be is the
application's, which knows what it reads.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from connectors.settings import Settings

MIB = 1024 * 1024

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# up to so many bytes a body is answered however much else waits for its answer
_SMALL_BODY = 8 * 1024
# connections beyond the limit whose clients may read why, at once; they take of the descriptors that are spared
_MOST_LINGERING = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request, one client address and all clients together may take; sizes in bytes, times in seconds."""

    header_bytes: int = 64 * 1024
    """The request line and all headers."""
    header_fields: int = 1000
    """A header of three bytes takes a hundred in memory, so they are counted as well."""
    target_bytes: int = 8 * 1024
    header_seconds: float = 10.0
    """From the connection, or from the first byte of a later request, to the end of its headers."""
    body_seconds: float = 30.0
    """From the end of the headers to the end of the body."""
    unread_seconds: float = 60.0
    """How long a client may read nothing of an answer that waits for it."""
    connections: int = 4000
    connections_per_address: int = 128
    """Not of trusted proxies. An IPv6 address counts with its /48, which one household or company has."""
    unfinished_bytes: int = 32 * MIB
    """Headers and bodies of all requests that have not arrived in full; the same again for those being answered."""
    unfinished_bytes_per_address: int = 8 * MIB
    queued_requests: int = 8
    """Requests that a client sends on one connection before the first is answered."""

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits an operator has set."""
        unfinished = settings.unfinished_requests_mib * MIB
        return cls(
            header_seconds=settings.header_seconds,
            body_seconds=settings.body_seconds,
            connections=settings.max_connections,
            connections_per_address=settings.max_connections_per_address,
            unfinished_bytes=unfinished,
            unfinished_bytes_per_address=unfinished // 4,
        )


class Limit(StrEnum):
    """A limit that a client exceeded; the value names its counter."""

    header_size = "headers too large"
    """More than `header_bytes` or `header_fields`: 431."""
    target_size = "address too long"
    """The request target is longer than `target_bytes`: 414."""
    header_time = "headers too slow"
    """The headers were not complete after `header_seconds`: 408."""
    body_time = "body too slow"
    """The body was not complete after `body_seconds`: 408."""
    framing = "chunks with more framing than data"
    """Chunk extensions and trailers are larger than `header_bytes` and the body warrant: 431."""
    connections = "too many connections"
    """More than `connections` in all: 503."""
    connections_per_address = "too many connections of one address"
    """More than `connections_per_address`: 503."""
    memory = "too many unfinished requests"
    """More than `unfinished_bytes`, in all or of one address: 503."""
    queue = "too many requests before an answer"
    """More than `queued_requests` on one connection: it is closed."""
    malformed = "not HTTP"
    """What arrived is no request: 400."""


@dataclass(frozen=True, slots=True)
class RefusalText:
    """What a client is answered: a status, and in a sentence what it should do next."""

    status: int
    sentence: str


_STATUSES = {
    Limit.header_size: 431,
    Limit.target_size: 414,
    Limit.header_time: 408,
    Limit.body_time: 408,
    Limit.framing: 431,
    Limit.connections: 503,
    Limit.connections_per_address: 503,
    Limit.memory: 503,
    Limit.queue: 503,
    Limit.malformed: 400,
}


def refusal_text(limit: Limit, limits: Limits) -> RefusalText:
    """Return the answer to a client that exceeded a limit."""
    return RefusalText(_STATUSES[limit], _sentence(limit, limits))


def _sentence(limit: Limit, limits: Limits) -> str:
    match limit:
        case Limit.header_size:
            size = f"{limits.header_bytes // 1024} KiB and {limits.header_fields} fields"
            return f"The headers of a request have at most {size}: send fewer or shorter ones."
        case Limit.target_size:
            return f"The address of a request has at most {limits.target_bytes // 1024} KiB: send a shorter one."
        case Limit.header_time:
            return f"The headers took longer than {limits.header_seconds:g} seconds: send the request again."
        case Limit.body_time:
            return f"The body took longer than {limits.body_seconds:g} seconds: send the request again."
        case Limit.framing:
            return "The chunks of this body have more framing than data: send larger chunks without extensions."
        case Limit.connections | Limit.queue:
            return "The server has as many connections as it can take: try again in a few seconds."
        case Limit.connections_per_address:
            most = limits.connections_per_address
            return f"One address has at most {most} connections at a time: close some, then try again."
        case Limit.memory:
            return "The server holds as many unfinished requests as it can: try again in a few seconds."
        case Limit.malformed:
            return "This is not a valid HTTP request."


class Usage:
    """What all connections of one server use together, held against its limits."""

    def __init__(self, limits: Limits, proxies: Sequence[Network], refused: Counter[str]) -> None:
        self.limits = limits
        self.refused = refused
        """How many requests or connections each limit refused, by `Limit`; the host adds them to its counters."""
        self._proxies = proxies
        self.lingering = 0
        """Connections beyond the limit whose clients may still read why; they are counted nowhere else."""
        self._connections = 0
        # Counters by address hold only addresses that have something: whoever changes addresses with each connection
        # must not fill memory with zeros.
        self._connections_by_address: Counter[str] = Counter()
        self._unfinished = 0
        self._unfinished_by_address: Counter[str] = Counter()
        self._answering = 0

    def address(self, client: tuple[str, int] | None) -> str:
        """Return what a client's connections are counted by; empty for a trusted proxy, which speaks for many."""
        if client is None:
            return ""  # a Unix socket: only a proxy on this machine
        try:
            address = _without_mapping(ipaddress.ip_address(client[0]))
        except ValueError:
            return client[0]
        if any(address in network for network in self._proxies):
            return ""
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((int(address), 48), strict=False))
        return str(address)

    def connect(self, address: str) -> Limit | None:
        """Count a connection, or return the limit that forbids it."""
        if self._connections >= self.limits.connections:
            return Limit.connections
        if address and self._connections_by_address[address] >= self.limits.connections_per_address:
            return Limit.connections_per_address
        self._connections += 1
        self._connections_by_address[address] += 1
        return None

    def linger(self) -> bool:
        """Count a refused connection that stays until its client has read why; return whether there may be one more."""
        if self.lingering >= _MOST_LINGERING:
            return False
        self.lingering += 1
        return True

    def disconnect(self, address: str) -> None:
        """Forget a connection that was counted."""
        self._connections -= 1
        _subtract(self._connections_by_address, address, 1)

    def hold_unfinished(self, address: str, size: int) -> bool:
        """Add `size`, which may be negative, to the bytes of unfinished requests.

        Return whether they are within limits; they are counted all the same, until the caller takes them off again.
        """
        self._unfinished += size
        if size >= 0:
            self._unfinished_by_address[address] += size
        else:
            _subtract(self._unfinished_by_address, address, -size)
        # giving back is never refused, also where what others hold is beyond the limit
        if size <= 0:
            return True
        # a trusted proxy has no address here: it speaks for many, and only the total bounds it
        if address and self._unfinished_by_address[address] > self.limits.unfinished_bytes_per_address:
            return False
        return self._unfinished <= self.limits.unfinished_bytes

    def hold_answering(self, size: int) -> bool:
        """Add to the bytes of requests that are being answered; return whether they are within limits.

        A small one always is: a till's hook must not wait because others send large bodies, and a few thousand
        connections of them are a bound of their own.
        """
        self._answering += size
        return size <= _SMALL_BODY or self._answering <= self.limits.unfinished_bytes


def _without_mapping(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, where a socket listens for both; else the same address."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _subtract(counter: Counter[str], key: str, count: int) -> None:
    """Take off a count, and the key with the last of it: addresses are strangers' to choose."""
    counter[key] -= count
    if counter[key] <= 0:
        del counter[key]
