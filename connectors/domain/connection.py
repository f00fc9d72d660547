"""A connection: one cafe's till account joined to its 7stamp key, and how it is doing.

Owns the value and its states; secrets are only ever in `Secrets`, never in a connection's text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from connector_sdk.connector import Location, TillAccount
from connector_sdk.hookspecs import ConnectionFacts
from connector_sdk.messages import Message
from connectors.domain.clock import MINUTE


class Health(StrEnum):
    active = "active"
    paused = "paused"
    needs_authorisation = "needs_authorisation"
    failing = "failing"
    removed = "removed"


WORKING = (Health.active, Health.failing)
"""The states in which tills are read and operations sent."""


@dataclass(frozen=True, slots=True)
class Business:
    """Whose cards they are, as 7stamp says; `allowed` operations a month, `None` for no limit."""

    id: str
    name: str
    country: str
    currency: str
    zone: str
    language: str = "en"


@dataclass(frozen=True, slots=True)
class Connection:
    """One row of the connection table; times are UTC microseconds. `scope` are location ids, empty for all."""

    id: str
    connector: str
    account: TillAccount
    business_id: str
    title: str
    scope: tuple[str, ...]
    health: Health
    health_since: int
    authorised_at: int
    reason: Message | None
    began_at: int
    poll_seconds: int | None
    next_poll_at: int
    next_lookback_at: int
    checkpoint_at: int | None
    last_poll_at: int | None
    last_lookback_at: int | None
    last_hook_at: int | None
    key_hash: str
    failures: int
    generation: int
    settings: str = field(repr=False)
    sevenstamp_key: str = field(repr=False)
    hook_token: str = field(repr=False)
    key_login: str | None = None
    expires_at: int | None = None
    skipped: tuple[tuple[int, int], ...] = ()
    """Stretches of time (from, to) whose receipts earn nothing: pauses that a person left out."""
    former_hook_until: int | None = None
    """Until when the hook address from before the last renewal still takes hooks."""
    refused_at: int | None = None
    """When a hook came last whose proof did not hold."""

    @property
    def refuses(self) -> bool:
        """Whether hooks come and are refused, and none has been taken since."""
        return self.refused_at is not None and self.refused_at > max(self.last_hook_at or 0, self.authorised_at)

    def facts(self) -> ConnectionFacts:
        """What plugins are told."""
        return ConnectionFacts(
            id=self.id,
            connector=self.connector,
            account=self.account.id,
            title=self.title,
            business_id=self.business_id,
            zone=self.account.zone,
            currency=self.account.currency,
        )

    def admits(self, closed_at: int) -> bool:
        """Whether a receipt closed then earns stamps without a backfill."""
        # a till that writes no seconds says when the minute began in which it was closed
        latest = closed_at + MINUTE - 1 if closed_at % MINUTE == 0 else closed_at
        return latest >= self.began_at and not any(start <= closed_at < end for start, end in self.skipped)

    def covers(self, location_id: str | None) -> bool:
        """Whether a receipt of that location is this connection's."""
        return not self.scope or location_id in self.scope


def overlap(ours: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """Whether two scopes within one till account share a location; an empty scope is all of them."""
    return not ours or not theirs or bool(set(ours) & set(theirs))


def named(scope: tuple[str, ...], locations: tuple[Location, ...]) -> str:
    """A scope in words."""
    names = {location.id: location.name for location in locations}
    return ", ".join(names.get(location, location) for location in scope) or "all locations"
