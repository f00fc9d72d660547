"""Posting to subscribers: one bounded call, and what came of it.

Owns the bounds: ten seconds for the whole call, 64 KiB of answer. No proxy, no redirect, no cookie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from connectors.domain.clock import SECOND
from connectors.relay.addresses import AddressPolicy, Refused

if TYPE_CHECKING:  # imported at the first post: most commands post nothing
    from connectors.relay.checked_connector import CheckedSession

_DEADLINE = 10.0
_MOST_ANSWER = 64 * 1024
_SHOWN_ANSWER = 1024
_RETRY_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Reply:
    """What a subscriber answered: `status`, or the name of what went wrong; `text` is the answer's first kilobyte."""

    status: int | None
    error: str | None
    text: str
    milliseconds: int
    retry_after: str | None = None

    @property
    def asked_pause(self) -> int:
        """The pause that it asks for, in microseconds; none where it says nothing that can be read."""
        text = (self.retry_after or "").strip()
        return int(text) * SECOND if text.isascii() and text.isdigit() and len(text) < _RETRY_DIGITS else 0


class SubscriberClient:
    """Posts to subscribers: ten seconds for the whole call, 64 KiB of answer, no redirect."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._session: CheckedSession | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.aclose()
            self._session = None

    async def post(self, url: str, body: bytes, headers: Sequence[tuple[str, str]]) -> Reply:
        """Post a body; whatever goes wrong is a reply, too."""
        loop, session = asyncio.get_running_loop(), self._open()
        began = loop.time()

        def reply(status: int | None, error: str | None, text: bytes = b"", retry: str | None = None) -> Reply:
            took = int((loop.time() - began) * 1000)
            return Reply(status, error, text[:_SHOWN_ANSWER].decode("utf-8", "replace"), took, retry)

        try:
            # before anything is sent: the operator may have forbidden since what was allowed when it was set
            self._policy.parse(url)
            async with asyncio.timeout(_DEADLINE):
                answer = await session.post(url, body, headers, _MOST_ANSWER)
        except Refused as refusal:
            return reply(None, f"the address {refusal}")
        except TimeoutError:
            return reply(None, f"no answer within {_DEADLINE:g} seconds")
        except Exception as error:  # noqa: BLE001 - a TLS library, a socket: whatever it is, it was not delivered
            return reply(None, session.reason_of(error))
        if answer.text is None:
            return reply(answer.status, f"the answer is longer than {_MOST_ANSWER // 1024} KiB")
        return reply(answer.status, None, answer.text, answer.retry_after)

    def _open(self) -> CheckedSession:
        if self._session is None:
            from connectors.relay.checked_connector import CheckedSession

            self._session = CheckedSession(self._policy)
        return self._session
