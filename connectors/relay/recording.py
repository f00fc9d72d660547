"""Recording: writes events for subscribers in the transaction that causes them, so that none is lost or made up.

Owns who is told of what; sending is `delivering`'s, and so is a subscription's filter: nothing here computes.
"""

from __future__ import annotations

from connector_sdk.messages import Message
from connectors.relay.bodies import business_of, name_of, new_event
from connectors.store import relay
from connectors.store.engine import Transaction
from connectors.store.relay.subscriptions import Interest


def record(tx: Transaction) -> None:
    """Record the events of a transaction that some active subscription asks for; called before it commits."""
    if not tx.events:
        return
    interests = relay.subscriptions.interests(tx, {business_of(event) for event in tx.events})
    if not interests:
        return  # most businesses have no subscription: that costs them one query
    by_name: dict[tuple[str, str], list[Interest]] = {}
    for interest in interests:
        for name in interest.events:
            by_name.setdefault((interest.business_id, name), []).append(interest)
    events, subscribers = [], {}
    full: set[str] = set()
    added: dict[str, int] = {}
    for event in tx.events:
        wanting = by_name.get((business_of(event), name_of(event)), [])
        full |= {i.subscription_id for i in wanting if i.pending + added.get(i.subscription_id, 0) >= tx.quotas.relayed}
        ids = [interest.subscription_id for interest in wanting if interest.subscription_id not in full]
        if ids:
            recorded = new_event(event, tx.now)
            events.append(recorded)
            subscribers[recorded.id] = ids
            added |= {subscription_id: added.get(subscription_id, 0) + 1 for subscription_id in ids}
    relay.deliveries.record(tx, events, subscribers)
    for subscription_id in sorted(full):
        relay.subscriptions.disable(tx, subscription_id, Message("relay.full", {"most": tx.quotas.relayed}))
