"""The relay's values: which events there are to subscribe to, in which form, and how long a failing endpoint is tried.

Owns names and pauses, as pure values; recording and delivering are `connectors.relay`'s.
"""

from __future__ import annotations

from enum import StrEnum

from connectors.domain.clock import DAY, SECOND

OWN_EVENTS = (
    "sale.ingested",
    "operation.applied",
    "operation.held",
    "operation.rejected",
    "connection.health_changed",
    "reconciliation.differs",
)
"""The events that are ours; those of 7stamp have its own names."""
TEST_EVENT = "test"
"""What `send a test` sends: nobody subscribes to it."""

LONGEST_OUTAGE = 3 * DAY
"""So long an endpoint may fail before it is disabled, and an event before it is given up."""
SECRET_LIVES = DAY
"""So long deliveries are signed with a renewed subscription's former secret as well."""

_PAUSES = (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600)


class Shape(StrEnum):
    """How a body looks."""

    standard = "standard"
    """Our documented JSON."""
    slack = "slack"
    """`{"text": …}`: one sentence, for an incoming webhook of a chat."""


class SubscriptionState(StrEnum):
    """Whether events go to a subscription."""

    active = "active"
    """Events are recorded and delivered."""
    disabled = "disabled"
    """A person stopped it, or it failed too long, or answered 410: nothing is recorded, what waits is kept."""


class DeliveryState(StrEnum):
    """How a delivery stands."""

    pending = "pending"
    """To be sent, or sent again: it ends with an answer of success, after three days of failures, or by a person."""
    delivered = "delivered"
    """The subscriber has taken it."""
    filtered = "filtered"
    """The subscription's filter left it out: it was never sent."""
    failed = "failed"
    """Three days of failures, and given up; a replay makes another delivery of the same event."""


def retry_pause(failures: int) -> int:
    """Return the pause after so many failures in a row, in microseconds; whoever waits adds a spread."""
    return _PAUSES[min(max(failures, 1), len(_PAUSES)) - 1] * SECOND
