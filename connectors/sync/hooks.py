"""Hooks: what tills post to us, proven, written down, and only then answered; nothing here calls another system.

Owns whose a hook is, its proof, its quotas and its answer. HTTP itself is `connectors.web`'s, and what a hook leaves
behind is `hook_effects`'.
"""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ValidationError

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, Forged, NotConfigured, NotSupported
from connector_sdk.hooks import Account, Answer, HookRequest
from connector_sdk.messages import Message
from connectors.domain.clock import HOUR, SECOND
from connectors.domain.connection import WORKING, Connection
from connectors.isolation import CallFailed, ConnectorCrashed, ConnectorSuspended, LimitExceeded, PluginRunner
from connectors.store import connections, counters, inbox, ledger
from connectors.store.access.security_log import EventKind, NewEvent
from connectors.store.connections.registry import AccountKey
from connectors.store.engine import Store, Transaction
from connectors.sync.field_errors import describe_field_errors
from connectors.sync.hook_effects import HookEffects, settings_key
from connectors.sync.hook_rates import HookRates
from connectors.sync.ingest import Ingestor
from connectors.sync.operator_settings import app_settings
from connectors.sync.sampled_events import SampledEvents
from connectors.sync.tills import NoConnector, Tills
from connectors.sync.unread_retries import UnreadRetrier

log = logging.getLogger(__name__)

REFUSED_HOOKS = "hooks refused at the address of "
"""The name of counters that hold when hooks at the one address of a connector were refused last, before its name."""
UNKNOWN_ACCOUNT = "hooks for accounts we do not have"
"""The counter of hooks whose account nobody connected."""

_RECORD_REFUSED_EVERY = 600 * SECOND
_SEND_AGAIN = 60
"""Seconds after which a till is to send a hook again that could not be read now."""
_MOST_REMEMBERED = 10_000
_BEYOND_QUOTA = "more than may be sent here in so short a time: send it again later"
_NO_ADDRESS = "no such address"

_Unproven = Forged | NotConfigured | NotSupported | NoConnector | BadPayload
"""What a connector raises of a hook that is not, or not surely, its till's."""


@dataclass(frozen=True, slots=True)
class _AddressOwner:
    """Whose a hook address is: a connection's, or a draft's that is not connected yet (its id), or nobody's."""

    connection: Connection | None = None
    draft_id: str | None = None


class HookReceiver:
    """Takes hooks for connectors and connections; `unread` retries those that could not be read."""

    def __init__(
        self, store: Store, tills: Tills, ingestor: Ingestor, runner: PluginRunner, events: SampledEvents
    ) -> None:
        self._store = store
        self._tills = tills
        self._runner = runner
        self._events = events
        self._effects = HookEffects(store, tills, ingestor)
        self.unread = UnreadRetrier(store, tills, ingestor, runner, self._effects)
        self._rates = HookRates(store.quotas, store.clock.now)
        self._hourly = _OncePerHour(store)
        self._refused_noted: dict[str, int] = {}
        # read once: a stranger's hook must not have the environment read again
        self._apps = {name: app_settings(connector_class) for name, connector_class in tills.classes.items()}

    # Whose a hook is

    async def for_connector(self, name: str, hook: HookRequest) -> Answer:
        """Take a hook at the one address of all of a connector's accounts."""
        connector_class = self._tills.classes.get(name)
        if connector_class is None:
            return _refusal(404, "no such connector")
        try:
            account = await self._runner.route(connector_class, self._apps[name], hook)
        except (Forged, NotConfigured, BadPayload, NotSupported) as error:
            self._count_unproven(name, error)
            await self._note_refused(name, error)
            return _unproven_answer(error)
        except CallFailed as error:
            return _later_answer(name, error)
        if isinstance(account, Answer):
            return account
        return await self._for_account(connector_class, account, hook)

    async def _note_refused(self, name: str, error: Exception) -> None:
        """Note, at most every ten minutes, that hooks at the address of all accounts are refused: the operator is told.

        Nobody else would be: no cafe has a part in it, and their sales come late, with the next poll.
        """
        now = self._store.clock.now()
        if (
            isinstance(error, Forged | NotConfigured)
            and self._refused_noted.get(name, 0) <= now - _RECORD_REFUSED_EVERY
        ):
            self._refused_noted[name] = now
            await self._store.write(lambda tx: counters.set_counters(tx, {f"{REFUSED_HOOKS}{name}": now}))

    async def _for_account(
        self, connector_class: type[Connector[BaseModel]], account: Account, hook: HookRequest
    ) -> Answer:
        """Take a hook for every connection of an account, each of which has other locations, or another business."""
        name = connector_class.info.name
        # a till that sends many at once costs one query for all that wait, and no more than the others' share of time
        joined = await self._store.read_together(connections.registry.of_accounts, AccountKey(name, account.id))
        if not joined:
            await self._store.write(lambda tx: counters.raise_counter(tx, UNKNOWN_ACCOUNT))
            return connector_class.hook_answer
        if account.hook_name is not None:
            joined, refusal = await self._of_signed_name(name, joined, account.hook_name)
            if not joined:
                return refusal
        answers: list[tuple[Connection, Answer]] = []
        counted: set[str] = set()
        for group in _reading_alike(joined):
            # a business that has several connections of the account was sent the hook once
            is_first = group[0].business_id not in counted
            answer = await self._take(group[0], hook, others=group[1:], is_own_address=False, counts_bytes=is_first)
            answers.append((group[0], answer))
            counted.add(group[0].business_id)
        return _joint_answer(answers)

    async def _of_signed_name(
        self, name: str, joined: Sequence[Connection], hook_name: str
    ) -> tuple[list[Connection], Answer]:
        """Keep the connections whose account the till signs by that name; with none left, the answer says why."""
        kept = [connection for connection in joined if connection.account.hook_name == hook_name]
        # connected before this was asked; the till sends again, and by then the account has been asked
        unknown = [connection.id for connection in joined if connection.account.hook_name is None]
        error: _Unproven = NotConfigured("what hooks call this account") if unknown else Forged("another account's")
        if not kept:
            self._count_unproven(name, error, joined[0])
            for connection_id in unknown:
                await self._store.write(partial(connections.schedule.check_account_soon, connection_id=connection_id))
        return kept, _unproven_answer(error)

    async def for_connection(self, name: str, token: str, hook: HookRequest) -> Answer:
        """Take a hook at a connection's own address."""
        connection = await self._connection_at(name, token)
        if connection is None:
            return await self._for_draft(name, token, hook)
        connector_class = self._tills.classes.get(name)
        if connector_class is not None and not connector_class.can("prove"):
            # its till posts to one address for all accounts, and proves itself there
            return await self.for_connector(name, hook)
        if hook.method in ("GET", "HEAD"):  # some tills look whether an address answers before they save it
            return self._tills.of(connection).hook_answer
        return await self._take(connection, hook)

    async def _connection_at(self, name: str, token: str) -> Connection | None:
        return await self._store.read(lambda tx: connections.registry.by_hook_token(tx, name, token))

    async def _for_draft(self, name: str, token: str, hook: HookRequest) -> Answer:
        """Collect a request to the address of a till that is not connected yet; it becomes no sale."""
        # A draft keeps its address when it becomes a connection. That may happen at any moment while this runs, and a
        # sale that comes just then must not be lost. So the address is looked up twice: first in a read, since most
        # requests that come here are nobody's, and they must not wait for the writer, nor the writer for them. Then,
        # where a draft was found, in the transaction that collects: if the address is a connection's by now, the
        # request is a sale like any other.
        connector_class = self._tills.classes.get(name)
        if connector_class is None or connector_class.teaching is None:
            return _refusal(404, _NO_ADDRESS)
        draft_id = await self._store.read(lambda tx: connections.drafts.of_hook_token(tx, name, token))
        if draft_id is None:
            # no draft any more, and no connection when it was looked up before: it may have become one in between
            return await self._answer_owner(_AddressOwner(await self._connection_at(name, token)), hook)
        if wait := self._rates.wait(f"{inbox.captured.OF_DRAFT}{draft_id}"):
            return _refusal(429, _BEYOND_QUOTA, wait)
        is_collected = bool(hook.body.strip()) and hook.method == "POST"
        collect = partial(_collect, name=name, token=token, hook=hook if is_collected else None)
        owner = await self._store.write(collect)
        if owner.draft_id is None:
            return await self._answer_owner(owner, hook)
        if is_collected:
            self._rates.count(f"{inbox.captured.OF_DRAFT}{owner.draft_id}", len(hook.body))
        return connector_class.hook_answer

    async def _answer_owner(self, owner: _AddressOwner, hook: HookRequest) -> Answer:
        if owner.connection is None:
            return _refusal(404, _NO_ADDRESS)
        return await self._take(owner.connection, hook)

    # One connection's hook

    async def _take(
        self,
        connection: Connection,
        hook: HookRequest,
        *,
        others: Sequence[Connection] = (),
        is_own_address: bool = True,
        counts_bytes: bool = True,
    ) -> Answer:
        """Prove a hook, write down what it says to one connection and to `others` that read alike, and answer it.

        A hook at the address of all accounts has been proven in `route`. One that is proven and cannot be read is kept,
        and accepted: sent again it would be as unreadable.
        """
        # before the proof, which costs more than this: a flood at one address must not take the time of others
        if wait := self._rates.wait(connection.id, connection.business_id):
            return await self._refuse_beyond_quota(connection, wait)
        try:
            till = self._tills.of(connection)
            key = settings_key(connection)
            received = await self._runner.receive(
                till, key, hook, tenant=connection.business_id, proven=not is_own_address
            )
        except (Forged, NotConfigured, NotSupported, NoConnector, BadPayload) as error:
            # whoever knows a connection's own address may be its till with another secret: the cafe is told
            if is_own_address:
                await self._record_refused(connection, error)
            self._count_unproven(connection.connector, error, connection)
            return _unproven_answer(error)
        except ValidationError as error:
            wrong = describe_field_errors(error)
            log.error("connection %s: its settings do not fit its connector: %s", connection.id, wrong)
            return _refusal(503, "not set up yet: send it again later")
        except CallFailed as error:
            if isinstance(error, LimitExceeded):
                await self._hourly.journal(connection, Message("hook.cut_off"))
            return _later_answer(connection.connector, error)
        # only what is proven counts: whoever guesses uses up nothing that the till may send
        self._rates.count(connection.id, len(hook.body) if counts_bytes else 0, connection.business_id)
        await self._effects.leave(connection, received, hook, others)
        return till.hook_answer

    async def _refuse_beyond_quota(self, connection: Connection, wait: int) -> Answer:
        """Have the till send again later what is beyond a quota; its cafe and the operator are told."""
        message = Message("security.quota_met.hooks")
        self._events.count(NewEvent(EventKind.quota_met, message, connection.business_id, connection.id))
        await self._hourly.journal(connection, Message("hook.too_many"))
        return _refusal(429, _BEYOND_QUOTA, wait)

    async def _record_refused(self, connection: Connection, error: _Unproven) -> None:
        """Note that a forged hook was refused, unless that was noted lately: a stranger must not cost a write each."""
        since = self._store.clock.now() - _RECORD_REFUSED_EVERY
        is_known = connection.refused_at is not None and connection.refused_at > since
        if isinstance(error, Forged) and not is_known:
            await self._store.write(lambda tx: connections.registry.record_refused_hook(tx, connection.id))

    def _count_unproven(self, connector: str, error: _Unproven, connection: Connection | None = None) -> None:
        """Count a hook that nobody proves, of a connection or of all accounts of a connector; log one of an hour."""
        if not isinstance(error, Forged | NotConfigured):
            return
        address = connection.id if connection else connector
        sort = re.sub(r"[0-9]+", "0", str(error)[:100])  # however many seconds a clock is off
        if self._hourly.is_first(address, sort):
            log.warning("%s: a hook was refused: %s", address, error)
        name = "security.forged_hook" if isinstance(error, Forged) else "security.unverified_hook"
        event = NewEvent(EventKind.forged_hook, Message(name, {"connector": connector}))
        if connection is not None:
            event = NewEvent(event.kind, event.message, connection.business_id, connection.id)
        self._events.count(event)


class _OncePerHour:
    """Remembers, in memory, what was said of whom within the last hour, so that a flood of hooks is said once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said_at: OrderedDict[tuple[str, str], int] = OrderedDict()

    def is_first(self, subject: str, statement: str) -> bool:
        """Say whether a statement about somebody is the first in an hour, and remember it then."""
        now, key = self._store.clock.now(), (subject, statement)
        if now < self._said_at.get(key, 0) + HOUR:
            return False
        self._said_at[key] = now
        self._said_at.move_to_end(key)
        if len(self._said_at) > _MOST_REMEMBERED:
            self._said_at.popitem(last=False)
        return True

    async def journal(self, connection: Connection, message: Message) -> None:
        """Write a line about a connection, unless the same was written within the hour."""
        if self.is_first(connection.id, message.id):
            await self._store.write(lambda tx: ledger.journal.write(tx, connection.id, message))


def _collect(tx: Transaction, name: str, token: str, hook: HookRequest | None) -> _AddressOwner:
    """Collect a request for the draft that has an address, unless that is a connection's by now; return whose it is."""
    # the connection first: one that was made a moment ago may still have its draft
    connection = connections.registry.by_hook_token(tx, name, token)
    if connection is not None:
        return _AddressOwner(connection)
    draft_id = connections.drafts.of_hook_token(tx, name, token)
    if draft_id is not None and hook is not None:
        inbox.captured.keep(tx, f"{inbox.captured.OF_DRAFT}{draft_id}", hook)
    return _AddressOwner(draft_id=draft_id)


# Answers


def _reading_alike(joined: Sequence[Connection]) -> list[list[Connection]]:
    """Group connections by how they read their account, in each group one that works first: it follows hints for all.

    One read serves a group, which is of one business; connections that do not know yet how they read are groups of
    their own.
    """
    groups: dict[tuple[str, str], list[Connection]] = {}
    for connection in joined:
        groups.setdefault((connection.business_id, connection.read_key or connection.id), []).append(connection)
    return [sorted(group, key=lambda connection: connection.health not in WORKING) for group in groups.values()]


def _joint_answer(answers: Sequence[tuple[Connection, Answer]]) -> Answer:
    """Choose the one answer to a hook that several connections took."""
    # A connection that works and could not take the hook has the till send it again: the others see it twice then,
    # which changes nothing. One that a person paused, or whose secrets are refused, holds nobody up.
    working = [answer for connection, answer in answers if connection.health in WORKING]
    counted = working or [answer for _, answer in answers]
    return next((answer for answer in counted if answer.status >= 300), counted[0])


def _unproven_answer(error: _Unproven) -> Answer:
    match error:
        case Forged():
            return _refusal(401, "the signature does not hold")
        case NotConfigured():
            return _refusal(503, "not set up yet: send it again later")
        case BadPayload(where=where, why=why):
            return _refusal(400, f"{where}: {why}")
    return _refusal(404, "nothing is taken here")


def _later_answer(name: str, error: CallFailed) -> Answer:
    """Ask the till to send a hook again, which the connector's own code could not read now."""
    match error:
        case ConnectorSuspended(seconds=seconds):
            return _refusal(503, "this connector is set aside for a while: send it again later", seconds)
        case ConnectorCrashed(error=raised, traceback=traceback):
            log.error("%s: the connector raised %s\n%s", name, raised, traceback)
    return _refusal(503, "it could not be read now: send it again later", _SEND_AGAIN)


def _refusal(status: int, why: str, retry_after: int | None = None) -> Answer:
    return Answer(status, json.dumps({"error": why}).encode(), retry_after=retry_after)
