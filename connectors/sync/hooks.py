"""What tills post to us: verified, kept, and only then answered; nothing here calls another system.

Owns what each kind of hook leaves behind; HTTP itself is `connectors.web`'s.
"""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, Forged, NotConfigured, NotSupported
from connector_sdk.hooks import Account, AccountChanged, Answer, Hints, HookRequest, Ignored, Received, Sales
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.clock import DAY, HOUR, MINUTE, SECOND, micros
from connectors.domain.connection import WORKING, Connection, Health
from connectors.isolation import (
    CallFailed,
    ConnectorCrashed,
    ConnectorSuspended,
    LimitExceeded,
    PluginRunner,
    UnreadableHook,
)
from connectors.store import connections, counters, inbox, ledger
from connectors.store.access.security_log import EventKind, NewEvent
from connectors.store.connections.registry import ConnectionChange
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.hints import NewHint
from connectors.store.inbox.unreadable import Origin, UnreadEntry
from connectors.sync import health, lifecycle
from connectors.sync.forgotten import names_forgotten
from connectors.sync.hook_rates import HookRates
from connectors.sync.ingest import Ingestor
from connectors.sync.sampled_events import SampledEvents
from connectors.sync.snapshots import Outcome, Snapshot, Source
from connectors.sync.tills import NoConnector, Tills, app_settings, wrong_fields

log = logging.getLogger(__name__)

_SAMPLE_EVERY = 60 * SECOND
_REFUSED_EVERY = 600 * SECOND
_AT_ONCE = 20
_SEND_AGAIN = 60
_MOST_SAID = 10_000
_TOO_MUCH = "more than may be sent here in so short a time: send it again later"
_NEWS_LIVES = 2 * DAY + HOUR  # Poster, the most patient of them, sends a hook again for two days
_CLOCKS_DIFFER = 5 * MINUTE


@dataclass(slots=True)
class Again:
    """What came of trying again: receipts `read`, requests or receipts `still` not, and those `asked` of the till."""

    read: int = 0
    still: int = 0
    asked: int = 0

    def add(self, other: Again) -> None:
        self.read += other.read
        self.still += other.still
        self.asked += other.asked


UNKNOWN_ACCOUNT = "hooks for accounts we do not have"


class HookReceiver:
    """Takes hooks for connectors and connections."""

    def __init__(
        self, store: Store, tills: Tills, ingestor: Ingestor, runner: PluginRunner, events: SampledEvents
    ) -> None:
        self._store = store
        self._tills = tills
        self._ingestor = ingestor
        self._runner = runner
        self._events = events
        self._said_at: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._rates = HookRates(store.quotas, store.clock.now)
        self._apps = {name: app_settings(found) for name, found in tills.classes.items()}

    async def for_connector(self, name: str, hook: HookRequest) -> Answer:
        """A hook at the one address of all of a connector's accounts."""
        found = self._tills.classes.get(name)
        if found is None:
            return _refusal(404, "no such connector")
        try:
            whose = await self._runner.route(found, self._apps[name], hook)
        except (Forged, NotConfigured, BadPayload, NotSupported) as error:
            self._count_unproven(name, error)
            return _unproven(error)
        except CallFailed as error:
            return _later(name, error)
        if isinstance(whose, Answer):
            return whose
        return await self._for_account(found, whose, hook)

    async def _for_account(self, found: type[Connector[Any]], whose: Account, hook: HookRequest) -> Answer:
        name = found.info.name
        joined = await self._store.read(lambda tx: connections.registry.of_account(tx, name, whose.id))
        if not joined:
            await self._store.write(lambda tx: counters.raise_counter(tx, UNKNOWN_ACCOUNT))
            return found.hook_answer
        answers: list[tuple[Connection, Answer]] = []
        counted: set[str] = set()
        for one in joined:  # a business that has several connections of the account is sent a hook once
            answers.append((one, await self._take(one, hook, own=False, counts=one.business_id not in counted)))
            counted.add(one.business_id)
        # one that works and could not take it has the till send again; the others have seen it then
        working = [answer for one, answer in answers if one.health in WORKING] or [answer for _, answer in answers]
        return next((answer for answer in working if answer.status >= 300), working[0])

    async def for_connection(self, name: str, token: str, hook: HookRequest) -> Answer:
        """A hook at a connection's own address."""
        one = await self._store.read(lambda tx: connections.registry.by_hook_token(tx, name, token))
        if one is None:
            return await self._for_draft(name, token, hook)
        if hook.method in ("GET", "HEAD"):
            return self._tills.of(one).hook_answer
        return await self._take(one, hook)

    async def _for_draft(self, name: str, token: str, hook: HookRequest) -> Answer:
        """A request to the address of a till that is not connected yet: it is collected, and nothing comes of it."""
        found = self._tills.classes.get(name)
        if found is None or found.teaching is None:
            return _refusal(404, "no such address")
        collects = bool(hook.body.strip()) and hook.method == "POST"

        def work(tx: Transaction) -> Connection | str | None:
            # it may have been connected since we looked: then this is a sale like any other
            one, draft = (
                connections.registry.by_hook_token(tx, name, token),
                connections.drafts.of_hook_token(tx, name, token),
            )
            if one is None and draft is not None and collects:
                inbox.captured.keep(tx, f"{inbox.captured.OF_DRAFT}{draft}", hook)
            return one or draft

        # most that come here are nobody's: they must not wait for the writer, nor the writer for them
        listening = await self._store.read(lambda tx: connections.drafts.of_hook_token(tx, name, token))
        if listening is not None and (wait := self._rates.wait(f"{inbox.captured.OF_DRAFT}{listening}")):
            return _refusal(429, _TOO_MUCH, wait)
        if listening is None:
            late = await self._store.read(lambda tx: connections.registry.by_hook_token(tx, name, token))
            return await self._take(late, hook) if late is not None else _refusal(404, "no such address")
        whose = await self._store.write(work)
        if isinstance(whose, str) and collects:
            self._rates.count(f"{inbox.captured.OF_DRAFT}{whose}", len(hook.body))
        if isinstance(whose, Connection):
            return await self._take(whose, hook)
        return found.hook_answer if whose is not None else _refusal(404, "no such address")

    async def _take(self, one: Connection, hook: HookRequest, *, own: bool = True, counts: bool = True) -> Answer:
        """Keep what a hook says to one connection. A proof that holds and a body that does not: kept, and accepted.

        Whoever knows its `own` address may be its till with another secret: what is refused there is told to the cafe.
        """
        if wait := self._rates.wait(one.id, one.business_id):
            return await self._beyond(one, wait)
        try:
            till = self._tills.of(one)
            received = await self._runner.receive(till, _state(one), hook, tenant=one.business_id)
        except (Forged, NotConfigured, NotSupported, NoConnector, BadPayload) as error:
            known = one.refused_at is not None and one.refused_at > self._store.clock.now() - _REFUSED_EVERY
            if isinstance(error, Forged) and own and not known:
                await self._store.write(lambda tx: connections.registry.record_refused_hook(tx, one.id))
            self._count_unproven(one.connector, error, one)
            return _unproven(error)
        except ValidationError as error:
            log.error("connection %s: its settings do not fit its connector: %s", one.id, wrong_fields(error))
            return _refusal(503, "not set up yet: send it again later")
        except CallFailed as error:
            if isinstance(error, LimitExceeded):
                await self._say_hourly(one, Message("hook.cut_off"))
            return _later(one.connector, error)
        self._rates.count(one.id, len(hook.body) if counts else 0, one.business_id)
        if isinstance(received, UnreadableHook):
            _log_raised(one, received)
            await self._keep(one, hook, received.reason)
            return till.hook_answer
        if isinstance(received, AccountChanged) and (wrong := self._unfit(one, received)):
            await self._keep(one, hook, BadPayload("settings", wrong))
            return till.hook_answer
        await self._apply(one, received, hook)
        return till.hook_answer

    async def _beyond(self, connection: Connection, wait: int) -> Answer:
        """Have the till send again later what is beyond a quota; its cafe and the operator are told."""
        message = Message("security.quota_met.hooks")
        self._events.count(NewEvent(EventKind.quota_met, message, connection.business_id, connection.id))
        await self._say_hourly(connection, Message("hook.too_many"))
        return _refusal(429, _TOO_MUCH, wait)

    async def _say_hourly(self, connection: Connection, message: Message) -> None:
        """Write a line about a connection, unless the same was written within the hour."""
        if self._is_first_in_an_hour(connection.id, message.id):
            await self._store.write(lambda tx: ledger.journal.write(tx, connection.id, message))

    def _is_first_in_an_hour(self, whose: str, what: str) -> bool:
        now = self._store.clock.now()
        if now < self._said_at.get((whose, what), 0) + HOUR:
            return False
        self._said_at[whose, what] = now
        self._said_at.move_to_end((whose, what))
        if len(self._said_at) > _MOST_SAID:
            self._said_at.popitem(last=False)
        return True

    async def _keep(self, one: Connection, hook: HookRequest, error: BadPayload) -> None:
        def work(tx: Transaction) -> None:
            if inbox.unreadable.keep(tx, one.id, None, hook.body, error, Origin.hook):
                ledger.journal.write(tx, one.id, Message("hook.unreadable", {"where": error.where, "why": error.said}))
            connections.schedule.record_hooks(tx, [one.id])

        await self._store.write(work)

    async def _apply(self, one: Connection, received: Received, hook: HookRequest) -> None:
        match received:
            case Hints(found):
                await self._store.gather(_leave, [NewHint(one.id, hint.receipt_id, hint.closed) for hint in found])
            case Sales(sales, unreadable):
                at = self._store.clock.now()
                fetches = self._tills.classes[one.connector].can("fetch")
                before = await self._kept_before(one, sales if not fetches else (), hook.body)
                # what cannot be read of it now is read again later, in the order in which it came
                usual = at if unreadable else None
                await self._ingestor.ingest(
                    [
                        Snapshot(one, sale, Source.push, None, fetches, before.get(sale.receipt_id, usual))
                        for sale in sales
                    ]
                )
                await self._ingestor.keep(one, unreadable, Origin.hook, hook=hook.body, at=at)
                await self._store.write(lambda tx: self._arrived(tx, one, hook, sales))
            case AccountChanged():
                await self._store.write(lambda tx: self._account_changed(tx, one, received))
            case Ignored(why):
                log.debug("connection %s: a hook %s is ignored", one.id, why)

    async def _kept_before(self, one: Connection, sales: Sequence[Sale], body: bytes) -> Mapping[str, int]:
        """When this very body first came, where it was kept unread then: sent again, it is no younger for that."""
        if not sales:
            return {}
        return await self._store.read(lambda tx: inbox.unreadable.first_arrivals(tx, one.id, sales, body))

    def _arrived(self, tx: Transaction, one: Connection, hook: HookRequest, sales: Sequence[Sale]) -> None:
        """Sales arrived; now and then one is kept as the sample on which changed settings are tried."""
        connections.schedule.record_hooks(tx, [one.id])
        if not sales or self._tills.classes[one.connector].teaching is None:
            return
        if inbox.captured.newest_at(tx, one.id) < tx.now - _SAMPLE_EVERY and not names_forgotten(tx, one, sales):
            inbox.captured.keep(tx, one.id, hook, most=1)

    def _count_unproven(self, connector: str, error: Exception, connection: Connection | None = None) -> None:
        """Count a hook that nobody proves, of a connection or of all accounts of a connector; log one of an hour."""
        if not isinstance(error, Forged | NotConfigured):
            return
        sort = re.sub(r"[0-9]+", "0", str(error)[:100])  # however many seconds a clock is off
        if self._is_first_in_an_hour(connection.id if connection else connector, sort):
            log.warning("%s: a hook was refused: %s", connection.id if connection else connector, error)
        name = "security.forged_hook" if isinstance(error, Forged) else "security.unverified_hook"
        message = Message(name, {"connector": connector})
        business_id, connection_id = (connection.business_id, connection.id) if connection else (None, None)
        self._events.count(NewEvent(EventKind.forged_hook, message, business_id, connection_id))

    # --- what could not be read ---------------------------------------------------------------------------------

    async def try_again(self, one: Connection, ids: Sequence[str]) -> Again:
        """Read what was kept as the connection is now, in the order of arrival; what is understood is kept no longer.

        Raises `NoConnector`.
        """
        till, again, done = self._tills.of(one), Again(), set[str]()
        for start in range(0, len(ids), _AT_ONCE):
            some = [name for name in ids[start : start + _AT_ONCE] if name not in done]
            if not some:
                continue
            found = await self._store.read(lambda tx, some=some: inbox.unreadable.with_bodies(tx, one.id, some))  # type: ignore[misc]
            whole: dict[bytes, list[UnreadEntry]] = {}
            done.update(kept.id for kept in found)
            for kept in found:
                # what only sends kept whole hooks, whatever an older version called them
                asks = till.can("fetch") or till.can("poll")
                if kept.origin is Origin.hook or (kept.origin is Origin.read and not asks):
                    whole.setdefault(kept.body, []).append(kept)
                else:
                    again.add(await self._read_kept(one, till, kept))
            for body, rows in whole.items():
                again.add(await self._read_hook(one, till, body, rows))
        return again

    async def _read_hook(self, one: Connection, till: Connector[Any], body: bytes, rows: list[UnreadEntry]) -> Again:
        """One hook once more, of which these receipts could not be read; it arrived when it did."""
        at, ids = min(row.at for row in rows), [row.id for row in rows]
        hook = HookRequest("POST", {}, {}, body)
        wrong: list[tuple[str | None, BadPayload]] = []
        taken, aside = 1, 0
        try:
            received = await self._runner.receive(till, _state(one), hook, tenant=one.business_id, proven=True)
            if isinstance(received, UnreadableHook):
                _log_raised(one, received)
                wrong = [(None, received.reason)]
            elif isinstance(received, Sales):
                arrivals = [Snapshot(one, sale, Source.push, None, till.can("fetch"), at) for sale in received.sales]
                outcomes = await self._ingestor.ingest(arrivals)
                aside = outcomes.count(Outcome.kept)
                taken = len(arrivals) - aside
                wrong = [(bad.receipt_id, bad.reason) for bad in received.unreadable]
            elif isinstance(received, AccountChanged):
                if at > one.authorised_at:  # else it is old news of an account that was joined anew since
                    if unfit := self._unfit(one, received):
                        wrong = [(None, BadPayload("settings", unfit))]
                    else:
                        await self._apply(one, received, hook)
            else:
                await self._apply(one, received, hook)
        except CallFailed:  # nothing is known that was not known before
            return Again(0, len(rows))
        if None in (receipt for receipt, _ in wrong):
            taken = 0
        elif all(row.receipt_id is not None for row in rows):  # the others of the request were read when it came
            taken = max(0, len(rows) - len(wrong) - aside)

        def work(tx: Transaction) -> int:
            if not inbox.unreadable.replace_after_retry(tx, one.id, body, ids, wrong, at):
                return 0  # somebody pressed the same button, and has told of it
            if taken:
                ledger.journal.write(tx, one.id, Message("hook.read_again", {"count": taken}))
            return taken

        return Again(await self._store.write(work), len(wrong) + aside)

    async def _read_kept(self, one: Connection, till: Connector[Any], kept: UnreadEntry) -> Again:
        """One receipt once more: asked of the till where it can be, or taken in as it was read."""
        receipt = kept.receipt_id
        if receipt is not None and till.can("fetch"):

            def work(tx: Transaction) -> None:
                inbox.hints.leave(tx, [NewHint(one.id, receipt, closed=False)])
                inbox.unreadable.remove(tx, one.id, [kept.id])

            await self._store.write(work)
            return Again(asked=1)
        if kept.origin is Origin.read:  # it is read again with the days that it is in
            await self._store.write(lambda tx: connections.schedule.read_back_now(tx, one.id))
            return Again(asked=1)
        try:
            sale = Sale.model_validate_json(kept.body)
        except ValidationError:
            return Again(still=1)
        (outcome,) = await self._ingestor.ingest([Snapshot(one, sale, Source.push, None, False, kept.at)])
        if outcome is Outcome.kept:
            return Again(still=1)
        await self._store.write(lambda tx: inbox.unreadable.remove(tx, one.id, [kept.id]))
        return Again(1)

    def _account_changed(self, tx: Transaction, one: Connection, change: AccountChanged) -> None:
        if change.recheck:
            connections.schedule.poll_now(tx, one.id)
        # tills send again for days: old news (said in whole seconds) says nothing of a newer token
        said_at = micros(change.at) if change.at is not None else tx.now
        if said_at + SECOND <= one.authorised_at:
            return
        if not change.authorised:
            health.report_unwell(tx, one, Health.needs_authorisation, Message("why.application_removed"))
        elif change.settings and tx.now - _NEWS_LIVES <= said_at <= tx.now + _CLOCKS_DIFFER:
            lifecycle.edit(tx, one.id, ConnectionChange(settings=self._merged(one, change)))
        elif change.settings:
            log.warning("connection %s: a hook with settings of another time is not believed", one.id)

    def _merged(self, one: Connection, change: AccountChanged) -> dict[str, Any]:
        kept: dict[str, Any] = json.loads(self._store.vault.decrypt(one.settings))
        return kept | {name: secret.get_secret_value() for name, secret in change.settings.items()}

    def _unfit(self, one: Connection, change: AccountChanged) -> str | None:
        """What is wrong with the settings that a hook brought; they must not replace good ones."""
        try:
            self._tills.classes[one.connector].settings_model.model_validate(self._merged(one, change))
        except ValidationError as error:
            return wrong_fields(error)
        return None


def _state(one: Connection) -> str:
    """Name a connection's settings as they are now."""
    return f"{one.id} {one.generation}"


def _log_raised(one: Connection, unread: UnreadableHook) -> None:
    """Log where a connector stumbled over a hook, if it did."""
    if unread.raised:
        log.error("connection %s: the connector %s raised %s", one.id, one.connector, unread.raised)


def _leave(tx: Transaction, batches: Sequence[Sequence[NewHint]]) -> list[None]:
    new = [hint for batch in batches for hint in batch]
    inbox.hints.leave(tx, new)
    connections.schedule.record_hooks(tx, [hint.connection_id for hint in new])
    return [None] * len(batches)


def _unproven(error: Exception) -> Answer:
    match error:
        case Forged():
            return _refusal(401, "the signature does not hold")
        case NotConfigured():
            return _refusal(503, "not set up yet: send it again later")
        case BadPayload(where=where, why=why):
            return _refusal(400, f"{where}: {why}")
    return _refusal(404, "nothing is taken here")


def _later(name: str, error: CallFailed) -> Answer:
    """Ask the till to send a hook again, which the connector's own code could not read now."""
    match error:
        case ConnectorSuspended(seconds=seconds):
            return _refusal(503, "this connector is set aside for a while: send it again later", seconds)
        case ConnectorCrashed(error=raised, traceback=where):
            log.error("%s: the connector raised %s\n%s", name, raised, where)
    return _refusal(503, "it could not be read now: send it again later", _SEND_AGAIN)


def _refusal(status: int, why: str, retry_after: int | None = None) -> Answer:
    body: Mapping[str, str] = {"error": why}
    return Answer(status, json.dumps(body).encode(), retry_after=retry_after)
