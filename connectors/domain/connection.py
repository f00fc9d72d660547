"""A connection: one cafe's till account joined to its 7stamp key, and how it is doing.

Owns the value and its states; changing them is `connectors.store.connections`'. Its secrets are encrypted, and left out
of its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from connector_sdk.connector import Location, TillAccount
from connector_sdk.hookspecs import ConnectionFacts
from connector_sdk.messages import Message
from connectors.domain.clock import MINUTE


class Health(StrEnum):
    """How a connection is doing; stored with since when, and why where there is a reason."""

    active = "active"
    """Everything works: so it begins, and so it is again after a resume, new secrets, or a read that went through."""
    paused = "paused"
    """A person stopped it: its till is not read and nothing is sent. Hooks are still taken. A person resumes it."""
    needs_authorisation = "needs_authorisation"
    """The till or 7stamp refuses its secrets, or the till's owner withdrew them. New secrets make it active."""
    failing = "failing"
    """Several reads in a row failed. It is read on with growing pauses, and the first that goes through ends this."""
    removed = "removed"
    """A person removed it. Final: its sales stay in the ledger, and a new connection to the account adopts them."""


# a till that fails today may answer with the next poll, and what is planned does not need the till at all
WORKING = (Health.active, Health.failing)
"""The states in which tills are read and operations sent."""


UNWELL = (Health.needs_authorisation, Health.failing)
"""The states that a recheck of till and key can end."""


class Stretch(NamedTuple):
    """A stretch of time, from `start` to just before `end` (UTC microseconds)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Business:
    """Whose cards they are, as 7stamp says; `country` and `currency` are ISO codes, `zone` an IANA name."""

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
    skipped: tuple[Stretch, ...] = ()
    """Stretches whose receipts earn nothing: pauses that a person left out."""
    former_hook_until: int | None = None
    """Until when the hook address from before the last renewal still takes hooks."""
    refused_at: int | None = None
    """When a hook came last whose proof did not hold."""
    grant: str | None = field(default=None, repr=False)
    """What the till's consent page granted, encrypted; `None` where a token was pasted, or none is needed."""
    renew_at: int | None = None
    """When the grant is renewed next; `None` where it does not end, or cannot be renewed (any more)."""
    renewing_until: int = 0
    """Until when somebody has the lease of its renewal; 0 where nobody has, and none was interrupted."""
    consent_trouble_at: int | None = None
    """From when on the cafe is told that the till's consent ends and is not renewed."""
    account_checked_at: int | None = None
    """When the till was asked last what its account is, and which locations it has."""
    left_out: tuple[str, ...] | None = None
    """Locations that a person left to nobody; `None` where nobody was asked yet."""
    read_key: str | None = None
    """The same for connections that read an account in the same way; `None` where it reads for itself alone."""
    subscribed: str | None = field(default=None, repr=False)
    """The hook address that the till was told by its API, and the key that it gave, encrypted; `None` for neither."""
    claim_consent: str | None = None
    """What customers agree to who claim receipts by themselves; `None` where nothing is asked."""

    @property
    def refuses(self) -> bool:
        """Whether hooks come and are refused, and none has been taken since.

        New secrets end that as well: what was refused with the old ones says nothing of them.
        """
        return self.refused_at is not None and self.refused_at > max(self.last_hook_at or 0, self.authorised_at)

    @property
    def receipt_prefix(self) -> str:
        """How 7stamp's references to receipts of this till begin; the receipt's number follows."""
        return f"{self.connector}:{self.account.id}:"

    def facts(self, location_id: str | None = None) -> ConnectionFacts:
        """Return what plugins may know of a connection; the zone is that of the location."""
        return ConnectionFacts(
            id=self.id,
            connector=self.connector,
            account=self.account.id,
            title=self.title,
            business_id=self.business_id,
            zone=self.zone_of(location_id),
            currency=self.account.currency,
        )

    def admits(self, closed_at: int) -> bool:
        """Say whether a receipt closed then (UTC microseconds) earns stamps without a backfill."""
        # A till that writes no seconds says when the minute began in which a receipt was closed. Its first receipts
        # would seem older than the connection, so a whole minute counts as its own last moment.
        latest = closed_at + MINUTE - 1 if closed_at % MINUTE == 0 else closed_at
        is_skipped = any(stretch.start <= closed_at < stretch.end for stretch in self.skipped)
        return latest >= self.began_at and not is_skipped

    def zone_of(self, location_id: str | None) -> str:
        """Return the time zone of a location, by which its hours and its business days go."""
        return self.account.zone_of(location_id)

    def consent_ends_unrenewed(self, now: int) -> bool:
        """Say whether the till's consent nears its end, by its own lifetime, or is not renewed as it should be."""
        return self.consent_trouble_at is not None and self.consent_trouble_at <= now

    def undecided_locations(self) -> tuple[Location, ...]:
        """Return the locations of the account that are neither this connection's nor left out by a person."""
        if not self.scope or self.left_out is None:
            return ()
        return tuple(
            location for location in self.account.locations if location.id not in {*self.scope, *self.left_out}
        )

    def covers(self, location_id: str | None) -> bool:
        """Say whether a receipt of that location is this connection's."""
        return not self.scope or location_id in self.scope


def share_location(scope: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Say whether two scopes within one till account share a location; an empty scope is all of them."""
    return not scope or not other or bool(set(scope) & set(other))


def describe_scope(scope: tuple[str, ...], locations: tuple[Location, ...]) -> str:
    """Return the names of a scope's locations, or "all locations" for an empty one."""
    names = {location.id: location.name for location in locations}
    return ", ".join(names.get(location_id, location_id) for location_id in scope) or "all locations"
