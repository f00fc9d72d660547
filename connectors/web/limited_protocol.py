"""uvicorn's HTTP protocol within limits: it checks bytes as they arrive, before the application hears of a request.

Owns what each connection has sent and when it is over; the numbers, and what all connections use together, are
`limits`'.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import httptools
from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from connectors.web.limits import MIB, Limit, Limits, Network, Usage, refusal_text

# how many bytes are parsed before they are counted: a limit is exceeded by no more than this
_SLICE = 16 * 1024
# how long what a refused client still sends is thrown away, so that it reads why instead of a reset connection
_LINGER_SECONDS = 2.0
# after so much thrown away a client is not read any more
_MOST_DISCARDED = 16 * MIB
# chunks of one byte each have five bytes around it; more than this is no way to send a body
_FRAMING_PER_BYTE = 16


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


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a request: the request's number on its connection, and whether it is the body or what is before it."""

    request: int
    is_body: bool


class _Request:
    """The application, for one request: what the request's body takes is counted until it is answered."""

    def __init__(self, app: ASGI3Application, usage: Usage) -> None:
        self.size = 0
        self.cycle: RequestResponseCycle | None = None
        """What uvicorn does for this request; set when its headers are complete."""
        self._app, self._usage = app, usage
        self._held = 0

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve the request."""

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
        """Count the body no longer: the request is answered, or its connection gone."""
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
        app_state: dict[str, Any],  # uvicorn's own signature
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._application = self.app
        self._limits = self.usage.limits
        self._address = ""
        self._is_counted = self._is_lingering = False
        self._phase = _Phase.idle
        self._request = _Request(self._application, self.usage)
        self._completed_requests = 0
        # of the request being read
        self._head_bytes = self._header_fields = self._framing_bytes = self._unfinished = 0
        # of the slice being parsed
        self._parts_ended = self._data_bytes = 0
        self._discards = False
        """Whether what arrives is thrown away: the connection was refused, or what follows is not HTTP."""
        self._refused = False
        self._discarded = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_for: _Part | None = None
        self._write_stall: asyncio.TimerHandle | None = None

    # --- the connection -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count a new connection, or refuse it."""
        super().connection_made(transport)
        self._address = self.usage.address(self.client)
        limit = self.usage.connect(self._address)
        if limit is not None:
            self._refuse_connection(transport, limit)
            return
        self._is_counted = True
        self._set_deadline(self._limits.header_seconds)

    def _refuse_connection(self, transport: asyncio.Transport, limit: Limit) -> None:
        """Answer a connection beyond the limit, and leave its client time to read why if few others do so now."""
        self.usage.refused[limit] += 1
        self._discards = self._refused = True
        transport.write(self._answer(limit))
        # closing while bytes of the client's arrive resets the connection, and the answer is lost with it: so only our
        # half is closed, and the rest when the client has had its time
        self._is_lingering = transport.can_write_eof() and self.usage.linger()
        if self._is_lingering:
            transport.write_eof()
            self._deadline = self.loop.call_later(_LINGER_SECONDS, transport.abort)
        else:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back everything that this connection was counted with."""
        self._cancel_deadline()
        self.resume_writing()
        if self._is_counted:
            self.usage.disconnect(self._address)
        if self._is_lingering:
            self.usage.lingering -= 1
        self._count_unfinished(0)
        # requests that wait for their turn are not answered any more; the one being answered gives back by itself
        for _, application in self.pipeline:
            if isinstance(application, _Request):
                application.release()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End the connection with the server; uvicorn waits for no answer of ours."""
        super().shutdown()
        if self._refused:
            self.transport.close()

    def pause_writing(self) -> None:
        """Begin to count the time in which the client reads nothing."""
        super().pause_writing()
        self._write_stall = self.loop.call_later(self._limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """End that time: the client has read."""
        if self._write_stall is not None:
            self._write_stall.cancel()
            self._write_stall = None
        # a connection that is lost before it was made has no flow yet
        if self.flow is not None:
            super().resume_writing()

    # --- reading ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, slice by slice, until a limit is exceeded."""
        if self._discards:
            self._discard(len(data))
            return
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        while rest and not self._discards and not self.transport.is_closing():
            # a slice of headers is no longer than what may still come of them: the limit is met to the byte
            size = _SLICE
            if self._phase is not _Phase.body:
                size = min(size, self._limits.header_bytes - self._head_bytes)
            self._parse(rest[:size])
            rest = rest[size:]
        if not self._discards and not self.transport.is_closing():
            self._account_for_memory()

    def _parse(self, piece: memoryview) -> None:
        """Parse a slice, and count it to the part of the request that it belongs to as a whole."""
        self._parts_ended = self._data_bytes = 0
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            # no other protocol is spoken here: the request is answered as it is, and what follows is not HTTP
            self.cycle.keep_alive = False
            self._discards = True
            self._cancel_deadline()
            return
        except httptools.HttpParserError as error:
            # the parser wraps what a callback raises
            cause = error.__context__
            self._refuse(cause.limit if isinstance(cause, _Exceeded) else Limit.malformed)
            return
        if not self._parts_ended:
            self._count_slice(len(piece))

    def _count_slice(self, size: int) -> None:
        """Count a slice in which nothing ended: it is all headers, or all body."""
        if self._phase is _Phase.body:
            self._framing_bytes += size - self._data_bytes
            if self._framing_bytes > self._limits.header_bytes + _FRAMING_PER_BYTE * self._request.size:
                self._refuse(Limit.framing)
            return
        self._phase = _Phase.head  # empty lines before a request are part of it
        self._head_bytes += size
        if self._head_bytes >= self._limits.header_bytes:
            self._refuse(Limit.header_size)

    def _account_for_memory(self) -> None:
        """Count what is unfinished after a read, and see that it has a deadline."""
        unfinished = self._head_bytes
        if self._phase is _Phase.body:
            # what comes of a body after its answer is thrown away, and held nowhere
            unfinished = 0 if self.cycle.response_complete else self._request.size
        if not self._count_unfinished(unfinished):
            self._refuse(Limit.memory)
            return
        if self._phase is _Phase.idle and not self._has_no_other_timeout():
            self._cancel_deadline()
        # a part that goes on keeps the deadline it began with, or a byte now and then would put it off for ever
        elif self._deadline_for != self._part():
            self._set_deadline(self._limits.body_seconds if self._phase is _Phase.body else self._limits.header_seconds)

    def _has_no_other_timeout(self) -> bool:
        """Tell whether nothing else ends this connection: uvicorn sets no time where a body ends after its answer."""
        return self.cycle is not None and self.cycle.response_complete and not self.pipeline

    def _count_unfinished(self, size: int) -> bool:
        """Set how many bytes this connection holds of a request; return whether all connections are within limits."""
        added, self._unfinished = size - self._unfinished, size
        return added == 0 or self.usage.hold_unfinished(self._address, added)

    # --- what the parser reports --------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._phase = _Phase.head
        self._header_fields = self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        super().on_url(url)
        if len(self.url) > self._limits.target_bytes:
            raise _Exceeded(Limit.target_size)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if self._phase is _Phase.body:
            return  # a trailer: the application has had its headers, and must not find more among them now
        self._header_fields += 1
        if self._header_fields > self._limits.header_fields:
            raise _Exceeded(Limit.header_size)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request to the application, or queue it behind those that came before on this connection."""
        if len(self.pipeline) >= self._limits.queued_requests:
            raise _Exceeded(Limit.queue)
        # uvicorn takes the application of each request from `app`
        self._request = _Request(self._application, self.usage)
        self.app = self._request
        super().on_headers_complete()
        self._request.cycle = self.cycle
        self._phase = _Phase.body
        self._parts_ended += 1
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._data_bytes += len(body)
        self._request.size += len(body)
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Count a request that arrived in full to those being answered."""
        super().on_message_complete()
        self._phase = _Phase.idle
        self._completed_requests += 1
        self._parts_ended += 1
        if not self.cycle.response_complete and not self._request.hold():
            self._phase = _Phase.body  # it is this request that is refused
            raise _Exceeded(Limit.memory)

    def on_response_complete(self) -> None:
        """Hold nothing of a body any more whose request was answered before it arrived."""
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
        self._deadline = self.loop.call_later(seconds, self._deadline_passed, seconds)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._deadline_for = None

    def _part(self) -> _Part:
        """Return what is being read, which a deadline is for."""
        return _Part(self._completed_requests, self._phase is _Phase.body)

    def _deadline_passed(self, seconds: float) -> None:
        """Refuse a request that is late, unless it is late because of us."""
        if self.flow.read_paused or self._answering_earlier():
            self._set_deadline(seconds)  # we do not read now, or an answer comes first: the client cannot go on
        elif self._phase is _Phase.body:
            self._refuse(Limit.body_time)
        elif self._phase is _Phase.head or self.cycle is None:
            self._refuse(Limit.header_time)
        else:
            self.transport.close()

    # --- refusing -----------------------------------------------------------------------------------------------

    def _answering_earlier(self) -> bool:
        """Tell whether an answer to an earlier request of this connection is under way."""
        if self._phase is _Phase.body:
            return bool(self.pipeline)
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, limit: Limit) -> None:
        """End the connection because of a limit, with an answer where none is under way.

        The application of the request, if it was called, learns that its client is gone: it waits for a body that it
        will not get.
        """
        self.usage.refused[limit] += 1
        answerable = not self._answering_earlier()
        if self._phase is _Phase.body:
            answerable = answerable and not self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._discards = self._refused = True
        self._cancel_deadline()
        self._count_unfinished(0)
        if not answerable or self.transport.is_closing():
            self.transport.close()
            return
        self.transport.write(self._answer(limit))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # what the client still sends must be read, or it does not come to read the answer
        self.flow.resume_reading()
        self._deadline = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _answer(self, limit: Limit) -> bytes:
        """Return the whole HTTP answer to a client that exceeded a limit."""
        text = refusal_text(limit, self._limits)
        headers = [*self.server_state.default_headers, (b"content-type", b"text/plain; charset=utf-8")]
        if text.status == 503:
            headers.append((b"retry-after", b"5"))
        headers += [(b"content-length", str(len(text.sentence)).encode()), (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        return b"".join([STATUS_LINE[text.status], *lines, b"\r\n", text.sentence.encode("ascii")])

    def _discard(self, size: int) -> None:
        """Throw bytes away, up to a bound."""
        self._discarded += size
        if self._discarded <= _MOST_DISCARDED:
            return
        if self._refused:
            self.flow.pause_reading()  # it ends when the lingering does; until then the client can read why
        else:
            self.transport.abort()


def limited(limits: Limits, proxies: Sequence[Network], refused: Counter[str]) -> type[LimitedProtocol]:
    """Return the protocol of one server, whose connections share `limits`; `refused` counts by `Limit`."""
    usage = Usage(limits, proxies, refused)
    return type("LimitedProtocol", (LimitedProtocol,), {"usage": usage})
