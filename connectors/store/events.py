"""An event's text in the clear: what a search for a person looks through.

Owns the value alone; the tables that have such texts are `inbox.loyalty_events`' and `relay.deliveries`'.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EventText:
    """An event's content as text in the clear, with the card that it is about, if any."""

    seq: int
    card_id: str | None
    text: str = field(repr=False)
