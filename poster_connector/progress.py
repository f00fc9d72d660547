"""Shows a card's progress and vouchers in the comment of its customer in Poster: one marked line, `★ 4/8 · FREECOFFEE`.

Owns that line and nothing else of a comment: the cafe's own words around it stay as they are, byte for byte. A comment
is read and written back at once; what somebody types into it in between those two calls would be lost, so there are
no more of them than needed: what happens to a customer while a turn is awaited is written together.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from connector_sdk.errors import TillUnavailable
from connector_sdk.index import Index
from connector_sdk.loyalty import LoyaltyEvent, VoucherExpired, VoucherIssued, VoucherRedeemed
from poster_connector.client import PosterClient
from poster_connector.wire import JsonObject, read_text

log = logging.getLogger(__name__)

_SIGN = "★"
_LINE = re.compile(
    rf"^{_SIGN} (?P<stamps>\d{{1,6}})/(?P<goal>\d{{1,6}})(?P<codes>(?: · [\w-]{{1,64}}){{0,20}})(?=\r?$)", re.M
)
_MOST_CODES = 5
_MOST_CLIENTS = 5  # of one phone
_SECONDS_BETWEEN_WRITES = 0.25
_MOST_USED_CODES = 1000
_MOST_WAITING = 8
_SHOWN = "shown"
"""The key of the index under which the customers stand in whose comments there is a line."""
_LEAVING_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """What the line says: stamps towards the goal, and the redeem codes of vouchers that are good."""

    stamps: int
    goal: int
    codes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line itself."""
        return " · ".join([f"{_SIGN} {self.stamps}/{self.goal}", *self.codes[:_MOST_CODES]])


def progress_in(comment: str) -> Progress | None:
    """Return what the line of a comment says; `None` where it has none."""
    match = _LINE.search(comment)
    if match is None:
        return None
    codes = tuple(code for code in match["codes"].split(" · ") if code)
    return Progress(int(match["stamps"]), int(match["goal"]), codes)


def with_progress(comment: str, progress: Progress | None) -> str:
    """Return a comment with another line, or without one; whatever else stands in it stays as it is."""
    match = _LINE.search(comment)
    if match is None:
        if progress is None:
            return comment
        return f"{comment}\n{progress.line}" if comment else progress.line
    if progress is not None:
        return f"{comment[: match.start()]}{progress.line}{comment[match.end() :]}"
    # the line break goes that came with the line: the one after it, or where it is the last one, the one before it
    before, after = comment[: match.start()], comment[match.end() :]
    for line_break in ("\r\n", "\n"):
        if after.startswith(line_break):
            return before + after.removeprefix(line_break)
    return before.removesuffix("\n") + after


@dataclass(slots=True)
class Change:
    """What events say of a card: its stamps and goal where they do, and codes to show or to show no more."""

    stamps: int | None = None
    goal: int | None = None
    new: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.goal or self.new or self.used)

    def add(self, later: Change) -> None:
        """Add what a later event says."""
        if later.goal:
            self.stamps, self.goal = later.stamps, later.goal
        self.new += later.new
        self.used += later.used

    def applied_to(self, progress: Progress | None) -> Progress | None:
        """Return what the line says after it; `None` where nothing is known that could be shown."""
        stamps = self.stamps if self.goal else (progress.stamps if progress else 0)
        goal = self.goal or (progress.goal if progress else 0)
        if not goal:
            return progress
        codes = dict.fromkeys([*(progress.codes if progress else ()), *self.new])
        return Progress(stamps or 0, goal, tuple(code for code in codes if code not in self.used))


def change_of(event: LoyaltyEvent) -> Change:
    """Return what an event says of its card."""
    change = Change(stamps=event.card.stamps or 0, goal=event.card.goal) if event.card.goal else Change()
    match event:
        case VoucherIssued() if event.voucher.redeem_code:
            change.new.append(event.voucher.redeem_code)
        case VoucherRedeemed() | VoucherExpired() if event.voucher.redeem_code:
            change.used.append(event.voucher.redeem_code)
    return change


@dataclass(slots=True)
class _Waiting:
    """What is still to be written for a customer, and who waits for it."""

    change: Change
    done: asyncio.Future[None]


class ProgressLines:
    """Writes the lines of one account, one customer after the other."""

    def __init__(self, client: PosterClient, index: Index) -> None:
        self._client = client
        self._index = index
        self._waiting: dict[str, _Waiting] = {}
        self._turn = asyncio.Lock()
        self._next_at = 0.0
        self._used: OrderedDict[str, None] = OrderedDict()
        """Codes that were used or have expired: the event that issued one may come after them."""
        self._newest: OrderedDict[str, datetime] = OrderedDict()
        """When the newest event of a phone happened: one that is told late must not bring back older stamps."""
        self._left = False

    async def show(self, event: LoyaltyEvent) -> None:
        """Write what an event changes; events of the same customer that wait meanwhile are written together."""
        change, phone = change_of(event), event.customer.phone
        if not change or not phone or self._left:
            return
        self._remember_used(change)
        if self._is_late(phone, event.at):
            change.stamps = change.goal = None
        waiting = self._waiting.get(phone)
        if waiting is None and len(self._waiting) >= _MOST_WAITING:
            # to be told again later: whoever waits here keeps other cafes' events from being told
            raise TillUnavailable("too many customers' comments are to be written")
        if waiting is not None:
            waiting.change.add(change)
            await asyncio.shield(waiting.done)
            return
        waiting = self._waiting[phone] = _Waiting(change, asyncio.get_running_loop().create_future())
        try:
            async with self._turn:
                await self._pace()
                # from here on another event of this customer is another write
                del self._waiting[phone]
                if not self._left:
                    await self._write(phone, waiting.change)
        except BaseException as error:
            if self._waiting.get(phone) is waiting:
                del self._waiting[phone]
            if not waiting.done.done():
                waiting.done.set_exception(error if isinstance(error, Exception) else RuntimeError("was cut off"))
                waiting.done.exception()  # nobody may wait for it
            raise
        waiting.done.set_result(None)

    def _remember_used(self, change: Change) -> None:
        for code in change.used:
            self._used[code] = None
        while len(self._used) > _MOST_USED_CODES:
            self._used.popitem(last=False)

    def _is_late(self, phone: str, at: datetime) -> bool:
        if at < self._newest.get(phone, at):
            return True
        self._newest[phone] = at
        self._newest.move_to_end(phone)
        while len(self._newest) > _MOST_USED_CODES:
            self._newest.popitem(last=False)
        return False

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_at - loop.time()))
        self._next_at = loop.time() + _SECONDS_BETWEEN_WRITES

    async def _write(self, phone: str, change: Change) -> None:
        change.new = [code for code in change.new if code not in self._used]

        def rewrite(comment: str) -> str:
            return with_progress(comment, change.applied_to(progress_in(comment)))

        for record in (await self._client.clients_of(phone))[:_MOST_CLIENTS]:
            # whatever Poster finds, the codes of one customer are shown with no other
            if (client_id := read_text(record, "client_id")) and _phone(record) == phone:
                # before the line is there: one that nobody knows of would stay for ever
                await self._index.add(_SHOWN, client_id)
                await self._rewrite(client_id, rewrite)

    async def _rewrite(self, client_id: str, rewrite: Callable[[str], str]) -> None:
        record = await self._client.client(client_id)
        if record is None or read_text(record, "client_id") != client_id:
            return
        comment = _comment(record)
        if comment is None:  # unreadable, so that nothing may be written over it
            log.warning("customer %s: the comment cannot be read, and is left as it is", client_id)
            return
        rewritten = rewrite(comment)
        if rewritten != comment:
            await self._client.write_comment(client_id, rewritten)

    async def leave(self) -> int:
        """Take every line away; return of how many customers."""
        async with self._turn:  # from here on nothing is written that nobody would take away
            self._left = True
        shown: Sequence[str] = await self._index.values(_SHOWN)
        slots = asyncio.Semaphore(_LEAVING_AT_ONCE)

        async def take_away(client_id: str) -> None:
            async with slots:
                await self._rewrite(client_id, lambda comment: with_progress(comment, None))

        # one that cannot be reached keeps no other
        results = await asyncio.gather(*(take_away(client_id) for client_id in shown), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(shown)


def _phone(record: JsonObject) -> str:
    return f"+{read_text(record, 'phone_number')}"


def _comment(record: JsonObject) -> str | None:
    """Return a comment as it stands there, `None` where it cannot be read.

    What `read_text` would strip is the cafe's own too.
    """
    match record.get("comment", 0):
        case str(comment):
            return comment
        case None:
            return ""
    return None
