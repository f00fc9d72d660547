"""Limits on what a client may send: size and time of headers, time of bodies, connections, memory.

`LimitedProtocol` is uvicorn's HTTP protocol; it checks them as bytes arrive, before the application hears of a request.
How large a hook or a form may be is the application's, which knows what it reads.
"""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, ClassVar

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from connectors.settings import Settings

MIB = 1024 * 1024

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_SLICE = 16 * 1024
"""How many bytes are parsed before they are counted: a limit is exceeded by no more than this."""
_SMALL_BODY = 8 * 1024
"""Up to so many bytes a body is answered however much else waits for its answer."""
_LINGER_SECONDS = 2.0
"""How long what a refused client still sends is thrown away, so that it reads why instead of a reset connection."""
_MOST_LINGERING = 64
"""How many connections beyond the limit do so at once; it takes of the descriptors that are spared."""
_MOST_DISCARDED = 16 * MIB
"""After so much thrown away a client is not read any more."""
_FRAMING_PER_BYTE = 16
"""Chunks of one byte each have five bytes around it; more than this is no way to send a body."""
_SPARE_DESCRIPTORS = 128
"""Files, the database and calls to tills and 7stamp."""


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


def _sentence(limit: Limit, limits: Limits) -> tuple[int, str]:
    """Return the status and what the client should do next."""
    match limit:
        case Limit.header_size:
            size = f"{limits.header_bytes // 1024} KiB and {limits.header_fields} fields"
            return 431, f"The headers of a request have at most {size}: send fewer or shorter ones."
        case Limit.target_size:
            return 414, f"The address of a request has at most {limits.target_bytes // 1024} KiB: send a shorter one."
        case Limit.header_time:
            return 408, f"The headers took longer than {limits.header_seconds:g} seconds: send the request again."
        case Limit.body_time:
            return 408, f"The body took longer than {limits.body_seconds:g} seconds: send the request again."
        case Limit.framing:
            return 431, "The chunks of this body have more framing than data: send larger chunks without extensions."
        case Limit.connections | Limit.queue:
            return 503, "The server has as many connections as it can take: try again in a few seconds."
        case Limit.connections_per_address:
            most = limits.connections_per_address
            return 503, f"One address has at most {most} connections at a time: close some, then try again."
        case Limit.memory:
            return 503, "The server holds as many unfinished requests as it can: try again in a few seconds."
        case Limit.malformed:
            return 400, "This is not a valid HTTP request."


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
        self._connections_by_address: Counter[str] = Counter()
        self._unfinished = 0
        self._unfinished_by_address: Counter[str] = Counter()
        self._answering = 0

    def address(self, client: tuple[str, int] | None) -> str:
        """Return what a client's connections are counted by; empty for a trusted proxy, which speaks for many."""
        if client is None:
            return ""  # a Unix socket: only a proxy on this machine
        try:
            address = ipaddress.ip_address(client[0])
        except ValueError:
            return client[0]
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is None:
                network = ipaddress.ip_network((int(address), 48), strict=False)
                return "" if self._trusted(address) else str(network)
            address = address.ipv4_mapped
        return "" if self._trusted(address) else str(address)

    def _trusted(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self._proxies)

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
        """Count a refused connection that stays until its client has read why; whether there may be one more."""
        if self.lingering >= _MOST_LINGERING:
            return False
        self.lingering += 1
        return True

    def disconnect(self, address: str) -> None:
        """Forget a connection that was counted."""
        self._connections -= 1
        _subtract(self._connections_by_address, address, 1)

    def hold_unfinished(self, address: str, size: int) -> bool:
        """Add `size`, which may be negative, to the bytes of unfinished requests; whether they are within limits."""
        self._unfinished += size
        if size >= 0:
            self._unfinished_by_address[address] += size
        else:
            _subtract(self._unfinished_by_address, address, -size)
        if size <= 0:
            return True
        if address and self._unfinished_by_address[address] > self.limits.unfinished_bytes_per_address:
            return False
        return self._unfinished <= self.limits.unfinished_bytes

    def hold_answering(self, size: int) -> bool:
        """Add to the bytes of requests that are being answered; whether they are within limits.

        A small one always is: a till's hook must not wait because others send large bodies, and a few thousand
        connections of them are a bound of their own.
        """
        self._answering += size
        return size <= _SMALL_BODY or self._answering <= self.limits.unfinished_bytes


def _subtract(counter: Counter[str], key: str, count: int) -> None:
    """Take off a count, and the key with the last of it: addresses are strangers' to choose."""
    counter[key] -= count
    if counter[key] <= 0:
        del counter[key]


class _Exceeded(Exception):
    """Raised in a callback of the parser, which stops there."""

    def __init__(self, limit: Limit) -> None:
        super().__init__(limit.value)
        self.limit = limit


class _Phase(Enum):
    """What of a request a connection is reading."""

    idle = "idle"
    """Nothing: no byte has come since the connection was made or the last request arrived in full."""
    head = "head"
    """The request line or headers have begun; left when they are complete."""
    body = "body"
    """The headers are complete; left when the body is, which for a GET is at once."""


class _Request:
    """The application, for one request: what the request's body takes is counted until it is answered."""

    def __init__(self, app: ASGI3Application, usage: Usage) -> None:
        self.size = 0
        self.cycle: RequestResponseCycle | None = None
        """What uvicorn does for this request; set when its headers are complete."""
        self._app, self._usage = app, usage
        self._held = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def send_if_open(message: ASGISendEvent) -> None:
            await self._notice_closed()
            await send(message)

        try:
            await self._app(scope, receive, send_if_open)
        finally:
            self.release()

    async def _notice_closed(self) -> None:
        """Tell uvicorn that the client has gone, which it notices only of the last request on a connection.

        It would write to the closed connection, and log the error of each.
        """
        if self.cycle is not None:
            await self.cycle.flow.drain()
            if self.cycle.transport.is_closing():
                self.cycle.disconnected = True

    def hold(self) -> bool:
        """Count the body, which has arrived in full."""
        self._held = self.size
        return self._usage.hold_answering(self._held)

    def release(self) -> None:
        self._usage.hold_answering(-self._held)
        self._held = 0


class LimitedProtocol(HttpToolsProtocol):
    """One connection, read within limits.

    Bytes are parsed in slices. After each, what it added is counted to the headers while these are not complete, and
    to the framing of the body (what is no data: sizes and extensions of chunks, trailers) after that; a slice in
    which headers or a body end is counted to neither, so that requests which follow each other are not mistaken for
    large ones. After all slices of a read the request that is still unfinished, if there is one, is counted to the
    memory of all, and gets its deadline: a request that comes in one piece has neither.

    A limit's answer is written by the protocol itself, if no other answer is under way on this connection; the
    application learns that the client is gone. What the client still sends is thrown away for two seconds.
    """

    usage: ClassVar[Usage]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._application = self.app
        self._limits = self.usage.limits
        self._address = ""
        self._counted = self._lingers = False
        self._phase = _Phase.idle
        self._request = _Request(self._application, self.usage)
        self._completed = 0
        # of the request being read
        self._head_bytes = self._fields = self._framing = self._unfinished = 0
        # of the slice being parsed
        self._ended_parts = self._data_bytes = 0
        self._deaf = False
        """Whether what arrives is thrown away."""
        self._refused = False
        self._discarded = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_for: tuple[int, bool] | None = None
        self._unread: asyncio.TimerHandle | None = None

    # --- the connection -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._address = self.usage.address(self.client)
        limit = self.usage.connect(self._address)
        if limit is not None:
            self.usage.refused[limit] += 1
            self._deaf = self._refused = True
            transport.write(self._answer(limit))
            self._lingers = transport.can_write_eof() and self.usage.linger()
            if self._lingers:
                transport.write_eof()
                self._deadline = self.loop.call_later(_LINGER_SECONDS, transport.abort)
            else:
                transport.close()
            return
        self._counted = True
        self._set_deadline(self._limits.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self.resume_writing()
        if self._counted:
            self.usage.disconnect(self._address)
        if self._lingers:
            self.usage.lingering -= 1
        self._count_unfinished(0)
        for _, application in self.pipeline:
            if isinstance(application, _Request):
                application.release()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        if self._refused:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(self._limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        if self.flow is not None:
            super().resume_writing()

    # --- reading ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        while rest and not self._deaf and not self.transport.is_closing():
            size = _SLICE
            if self._phase is not _Phase.body:
                size = min(size, self._limits.header_bytes - self._head_bytes)
            self._parse(rest[:size])
            rest = rest[size:]
        if not self._deaf and not self.transport.is_closing():
            self._account()

    def _parse(self, piece: memoryview) -> None:
        self._ended_parts = self._data_bytes = 0
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # no other protocol is spoken here: the request is answered as it is, and what follows is not HTTP
            self.cycle.keep_alive = False
            self._deaf = True
            self._cancel_deadline()
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause.limit if isinstance(cause, _Exceeded) else Limit.malformed)
            return
        if self._ended_parts:
            return
        if self._phase is _Phase.body:
            self._framing += len(piece) - self._data_bytes
            if self._framing > self._limits.header_bytes + _FRAMING_PER_BYTE * self._request.size:
                self._refuse(Limit.framing)
            return
        self._phase = _Phase.head  # empty lines before a request are part of it
        self._head_bytes += len(piece)
        if self._head_bytes >= self._limits.header_bytes:
            self._refuse(Limit.header_size)

    def _account(self) -> None:
        """Count what is unfinished after a read, and see that it has a deadline."""
        unfinished = self._head_bytes
        if self._phase is _Phase.body:
            unfinished = 0 if self.cycle.response_complete else self._request.size
        if not self._count_unfinished(unfinished):
            self._refuse(Limit.memory)
            return
        if self._phase is _Phase.idle and not self._forgotten():
            self._cancel_deadline()
        elif self._deadline_for != self._part():
            self._set_deadline(self._limits.body_seconds if self._phase is _Phase.body else self._limits.header_seconds)

    def _forgotten(self) -> bool:
        """Whether nothing else ends this connection: uvicorn sets no time where a body ends after its answer."""
        return self.cycle is not None and self.cycle.response_complete and not self.pipeline

    def _count_unfinished(self, size: int) -> bool:
        added, self._unfinished = size - self._unfinished, size
        return added == 0 or self.usage.hold_unfinished(self._address, added)

    # --- what the parser reports --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = _Phase.head
        self._fields = self._framing = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self._limits.target_bytes:
            raise _Exceeded(Limit.target_size)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._phase is _Phase.body:
            return  # a trailer: the application has had its headers, and must not find more among them now
        self._fields += 1
        if self._fields > self._limits.header_fields:
            raise _Exceeded(Limit.header_size)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= self._limits.queued_requests:
            raise _Exceeded(Limit.queue)
        self._request = _Request(self._application, self.usage)
        self.app = self._request
        super().on_headers_complete()
        self._request.cycle = self.cycle
        self._phase = _Phase.body
        self._ended_parts += 1
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._data_bytes += len(body)
        self._request.size += len(body)
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._phase = _Phase.idle
        self._completed += 1
        self._ended_parts += 1
        if not self.cycle.response_complete and not self._request.hold():
            self._phase = _Phase.body  # it is this request that is refused
            raise _Exceeded(Limit.memory)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._phase is _Phase.body and self.cycle.response_complete:
            self._count_unfinished(0)
            if self.expect_100_continue and not self._request.size:
                # answered without asking for the body: whether the client sends it all the same is its choice
                self.transport.close()

    # --- deadlines ----------------------------------------------------------------------------------------------

    def _set_deadline(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline_for = self._part()
        self._deadline = self.loop.call_later(seconds, self._overdue, seconds)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._deadline_for = None

    def _part(self) -> tuple[int, bool]:
        """Return what a deadline is for: which request, and whether it is for its body."""
        return self._completed, self._phase is _Phase.body

    def _overdue(self, seconds: float) -> None:
        if self.flow.read_paused or self._answering_earlier():
            self._set_deadline(seconds)  # it waits for us
        elif self._phase is _Phase.body:
            self._refuse(Limit.body_time)
        elif self._phase is _Phase.head or self.cycle is None:
            self._refuse(Limit.header_time)
        else:
            self.transport.close()

    # --- refusing -----------------------------------------------------------------------------------------------

    def _answering_earlier(self) -> bool:
        """Whether an answer to an earlier request of this connection is under way."""
        if self._phase is _Phase.body:
            return bool(self.pipeline)
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, limit: Limit) -> None:
        self.usage.refused[limit] += 1
        answerable = not self._answering_earlier()
        if self._phase is _Phase.body:
            answerable = answerable and not self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._deaf = self._refused = True
        self._cancel_deadline()
        self._count_unfinished(0)
        if not answerable or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(self._answer(limit))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _answer(self, limit: Limit) -> bytes:
        status, sentence = _sentence(limit, self._limits)
        headers = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
        if status == 503:
            headers.append((b"retry-after", b"5"))
        headers += [(b"content-length", str(len(sentence)).encode()), (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[status], *lines, b"\r\n", sentence.encode("ascii")])

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded <= _MOST_DISCARDED:
            return
        if self._refused:
            self.flow.pause_reading()  # it ends in two seconds; until then the client can read why
        else:
            self.transport.abort()


def limited(limits: Limits, proxies: Sequence[Network], refused: Counter[str]) -> type[LimitedProtocol]:
    """Return the protocol of one server, whose connections share `limits`; `refused` counts by `Limit`."""
    usage = Usage(limits, proxies, refused)
    return type("LimitedProtocol", (LimitedProtocol,), {"usage": usage})


def most_connections(wanted: int) -> int:
    """Return how many connections the process has file descriptors for, at most `wanted`, raising its soft limit."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - _SPARE_DESCRIPTORS))
