"""HTTP/1.1 by hand, as cheap as may be for whoever attacks, and counted by the status of each answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.attacks.target import STRANGER, Target

MOST_REQUESTS = 20_000
"""What one attack sends at most, however fast it is answered."""

_PIECE = 256 * 1024
_SPARE_SECONDS = 0.3
"""How long an answer is waited for when the attack is over."""


def request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """Return a whole request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: host", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


class Connection:
    """One connection to the host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send what the host takes: it may close before it has everything."""
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), _PIECE):
                self.writer.write(data[start : start + _PIECE])
                await self.writer.drain()

    async def answer(self) -> int:
        """Read an answer to its end and return its status. Raises `ConnectionError`, `asyncio.IncompleteReadError`."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        _, has_length, length = head.partition(b"content-length: ")
        if has_length:
            await self.reader.readexactly(int(length.split(b"\r\n", 1)[0]))
        return int(head[9:12])

    async def ask(self, data: bytes) -> int:
        """Send and read at the same time: what is refused is answered before all of it is sent."""
        sending = asyncio.ensure_future(self.send(data))
        try:
            return await self.answer()
        finally:
            sending.cancel()

    def close(self) -> None:
        """Close at once, without waiting for what is under way."""
        self.writer.transport.abort()


class Attacker:
    """Connections to one host for so many seconds; counts the answers."""

    def __init__(self, target: Target, seconds: float) -> None:
        self.target = target
        self.answers: Counter[str] = Counter()
        """How often each status came, and `closed` and `no answer` where none did."""
        self._sent = 0
        self._end = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """How many seconds are left, 0 when the attack is over."""
        return max(0.0, self._end - asyncio.get_running_loop().time()) if self._sent < MOST_REQUESTS else 0.0

    @asynccontextmanager
    async def connection(self, address: str = STRANGER) -> AsyncIterator[Connection]:
        """Open a connection from an address of this machine; it is closed at the end."""
        reader, writer = await asyncio.open_connection(
            self.target.host, self.target.port, local_addr=(address, 0), limit=256 * 1024
        )
        connection = Connection(reader, writer)
        try:
            yield connection
        finally:
            connection.close()

    async def flood(self, make_request: Callable[[], bytes], *, connections: int = 8, address: str = STRANGER) -> None:
        """Send one request after another on each of some connections until the time is over."""
        await asyncio.gather(*(self._send_repeatedly(make_request, address) for _ in range(connections)))

    async def _send_repeatedly(self, make_request: Callable[[], bytes], address: str) -> None:
        """Send at least one request, and more until the time is over."""
        while True:
            try:
                async with self.connection(address) as connection:
                    while True:
                        self._sent += 1
                        self.answers[str(await self.timed(connection.ask(make_request())))] += 1
                        if not self.left:
                            return
            except TimeoutError:
                self.answers["no answer"] += 1
            except (OSError, asyncio.IncompleteReadError):
                self.answers["closed"] += 1
                await asyncio.sleep(0.01)
            if not self.left:
                return

    async def timed(self, answer: Awaitable[int]) -> int:
        """Wait for an answer, a little beyond the end of the attack. Raises `TimeoutError`."""
        async with asyncio.timeout(self.left + _SPARE_SECONDS):
            return await answer

    async def hold(self, make_request: Callable[[int], bytes], *, connections: int, address: str = STRANGER) -> None:
        """Open connections that send the beginning of a request and no more; open each again when it is closed."""
        await asyncio.gather(*(self._hold_connection(make_request(number), address) for number in range(connections)))

    async def _hold_connection(self, beginning: bytes, address: str) -> None:
        while self.left:
            try:
                async with self.connection(address) as connection:
                    self._sent += 1
                    self.answers[str(await self.timed(connection.ask(beginning)))] += 1
            except TimeoutError:
                self.answers["held open"] += 1
            except (OSError, asyncio.IncompleteReadError):
                self.answers["closed"] += 1
            await asyncio.sleep(min(0.2, self.left))
