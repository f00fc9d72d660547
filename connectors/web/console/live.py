"""Live parts of pages: a stream of server-sent events that tells when a connection's journal has grown.

Owns how long a stream lives and how many are open; the page's script fetches what has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.responses import Response, StreamingResponse

from connectors.domain.events import Wakeup
from connectors.store import ledger
from connectors.store.engine import Store
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()

_LIFETIME = 600.0  # seconds; then the browser opens a new one by itself
_LOOK_EVERY = 3.0  # another process may have written, which wakes nobody in this one
_CHECK_SESSION_EVERY = 60.0
_GATHER = 0.2  # what is written together is told together
_MAX_OF_SESSION, _MAX_OF_BUSINESS, _MAX_OF_ALL = 10, 50, 2000
_ALL = ""  # the key under which all streams are counted


@router.get("/connections/{connection}/events", Role.counter)
async def events(visit: Visit) -> Response:
    """Open the stream of a connection."""
    connection = (await visit.load_overview()).connection
    # nginx, and others that know its header, would collect the events of a stream until a buffer is full
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(visit, connection.id), media_type="text/event-stream", headers=headers)


async def _stream(visit: Visit, connection_id: str) -> AsyncIterator[str]:
    # counted where the stream begins and not in the handler, so that a burst of requests is counted too
    if _is_full(visit):
        yield "retry: 30000\n\n"
        return
    with _counted(visit), _journal_news(visit.host.store) as news:
        yield "retry: 2000\n\n"
        async for event in _events(visit, connection_id, news):
            yield event


async def _events(visit: Visit, connection_id: str, news: asyncio.Event) -> AsyncIterator[str]:
    """Yield an event whenever the journal has grown, and a comment meanwhile, which shows that somebody still listens.

    The session is looked at before each event and once a minute: a stream tells nothing to who is signed out.
    """
    loop = asyncio.get_running_loop()
    end, check_session_at = loop.time() + _LIFETIME, loop.time() + _CHECK_SESSION_EVERY
    last_seq = _sequence_number(visit.request.query_params.get("after", ""))
    while loop.time() < end:
        news.clear()  # before the journal is read: what is written meanwhile sets it again
        newest = await visit.host.store.read(lambda tx: ledger.journal.newest_seq(tx, connection_id))
        if newest > last_seq or loop.time() > check_session_at:
            if await visit.console.auth.find_session(visit.request, used=False) is None:
                yield "event: gone\ndata: signed out\n\n"
                return
            check_session_at = loop.time() + _CHECK_SESSION_EVERY
        if newest > last_seq:
            last_seq = newest
            yield f"event: news\ndata: {newest}\n\n"
        else:
            yield ": still here\n\n"
        await _wait_for(news)


async def _wait_for(news: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(news.wait(), _LOOK_EVERY)
        await asyncio.sleep(_GATHER)
    except TimeoutError:
        pass


def _sequence_number(text: str) -> int:
    """Parse the number of the journal's line that the page shows already; 0 where the address names none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


@contextmanager
def _journal_news(store: Store) -> Iterator[asyncio.Event]:
    """Give an event that is set whenever this process writes to the journal."""
    news = asyncio.Event()

    def on_write(wakeups: set[Wakeup], _events: object) -> None:
        if Wakeup.journal in wakeups:
            news.set()

    store.listeners.append(on_write)
    try:
        yield news
    finally:
        store.listeners.remove(on_write)


# --- how many streams are open --------------------------------------------------------------------------------------


def _is_full(visit: Visit) -> bool:
    streams = visit.console.open_streams
    return (
        streams[visit.signed_in_session.id_hash] >= _MAX_OF_SESSION
        or streams[visit.owner_id] >= _MAX_OF_BUSINESS
        or streams[_ALL] >= _MAX_OF_ALL
    )


@contextmanager
def _counted(visit: Visit) -> Iterator[None]:
    """Count a stream for its session, for its business and among all, as long as it is open."""
    streams, session, owner = visit.console.open_streams, visit.signed_in_session.id_hash, visit.owner_id
    streams.update((session, owner, _ALL))
    try:
        yield
    finally:
        streams.subtract((session, owner, _ALL))
        for key in (session, owner):  # a counter keeps keys that are zero, and there is no end of sessions
            if streams[key] <= 0:
                del streams[key]
