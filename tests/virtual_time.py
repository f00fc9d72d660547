"""An event loop whose time jumps to the next timer instead of passing: hours of pauses in milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = 1_760_000_000_000_000  # some time in 2025, in microseconds


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now += timeout
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen: the test waits for something that no timer brings")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Give it to `run`; nothing on it may wait for a thread or a socket."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class VirtualClock:
    """The host's clock on such a loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        return EPOCH + int(self._loop.time() * 1_000_000)

    def seconds(self) -> float:
        return self.now() / 1_000_000


def run(loop: VirtualLoop, work: Coroutine[Any, Any, T]) -> T:
    return loop.run_until_complete(work)
