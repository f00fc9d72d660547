"""Webhooks of 7stamp: proven, written down, and only then answered; nothing here calls another system.

Owns whose a webhook is, its proof, its quotas and its answer; what an event does is `loyalty_effects`'.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence

from connector_sdk.errors import Forged
from connector_sdk.hooks import Answer, HookRequest
from connector_sdk.messages import Message
from connector_sdk.signatures import StandardWebhooks
from connectors.domain.clock import moment
from connectors.sevenstamp.events import UnreadableEvent, read_event
from connectors.store import connections, counters, inbox
from connectors.store.access.security_log import EventKind, NewEvent
from connectors.store.connections.loyalty_sources import LoyaltySource
from connectors.store.engine import Store, Transaction
from connectors.store.inbox import loyalty_events
from connectors.sync.hook_rates import HookRates
from connectors.sync.sampled_events import SampledEvents

log = logging.getLogger(__name__)

UNREADABLE = "events of 7stamp that could not be read"
"""The counter of proven bodies that are no event."""

_EVENT_ID = re.compile(r"[!-~]{1,255}")
_TAKEN = Answer(200, b'{"status":"taken"}')


class LoyaltyReceiver:
    """Takes the webhooks of 7stamp."""

    def __init__(self, store: Store, events: SampledEvents) -> None:
        self._store = store
        self._events = events
        self._rates = HookRates(store.quotas, store.clock.now, store.quotas.events_a_minute)

    async def take(self, token: str, hook: HookRequest) -> Answer:
        """Prove a webhook, write down what it says, and answer it. The same event again changes nothing."""
        source = await self._store.read(lambda tx: connections.loyalty_sources.by_token(tx, token))
        if source is None:
            return _refusal(404, "no such address")
        # before the proof, which costs more than this
        if wait := self._rates.wait(source.business_id, source.business_id):
            message = Message("security.quota_met.events")
            self._events.count(NewEvent(EventKind.quota_met, message, source.business_id))
            return _refusal(429, "more than may be sent here in so short a time: send it again later", wait)
        try:
            event_id = _prove(source, hook)
        except Forged as error:
            log.warning("business %s: an event was refused: %s", source.business_id, error)
            message = Message("security.forged_event")
            self._events.count(NewEvent(EventKind.forged_hook, message, source.business_id))
            return _refusal(401, "the signature does not hold")
        self._rates.count(source.business_id, len(hook.body), source.business_id)
        await self._store.gather(_keep, self._read(source, event_id, hook.body))
        return _TAKEN

    def _read(self, source: LoyaltySource, event_id: str, body: bytes) -> loyalty_events.NewEvent:
        """Read a proven body; one that is no event is kept as it came: sent again it would be as unreadable."""
        now = moment(self._store.clock.now())
        try:
            event = read_event(body, event_id, now)
        except UnreadableEvent as error:
            log.warning("business %s: an event could not be read and is kept: %s", source.business_id, error)
            return loyalty_events.NewEvent(source.business_id, event_id, None, body)
        return loyalty_events.NewEvent(source.business_id, event_id, event, body)


def _prove(source: LoyaltySource, hook: HookRequest) -> str:
    """Verify a webhook by one of the secrets that its source has, and return its id. Raises `Forged`."""
    event_id = hook.headers.get("webhook-id", "")
    if not _EVENT_ID.fullmatch(event_id):
        raise Forged("it has no id")
    failure = Forged("the signature does not match")
    # all secrets are tried, whichever fits: how long it takes does not say which one did
    proven = False
    for secret in source.secrets:
        try:
            StandardWebhooks(secret).verify(hook.body, hook.headers)
            proven = True
        except Forged as error:
            failure = error
    if not proven:
        raise failure
    return event_id


def _keep(tx: Transaction, events: Sequence[loyalty_events.NewEvent]) -> list[bool]:
    """Store the events of many webhooks in one transaction."""
    # a campaign tells of thousands of cards by the second: those that wait for the writer at once share its commit
    connections.loyalty_sources.record_event(tx, {event.business_id for event in events})
    unreadable = sum(event.event is None for event in events)
    if unreadable:
        counters.raise_counter(tx, UNREADABLE, unreadable)
    are_new = inbox.loyalty_events.keep(tx, events)
    inbox.card_totals.count(tx, [new for new, is_new in zip(events, are_new, strict=True) if is_new])
    return are_new


def _refusal(status: int, why: str, retry_after: int | None = None) -> Answer:
    return Answer(status, json.dumps({"error": why}).encode(), retry_after=retry_after)
