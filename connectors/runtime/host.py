"""The host: the one place where the parts are put together, opened, run and closed.

Owns the lock beside an embedded database: one host or one working command at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
from filelock import FileLock, Timeout

from connector_sdk.messages import Catalogue
from connectors.domain.clock import DAY, HOUR, Clock
from connectors.domain.events import DomainEvent, HealthChanged, OperationSettled, SaleIngested, Wakeup
from connectors.isolation import Limits, PluginRunner
from connectors.notices import Notices
from connectors.plugins import Plugins
from connectors.runtime.dispatcher import InProcess
from connectors.services import Progress, Refusal, ServiceContext, Services
from connectors.settings import Settings
from connectors.sevenstamp.client import SevenStamp
from connectors.store import access, connections, counters, host_commands, keyring, ledger, rotation
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.sync.delivery import Deliverer
from connectors.sync.hooks import HookReceiver
from connectors.sync.identification import Identifier
from connectors.sync.ingest import Ingestor
from connectors.sync.resolution import Timing
from connectors.sync.retention import Retention
from connectors.sync.sampled_events import SampledEvents
from connectors.sync.till_reader import TillReader
from connectors.sync.tills import Tills

if TYPE_CHECKING:  # only a host that serves needs a scheduler
    from connectors.runtime.scheduler import Scheduler

log = logging.getLogger(__name__)

STARTED = "what the running host says of itself"
"""The counter that holds `Host.started`: by it a look from outside tells this host from another."""
UNTRUSTED_PROXY = "requests forwarded by a proxy that is not trusted"
"""Counted since the last start, at most once an hour, and only while no proxy is trusted."""
_COMMAND_POLL_SECONDS = 0.1
_WORKING_COMMAND_WAIT = 30.0

_HOOK_OF: Mapping[type[DomainEvent], str] = {
    SaleIngested: "sale_ingested",
    OperationSettled: "operation_settled",
    HealthChanged: "connection_health_changed",
}

REFUSED = "refused: "
"""What the counters of refused requests begin with; the name of the limit follows."""


async def _unheard(_now: Mapping[str, Any]) -> None:
    """Nobody waits for the progress of what goes on by itself."""


class Host:
    """All parts of one installation, over one database."""

    def __init__(
        self,
        settings: Settings,
        *,
        plugins: Plugins | None = None,
        clock: Clock | None = None,
        inline: bool = False,
        sevenstamp_transport: httpx.AsyncBaseTransport | None = None,
        till_transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.plugins = plugins or Plugins()
        vault = settings.vault()
        self.store = Store(settings.database_url, vault, clock=clock, inline=inline, quotas=settings.quotas)
        self.words = Catalogue(self.plugins.packages)
        self.tills = Tills(self.plugins.classes, vault, transport=till_transport)
        self.sevenstamp: SevenStamp | None = None
        self.identifier: Identifier | None = None
        self.deliverer: Deliverer | None = None
        if settings.sevenstamp_url and settings.without_sevenstamp is None:
            self.sevenstamp = SevenStamp(
                settings.sevenstamp_url, transport=sevenstamp_transport, deadline=settings.call_deadline_seconds
            )
            self.identifier = Identifier(self.store, self.tills, self.sevenstamp)
            timing = Timing(settings.call_deadline_seconds, settings.settle_seconds)
            self.deliverer = Deliverer(self.store, self.sevenstamp, timing)
        limits = Limits(processor_seconds=settings.plugin_seconds, workers=settings.plugin_workers)
        self.runner = PluginRunner(limits, shipped=self.plugins.shipped, direct=inline or not settings.plugin_workers)
        self.ingestor = Ingestor(self.store, self.plugins.stamps_for_sale)
        self.reader = TillReader(self.store, self.tills, self.ingestor)
        self.security_events = SampledEvents(self.store)
        self.hooks = HookReceiver(self.store, self.tills, self.ingestor, self.runner, self.security_events)
        self.public_url = settings.public_url or "http://127.0.0.1:8700"
        self.services = Services(
            ServiceContext(
                store=self.store,
                tills=self.tills,
                sevenstamp_client=self.sevenstamp,
                reader=self.reader,
                identifier=self.identifier,
                deliverer=self.deliverer,
                hooks=self.hooks,
                runner=self.runner,
                public_url=self._public,
                without_sevenstamp=settings.without_sevenstamp,
            )
        )
        self.started = secrets.randbits(62)
        self.retention = Retention(
            self.store, bodies_days=settings.keep_bodies_days, journal_days=settings.keep_journal_days
        )
        self.notices = Notices(self.store, self.words, settings.smtp_url, self._public)
        self.refused: Counter[str] = Counter()
        """How many requests each limit of the server refused since they were last added to the counters."""
        self._dispatcher = InProcess()
        self._clock: Scheduler | None = None
        self._delivery: asyncio.Task[None] | None = None
        self._rotation: asyncio.Task[None] | None = None
        self._swept_at = 0
        self._telling: set[asyncio.Task[None]] = set()
        self._lock: FileLock | None = None

    def _public(self) -> str:
        return self.public_url

    def listens_on(self, origin: str) -> None:
        """Where the world reaches this host, unless the operator has said so."""
        if not self.settings.public_url:
            self.public_url = origin

    async def operator_password(self) -> str | None:
        """See that the operator has a password: the setting's, or one made now, which is returned to be shown once."""
        from argon2 import PasswordHasher
        from argon2.exceptions import InvalidHashError, VerificationError

        kept = await self.store.read(access.operator_password.password_hash)
        wanted = self.settings.operator_password
        if wanted is None and kept is not None:
            return None
        hasher = PasswordHasher()
        made = wanted.get_secret_value() if wanted is not None else secrets.token_urlsafe(15)
        if kept is not None:
            with contextlib.suppress(VerificationError, InvalidHashError):
                hasher.verify(kept, made)
                return None
        hashed = await asyncio.to_thread(hasher.hash, made)
        await self.store.write(lambda tx: access.operator_password.set_password_hash(tx, hashed))
        return made if wanted is None else None

    async def __aenter__(self) -> Self:
        if self.store.outdated() and not self.hold("upgrade"):
            raise StoreError(
                "a host of an older version runs on this database: stop it, so that the database can be upgraded"
            )
        await self.store.open()
        if self.holder().get("role") == "upgrade":
            self._release()
        self.store.listeners.append(self._tell_plugins)
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._telling:
            await asyncio.wait(set(self._telling))
        await self.runner.aclose()
        await self.security_events.flush()
        await self.tills.aclose()
        if self.sevenstamp is not None:
            await self.sevenstamp.aclose()
        await self.store.close()
        self._release()

    # --- the lock ---------------------------------------------------------------------------------------------

    def hold(self, role: str) -> bool:
        """Take the lock beside an embedded database for a `role`; whether it was free."""
        file = self.settings.database_file
        if file is None or self._lock is not None:
            return True
        lock = FileLock(file.with_name(file.name + ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._lock = lock
        self._holder_file().write_text(json.dumps({"role": role, "pid": os.getpid()}))
        return True

    def holder(self) -> dict[str, Any]:
        """Who holds the lock: role and process id, as far as they said."""
        if self.settings.database_file is None:
            return {}
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(self._holder_file().read_text())
            return found
        return {}

    def a_host_runs(self) -> bool:
        """Whether a host has the lock now, whatever a dead one left written."""
        if self.hold("probe"):
            self._release()
            return False
        return self.holder().get("role") == "host"

    def _holder_file(self) -> Path:
        file = self.settings.database_file
        if file is None:
            raise RuntimeError("only an embedded database is locked by a file")
        return file.with_name(file.name + ".holder")

    def _release(self) -> None:
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._holder_file().unlink()
            self._lock.release()
            self._lock = None

    # --- running ----------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Become the host of this database. Raises `StoreError` where there is one, or `Refusal` without 7stamp."""
        self.services.require_sevenstamp()
        if not self.hold("host"):
            pid = self.holder().get("pid", "?")
            raise StoreError(
                f"another host (process {pid}) already runs on this database: stop it first, "
                "or set CONNECTORS_DATABASE_URL to another one"
            )

    async def start(self) -> None:
        """Run in the background: clock, delivery, commands."""
        from connectors.runtime.scheduler import Scheduler

        self.take_over()
        if self.identifier is None or self.deliverer is None:
            raise RuntimeError("without 7stamp nothing runs in the background: take_over refuses before")
        await self._recover()
        await self.store.write(lambda tx: counters.set_counters(tx, {STARTED: self.started, UNTRUSTED_PROXY: 0}))
        self._clock = Scheduler(
            self.store,
            self.reader,
            self.identifier,
            self.deliverer,
            self._dispatcher,
            self.services.commands,
            self._tidy,
        )
        self._delivery = asyncio.create_task(self.deliverer.run(), name="delivery")
        self._clock.start()
        for finding in await self.key_findings():
            if finding.good is False:
                log.warning("%s", finding.text)
        self._rotation = asyncio.create_task(self._finish_rotation(), name="rotation")

    async def key_findings(self) -> list[keyring.Finding]:
        """What an operator should know about the secret keys."""
        return await self.store.read(lambda tx: keyring.findings(tx.session, tx.vault))

    async def _finish_rotation(self) -> None:
        """Go on with a change of keys that was begun and not ended."""
        try:
            if await rotation.unfinished(self.store):
                log.warning("a change of keys was not ended: it goes on")
                result = await self.services.commands.rotate_keys(_unheard)
                log.warning("the change of keys has ended: everything is encrypted with key %s", result["key"])
        except StoreError as error:
            log.error("the change of keys stopped, and goes on at the next start: %s", error)

    async def _tidy(self) -> None:
        """What comes up once a minute beside the sales."""
        await self._count_refused()
        await self.security_events.flush()
        await self.store.write(connections.drafts.sweep)
        now = self.store.clock.now()
        if now > self._swept_at + HOUR:
            swept = await self.retention.round()
            self._swept_at = 0 if swept.unfinished else now  # the rest of much goes in a minute
            keep_for = self.settings.security_log_days * DAY
            await self.store.write(lambda tx: access.security_log.sweep(tx, keep_for))
        await self.notices.round()

    async def _count_refused(self) -> None:
        """Add what limits refused to the counters and log it: an attack costs one line and one write a minute."""
        refused = Counter(self.refused)
        if not refused:
            return

        def work(tx: Transaction) -> None:
            for name, count in sorted(refused.items()):
                counters.raise_counter(tx, REFUSED + name, count)

        await self.store.write(work)
        self.refused -= refused
        log.warning("refused: %s", "; ".join(f"{name} ({count} times)" for name, count in sorted(refused.items())))

    async def _recover(self) -> None:
        """What was on the wire when the last host ended is in doubt; what was asked of it has failed."""
        doubtful = await self.store.write(ledger.operations.doubt_unfinished)
        if doubtful:
            log.warning(
                "%d operations were on the wire when the last host ended: their cards' history decides", doubtful
            )
        await self.store.write(host_commands.abandon)

    async def stop(self) -> None:
        """End the background work; calls on the wire are waited for, everything else is in the database."""
        if self._clock is not None:
            self._clock.stop()
            self._clock = None
            with contextlib.suppress(StoreError):
                await self._count_refused()
        if self._rotation is not None:
            self._rotation.cancel()
            await asyncio.gather(self._rotation, return_exceptions=True)
            self._rotation = None
        await self._dispatcher.close()
        if self.deliverer is not None:
            self.deliverer.stop()
            if self._delivery is not None:
                await asyncio.gather(self._delivery, return_exceptions=True)
                self._delivery = None
            await self.deliverer.close()

    async def ready(self) -> bool:
        """Whether the database answers and the background work runs."""
        running = self._clock is not None and self._delivery is not None and not self._delivery.done()
        return running and await self.store.read(lambda tx: connections.registry.count(tx) >= 0)

    # --- work for commands ------------------------------------------------------------------------------------

    async def perform(
        self, kind: str, connection_id: str, params: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """Do a work here, or have the host do it that runs on the same database. Raises `Refusal`."""
        await self.services.connections.get(connection_id)
        return await self._perform(kind, connection_id, params, progress)

    async def rotate_keys(self, progress: Progress) -> dict[str, Any]:
        """Encrypt everything with a newer key, here or in the host that runs. Raises `Refusal`, `StoreError`."""
        return await self._perform("rotate", "", {}, progress)

    async def _perform(
        self, kind: str, connection_id: str, params: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        waited = 0.0
        while not self.hold(kind):
            if self.holder().get("role") == "host":
                return await self._ask(kind, connection_id, params, progress)
            if waited >= _WORKING_COMMAND_WAIT:
                raise Refusal("another command works on this database: try again when it is done")
            await asyncio.sleep(_COMMAND_POLL_SECONDS)
            waited += _COMMAND_POLL_SECONDS
        await self._recover()
        return await self.services.commands.perform(kind, connection_id, params, progress)

    async def _ask(self, kind: str, connection_id: str, params: dict[str, Any], progress: Progress) -> dict[str, Any]:
        command_id = await self.store.write(lambda tx: host_commands.ask(tx, connection_id, kind, params))
        while True:
            await asyncio.sleep(_COMMAND_POLL_SECONDS)
            command = await self.store.read(lambda tx: host_commands.get(tx, command_id))
            if command.progress:
                await progress(command.progress)
            if command.state == "failed":
                raise Refusal(str((command.result or {}).get("error", "the host could not do it")))
            if command.state == "done":
                return dict(command.result or {})
            if self.hold("probe"):  # nobody holds the lock any more, whatever the last holder left written
                self._release()
                raise Refusal("the host was stopped meanwhile: run the command again")

    # --- plugins ----------------------------------------------------------------------------------------------

    def _tell_plugins(self, _wakeups: set[Wakeup], events: Sequence[DomainEvent]) -> None:
        """After a commit, tell plugins of its events; nobody waits for them."""
        heard = [event for event in events if self._has_listener(event)]
        if heard:
            task = asyncio.get_running_loop().create_task(self._call_hooks(heard))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    def _has_listener(self, event: DomainEvent) -> bool:
        return bool(getattr(self.plugins.manager.hook, _HOOK_OF[type(event)]).get_hookimpls())

    async def _call_hooks(self, events: Sequence[DomainEvent]) -> None:
        for event in events:
            match event:
                case SaleIngested(connection, sale):
                    await self.plugins.tell("sale_ingested", connection=connection, sale=sale)
                case OperationSettled(connection_id, operation):
                    known = await self.store.read(partial(connections.registry.by_ids, ids=[connection_id]))
                    if connection_id in known:
                        facts = known[connection_id].facts()
                        await self.plugins.tell("operation_settled", connection=facts, operation=operation)
                case HealthChanged(connection, health, reason):
                    words = self.words.word(reason) if reason is not None else ""
                    await self.plugins.tell(
                        "connection_health_changed", connection=connection, state=health.value, reason=words
                    )
