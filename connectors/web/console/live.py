"""Live parts: a stream that says when a connection has news, as server-sent events.

Owns how long and how many streams live; the page fetches what changed by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse

from connectors.domain.events import Wakeup
from connectors.store import ledger
from connectors.web.console.frame import Pages, Visit

pages = Pages()

_LIVES = 600.0  # then the browser comes again by itself
_LOOK = 3.0  # another process may have written
_SESSION_EVERY = 60.0
_OF_ONE, _OF_BUSINESS, _OF_ALL = 10, 50, 2000
_ALL = ""


@pages.get("/connections/{connection}/events")
async def events(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    return StreamingResponse(
        _stream(visit, one.id), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _stream(visit: Visit, connection_id: str) -> AsyncIterator[str]:
    store, loop = visit.host.store, asyncio.get_running_loop()
    streams, session, business = visit.console.streams, visit.me.id_hash, visit.owner
    # counted where the stream begins, so that a burst of requests is counted too
    if streams[session] >= _OF_ONE or streams[business] >= _OF_BUSINESS or streams[_ALL] >= _OF_ALL:
        yield "retry: 30000\n\n"
        return
    news = asyncio.Event()

    def heard(wakeups: set[Wakeup], _events: object) -> None:
        if Wakeup.journal in wakeups:
            news.set()

    store.listeners.append(heard)
    streams.update((session, business, _ALL))
    try:
        end, look_at_session = loop.time() + _LIVES, loop.time() + _SESSION_EVERY
        after = visit.request.query_params.get("after", "")
        last = int(after) if after.isascii() and after.isdigit() and len(after) < 16 else 0
        yield "retry: 2000\n\n"
        while loop.time() < end:
            news.clear()  # before it is read: what comes meanwhile is looked for again
            newest = await store.read(lambda tx: ledger.journal.newest_seq(tx, connection_id))
            if newest > last or loop.time() > look_at_session:
                if await visit.console.gate.session(visit.request, used=False) is None:
                    yield "event: gone\ndata: signed out\n\n"
                    return
                look_at_session = loop.time() + _SESSION_EVERY
            if newest > last:
                last = newest
                yield f"event: news\ndata: {newest}\n\n"
            else:
                yield ": still here\n\n"
            try:
                await asyncio.wait_for(news.wait(), _LOOK)
                await asyncio.sleep(0.2)  # what comes together is told together
            except TimeoutError:
                pass
    finally:
        store.listeners.remove(heard)
        streams.subtract((session, business, _ALL))
        for who in (session, business):
            if streams[who] <= 0:
                del streams[who]
