"""Sandboxes served by a thread of the test's own process, for commands that call them.

Their own command, `connectors sandbox`, is a process in other tests; where it is not the subject, starting it takes
longer than what calls it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp

from tests.installation import served_together


@contextmanager
def served_by_thread(*apps: ASGIApp) -> Iterator[list[str]]:
    """Serve applications at origins of their own until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="sandboxes", daemon=True)
    thread.start()
    servers = served_together(*apps)
    try:
        yield asyncio.run_coroutine_threadsafe(servers.__aenter__(), loop).result(20)
        asyncio.run_coroutine_threadsafe(servers.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()
