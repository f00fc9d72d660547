"""An event loop whose time jumps to the next timer instead of passing: hours of pauses in milliseconds.

Owns the loop and the host's clock on it; nothing on such a loop may wait for a thread or a socket.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = 1_760_000_000_000_000
"""Some time in 2025, in UTC microseconds: when every virtual loop begins."""


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]  # chosen by the platform
    """Waits for nothing: where no event is ready, the time until the next timer has passed."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        """Return the ready events, as the selector of the platform types them."""
        ready = super().select(0)
        if not ready and timeout:
            self.loop.now += timeout
        if not ready and timeout is None:
            raise RuntimeError("nothing will ever happen: the test waits for something that no timer brings")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, in seconds since it was made."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual time, by which the loop's timers go."""
        return self.now


class VirtualClock:
    """The host's clock on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        """Return the virtual time in UTC microseconds."""
        return EPOCH + int(self._loop.time() * 1_000_000)

    def seconds(self) -> float:
        """Return the virtual time in seconds since 1970."""
        return self.now() / 1_000_000


def run(loop: VirtualLoop, work: Coroutine[Any, Any, T]) -> T:
    """Run work on a virtual loop to its end."""
    return loop.run_until_complete(work)
