"""Whether 7stamp still accepts the keys that sessions and passkeys stand on, asked again while they are in use.

Owns that a refused key ends what stands on it; a key that somebody types is checked in `credentials`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.store import access
from connectors.store.access.security_log import EventKind
from connectors.store.engine import Transaction
from connectors.web.console.sign_in_limits import MAX_REMEMBERED

_PATIENCE = 5.0  # seconds; a page waits for this
ANSWER_LIFETIME = 15.0
"""For how many seconds an answer counts, also a missing one: a 7stamp that is down is not asked at each click."""


class KeyStatus(Enum):
    """What 7stamp says of a key."""

    accepted = "accepted"
    """7stamp knows the key."""
    refused = "refused"
    """7stamp knows it no more: its sessions and links have ended, and its passkeys open nothing."""
    unknown = "unknown"
    """7stamp was not reached, or not in time; it is asked again when `ANSWER_LIFETIME` is over."""


@dataclass(frozen=True, slots=True)
class _Recheck:
    """A question to 7stamp that is under way or answered, and when it was asked (monotonic seconds)."""

    asked_at: float
    answer: asyncio.Task[KeyStatus]


class KeyRechecks:
    """Asks 7stamp about keys, once for all requests that come meanwhile."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._rechecks: OrderedDict[str, _Recheck] = OrderedDict()

    async def recheck(self, key: str, key_hash: str, business_id: str | None) -> KeyStatus:
        """Return whether 7stamp accepts a key now; end what stands on it where 7stamp refuses it."""
        status = await self._status(key, key_hash)
        if status is KeyStatus.refused:
            await self._end_key(key_hash, business_id)
        return status

    async def _status(self, key: str, key_hash: str) -> KeyStatus:
        now = time.monotonic()
        recheck = self._rechecks.get(key_hash)
        if recheck is None or now - recheck.asked_at >= ANSWER_LIFETIME:
            recheck = _Recheck(now, asyncio.create_task(self._ask(key)))
            self._rechecks[key_hash] = recheck
            while len(self._rechecks) > MAX_REMEMBERED:
                self._rechecks.popitem(last=False)
        # shielded: a client that goes away must not cancel the question for the others that wait for its answer
        return await asyncio.shield(recheck.answer)

    async def _ask(self, key: str) -> KeyStatus:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._host.services.sevenstamp.with_key(key).me()
        except InvalidKey:
            return KeyStatus.refused
        except (SevenStampError, Refusal, TimeoutError):
            return KeyStatus.unknown
        return KeyStatus.accepted

    async def _end_key(self, key_hash: str, business_id: str | None) -> None:
        """End the sessions and links of a key, and let its passkeys open nothing."""

        def work(tx: Transaction) -> None:
            passkeys_ended = access.passkeys.end_of_key(tx, key_hash)
            sessions_ended = access.sessions.end_of_key(tx, key_hash)
            access.colleagues.end_invitations_of_key(tx, key_hash)
            # several requests may learn of it at once: the first of them ends something, and tells the log
            if passkeys_ended or sessions_ended:
                access.security_log.record(tx, EventKind.key_refused, business_id=business_id)

        await self._host.store.write(work)
