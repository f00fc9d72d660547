"""Where work runs: here, as tasks of this process.

Owns that one piece of work never runs twice at once, and that a slow till delays nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging

from connectors.runtime.background import Work

log = logging.getLogger(__name__)


class InProcess:
    """The dispatcher of one machine: tasks in this process, which mostly wait for tills."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}

    def submit(self, name: str, work: Work) -> bool:
        """Run `work` in a task, unless work of that name is running; return whether it was taken."""
        # The name is the work's identity ("poll" and a connection): a tick every second may submit what still runs.
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
        """Cancel everything that runs: whatever it had not finished is still in the database."""
        # a copy: each task that ends takes itself out of the dictionary
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
