"""Consents: the states by which a browser is known that comes back from a till's own consent page.

Owns what a consent is asked for, and that its state is used once; the exchange of the till's code for settings is
`onboarding`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from connectors.services.context import ServiceContext
from connectors.store import access
from connectors.store.access.sessions import Session


@dataclass(frozen=True, slots=True)
class ConsentTarget:
    """The purpose of a consent: a connector, and the id of the draft or the connection it is for."""

    connector: str
    draft: str | None = None
    connection: str | None = None

    def stored(self) -> dict[str, str]:
        """Return the stored JSON object; keys without a value are left out."""
        content = {"connector": self.connector, "draft": self.draft, "connection": self.connection}
        return {name: value for name, value in content.items() if value is not None}

    @classmethod
    def from_stored(cls, content: Mapping[str, str]) -> ConsentTarget:
        """Rebuild a target from its stored JSON object."""
        return cls(content["connector"], content.get("draft"), content.get("connection"))


class ConsentOutcome(StrEnum):
    """How a browser came back from a till's consent page."""

    good = "good"
    """With the state of this session, in time and for the first time."""
    used = "used"
    """With a state that has brought somebody back already."""
    stale = "stale"
    """With the state of this session, too late."""
    forged = "forged"
    """With no state, or with one of another session."""


@dataclass(frozen=True, slots=True)
class ConsentReturn:
    """A browser that came back; `target` is `None` where the state is not this session's."""

    outcome: ConsentOutcome
    target: ConsentTarget | None


class ConsentService:
    """Issue and redeem the states by which a browser is known when it comes back from a till."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def begin(self, session: Session, target: ConsentTarget) -> str:
        """Return a state that brings this session, and no other, back once within ten minutes."""
        return await self._context.write(lambda tx: access.sessions.ask_consent(tx, session, target.stored()))

    async def finish(self, session: Session, state: str) -> ConsentReturn:
        """Redeem a state: whatever comes of it, it is not good a second time."""
        # one transaction: of two returns with one state, one is good and the other is used
        outcome, content = await self._context.write(lambda tx: access.sessions.use_consent(tx, session, state))
        return ConsentReturn(ConsentOutcome(outcome), ConsentTarget.from_stored(content) if content else None)
