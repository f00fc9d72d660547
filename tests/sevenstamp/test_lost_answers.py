"""Over real sockets, with the production transport: what the server did before the connection broke is in doubt."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from connectors.sevenstamp.client import InDoubt, NotSent, SevenStamp

End = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def half_a_body(writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{"operation')
    await writer.drain()
    writer.close()


async def half_a_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Cre")
    await writer.drain()
    writer.close()


async def silence(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@asynccontextmanager
async def serving(end: End) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that takes the whole request (and would apply it), then ends the connection in its own way."""
    applied: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        applied.append(await reader.readexactly(length))
        await end(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", applied
    finally:
        server.close()


@pytest.mark.parametrize("end", [close, reset, half_a_body, half_a_head, silence])
async def test_a_connection_that_breaks_after_the_request_leaves_doubt(end: End) -> None:
    async with serving(end) as (origin, applied):
        service = SevenStamp(origin)
        outcome = await service.with_key("7loc_sc_x").write("/v1/cards/c/stamps", '{"count":1}', "k", 0.5)
        await service.aclose()
    assert isinstance(outcome, InDoubt)
    assert applied == [b'{"count":1}']  # once: nothing below us sent it again by itself


async def test_a_kept_alive_connection_that_was_closed_meanwhile_is_not_sent_on_twice() -> None:
    served: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", None):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length"))
            served.append(await reader.readexactly(length))
            if answer:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    service = SevenStamp(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    client = service.with_key("7loc_sc_x")
    await client.write("/v1/cards/c/stamps", "{}", "k1", 1)
    outcome = await client.write("/v1/cards/c/stamps", '{"n":2}', "k2", 1)
    await service.aclose()
    server.close()
    assert isinstance(outcome, InDoubt)
    assert served == [b"{}", b'{"n":2}']


async def test_a_server_that_is_not_there_was_sent_nothing() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = SevenStamp(f"http://127.0.0.1:{port}")
    outcome = await service.with_key("7loc_sc_x").write("/v1/cards/c/stamps", "{}", "k", 2)
    await service.aclose()
    assert isinstance(outcome, NotSent)
