"""Where work runs: here, as tasks of this process.

Owns that one piece of work never runs twice at once, and that a slow till delays nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

log = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class Dispatcher(Protocol):
    """Takes work and returns at once."""

    def submit(self, name: str, work: Work) -> bool:
        """Run `work` now, unless work of that name is running; whether it was taken."""
        ...

    def free(self) -> int:
        """How much more may be submitted: nobody claims what could not run before its lease ends."""
        ...


class InProcess:
    """The dispatcher of one machine: tasks in this process, which mostly wait for tills."""

    def __init__(self, at_once: int = 500) -> None:
        self._at_once = at_once
        self._running: dict[str, asyncio.Task[None]] = {}

    def free(self) -> int:
        return max(0, self._at_once - len(self._running))

    def submit(self, name: str, work: Work) -> bool:
        if name in self._running:
            return False
        task = asyncio.get_running_loop().create_task(self._run(name, work), name=name)
        self._running[name] = task
        task.add_done_callback(lambda _task: self._running.pop(name, None))
        return True

    async def _run(self, name: str, work: Work) -> None:
        try:
            await work()
        except Exception as error:
            log.exception("%s: raised %s; it will be due again", name, type(error).__name__)

    async def close(self) -> None:
        """Let go of everything that runs: whatever it had not finished is still in the database."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
