"""Consents: the states by which a browser is known that comes back from a till's own consent page.

Owns what a consent is asked for, and that its state is used once; the exchange of the till's code for settings is
`onboarding`'s.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from connector_sdk.authorisation import Consent
from connectors.services.context import ServiceContext
from connectors.store import access
from connectors.store.access.sessions import Session

_VERIFIER = "code_verifier"


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
    """A browser that came back; `target` is `None` where the state is not this session's.

    `code_verifier` is PKCE's, by which the till knows whoever asked for the consent.
    """

    outcome: ConsentOutcome
    target: ConsentTarget | None
    code_verifier: str = field(default="", repr=False)


class ConsentService:
    """Issue and redeem the states by which a browser is known when it comes back from a till."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    @property
    def redirect_uri(self) -> str:
        """The address to which every till sends its cafes back; what is registered at a till is this, to the letter."""
        return f"{self._context.public_url()}/connect/return"

    async def begin(self, session: Session, target: ConsentTarget) -> Consent:
        """Return what to ask a till for: its state brings this session, and no other, back once within ten minutes."""
        verifier = secrets.token_urlsafe(48)  # 64 characters of those that RFC 7636 allows
        content = {**target.stored(), _VERIFIER: verifier}
        state = await self._context.write(lambda tx: access.sessions.ask_consent(tx, session, content))
        return Consent(self.redirect_uri, state, code_challenge_of(verifier))

    async def finish(self, session: Session, state: str) -> ConsentReturn:
        """Redeem a state: whatever comes of it, it is not good a second time."""
        # one transaction: of two returns with one state, one is good and the other is used
        outcome, content = await self._context.write(lambda tx: access.sessions.use_consent(tx, session, state))
        target = ConsentTarget.from_stored(content) if content else None
        return ConsentReturn(ConsentOutcome(outcome), target, content.get(_VERIFIER, ""))


def code_challenge_of(verifier: str) -> str:
    """Return PKCE's challenge of a verifier, by the method S256 (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
