"""How much one business, one connection or one hook address may use of a host that many share.

Owns the numbers and what each of them is called; counting is left to whoever owns what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas in force. What lies beyond one is refused or sent again, never dropped once it was accepted."""

    tills: int = 50
    """Connections of a business."""
    drafts: int = 20
    """Connections that a business has begun to make; beyond that the oldest goes."""
    captured: int = 20
    """Requests that are collected for a draft."""
    captured_bytes: int = 2 * MIB
    """Bytes of those in all, headers included, as they are stored."""
    unread: int = 2000
    """Requests of a connection that could not be read and wait for a person; beyond that the oldest go."""
    unread_bytes: int = 64 * MIB
    """Bytes of those in all."""
    hooks_a_minute: int = 600
    """Proven hooks of one address."""
    subscriptions: int = 20
    """Subscriptions of a business to events."""
    tokens: int = 20
    """API tokens of a business."""
    api_calls_a_minute: int = 600
    """Calls with one API token."""
    relayed: int = 100_000
    """Events that wait for one subscriber; beyond that the subscription is stopped."""
    events_a_minute: int = 6000
    """Proven events of 7stamp of one business: a campaign tells of every card at once."""
    hook_bytes_a_day: int = 256 * MIB
    """Bytes of all proven hooks of a business."""
