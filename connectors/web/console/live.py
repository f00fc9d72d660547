"""Live parts: a stream that says when a connection has news, as server-sent events.

Owns how long and how many streams live; the page fetches what changed by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from connectors.store import journal
from connectors.web.console.frame import Pages, Visit

pages = Pages()

_LIVES = 600.0  # then the browser comes again by itself
_LOOK = 3.0  # another process may have written
_SESSION_EVERY = 60.0
_OF_ONE = 10
_OF_ALL = 2000

_open: Counter[str] = Counter()


@pages.get("/connections/{connection}/events")
async def events(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    who = visit.me.id_hash
    if _open[who] >= _OF_ONE or _open.total() >= _OF_ALL:
        return Response(status_code=429, headers={"Retry-After": "30"})
    return StreamingResponse(
        _stream(visit, one.id, who), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(visit: Visit, connection_id: str, who: str) -> AsyncIterator[str]:
    store, loop = visit.host.store, asyncio.get_running_loop()
    news = asyncio.Event()

    def heard(wake: set[str], _told: object) -> None:
        if "journal" in wake:
            news.set()

    store.listeners.append(heard)
    _open[who] += 1
    try:
        end, look_at_session = loop.time() + _LIVES, loop.time() + _SESSION_EVERY
        last = int(visit.request.query_params.get("after", "0") or 0) if _number(visit) else 0
        yield "retry: 2000\n\n"
        while loop.time() < end:
            newest = await store.read(lambda tx: journal.last(tx, connection_id))
            if newest > last:
                last = newest
                yield f"event: news\ndata: {newest}\n\n"
            else:
                yield ": still here\n\n"
            if loop.time() > look_at_session:
                if await visit.console.gate.session(visit.request) is None:
                    yield "event: gone\ndata: signed out\n\n"
                    return
                look_at_session = loop.time() + _SESSION_EVERY
            news.clear()
            try:
                await asyncio.wait_for(news.wait(), _LOOK)
                await asyncio.sleep(0.2)  # what comes together is told together
            except TimeoutError:
                pass
    finally:
        store.listeners.remove(heard)
        _open[who] -= 1
        if not _open[who]:
            del _open[who]


def _number(visit: Visit) -> bool:
    return (
        visit.request.query_params.get("after", "").isascii() and visit.request.query_params.get("after", "").isdigit()
    )
