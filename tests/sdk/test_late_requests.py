"""A request whose caller has given up: nothing more of it arrives, however long the network or the peer takes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from connector_sdk.http import production_transport, send

_BODY = 48 * 1024
"""More than a peer that reads nothing takes, and less than what the system takes from us."""


async def test_nothing_of_a_request_arrives_after_its_deadline() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        transport = production_transport()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/cards"
        with pytest.raises(TimeoutError):
            await send(transport, "POST", url, deadline=0.3, content=b"x" * _BODY)
        await transport.aclose()
        await asyncio.sleep(0)  # what the transport closes, it closes in the loop's next turn
        peer, _ = listener.accept()
        with peer:
            assert len(await asyncio.to_thread(_everything, peer)) < _BODY


def _everything(peer: socket.socket) -> bytes:
    """Read what arrives until the other side has closed."""
    peer.settimeout(10)
    arrived = b""
    while True:
        try:
            part = peer.recv(65536)
        except ConnectionResetError:
            return arrived
        if not part:
            return arrived
        arrived += part
