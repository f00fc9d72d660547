"""The host: the one place where the parts are put together, opened, run and closed.

Owns the parts and the order in which they start and stop; each part is a module of its own, and what only a host that
serves needs is imported when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Self

import httpx
from pydantic import JsonValue

from connector_sdk.messages import Catalogue
from connector_sdk.rate_limit import RateLimit
from connectors.domain.clock import Clock
from connectors.domain.finding import Finding
from connectors.isolation import Limits, PluginRunner
from connectors.notices import Emails, Notices, Pushes
from connectors.notices.web_push import WebPush
from connectors.plugins import Plugins
from connectors.relay import recording
from connectors.relay.addresses import AddressPolicy, parse_hosts
from connectors.relay.chat import chat_message
from connectors.relay.delivering import RelayDeliverer
from connectors.relay.posting import SubscriberClient
from connectors.runtime.background import BackgroundParts
from connectors.runtime.command_client import CommandClient
from connectors.runtime.counter_names import STARTED, UNTRUSTED_PROXY
from connectors.runtime.dispatcher import InProcess
from connectors.runtime.lock import InstallationLock, Role
from connectors.runtime.maintenance import Maintenance
from connectors.runtime.membership import Membership
from connectors.runtime.plugin_notifications import PluginCalls
from connectors.runtime.recovery import recover_unfinished
from connectors.runtime.shared_rates import SharedRates
from connectors.services import ServiceContext, Services
from connectors.services.results import ignore
from connectors.settings import Settings
from connectors.sevenstamp.client import SevenStamp
from connectors.store import connections, counters, durability, keyring, members, rotation
from connectors.store.engine import Store, Transaction
from connectors.store.errors import Conflict, StoreBusy, StoreError
from connectors.store.members import MemberRole
from connectors.sync.account_checks import AccountChecker
from connectors.sync.agreement import Reconciler
from connectors.sync.call_window import LEAST
from connectors.sync.card_lookups import CardLookups
from connectors.sync.delivery import Deliverer
from connectors.sync.doubt_resolution import Timing
from connectors.sync.gift_vouchers import GiftVouchers
from connectors.sync.hooks import HookReceiver
from connectors.sync.identification import Identifier
from connectors.sync.ingest import Ingestor
from connectors.sync.loyalty_effects import LoyaltyEffects
from connectors.sync.loyalty_hooks import LoyaltyReceiver
from connectors.sync.loyalty_subscriptions import LoyaltySubscriber
from connectors.sync.rechecks import Rechecker
from connectors.sync.retention import Retention
from connectors.sync.sampled_events import SampledEvents
from connectors.sync.subscriptions import Subscriber
from connectors.sync.till_reader import TillReader
from connectors.sync.tills import Tills
from connectors.sync.vouchers import Vouchers

if TYPE_CHECKING:  # only a host that serves needs a scheduler
    from connectors.runtime.cluster_scheduler import ClusterScheduler
    from connectors.runtime.cluster_worker import ClusterWorker
    from connectors.runtime.scheduler import Scheduler

log = logging.getLogger(__name__)

_PATIENCE_SECONDS = 60
"""How long a member that starts waits for the database server."""
_USUAL_URL = "http://127.0.0.1:8700"


class _Senders(NamedTuple):
    """What talks to 7stamp; nothing of it is there before its address is set."""

    sevenstamp: SevenStamp | None = None
    identifier: Identifier | None = None
    deliverer: Deliverer | None = None
    loyalty: LoyaltyEffects | None = None
    loyalty_subscriber: LoyaltySubscriber | None = None
    vouchers: Vouchers | None = None
    gifts: GiftVouchers | None = None
    lookups: CardLookups | None = None


class Host:
    """All parts of one installation, over one database.

    An open host (`async with`) serves commands and pages; `start` makes it run in the background as well.
    """

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
        self.public_url = settings.public_url or _USUAL_URL
        self._listens = False
        self.started = secrets.randbits(62)
        """A number by which this host is told from another that answers at the same address."""
        self.refused: Counter[str] = Counter()
        """How many requests each limit of the server refused since they were last added to the counters."""
        self.may_upgrade = False
        """Whether opening upgrades a database server's schema; a file is upgraded by whoever opens it."""
        self.lock = InstallationLock(settings.database_file)
        self.plugins = plugins or Plugins()
        self.words = Catalogue(self.plugins.packages)
        vault = settings.vault()
        self.store = Store(settings.database_url, vault, clock=clock, inline=inline, quotas=settings.quotas)
        self.tills = Tills(self.plugins.classes, self.store, transport=till_transport)
        self.plugin_calls = PluginCalls(self.store, self.plugins, self.words)
        senders = self._senders(sevenstamp_transport)
        self.sevenstamp, self.identifier, self.deliverer = senders.sevenstamp, senders.identifier, senders.deliverer
        self.loyalty, self.loyalty_subscriber = senders.loyalty, senders.loyalty_subscriber
        self.vouchers, self.gifts, self.lookups = senders.vouchers, senders.gifts, senders.lookups
        self.runner = self._plugin_runner(direct=inline or not settings.plugin_workers)
        self.ingestor = Ingestor(self.store, self.plugins.stamps_for_sale)
        self.subscriber = Subscriber(self.store, self.tills, self._reachable_url)
        accounts = AccountChecker(self.store, self.tills, self.subscriber)
        self.reader = TillReader(self.store, self.tills, self.ingestor, accounts)
        self.reconciler = self._reconciler()
        self.rechecker = Rechecker(self.store, self.tills, self.sevenstamp) if self.sevenstamp is not None else None
        self.security_events = SampledEvents(self.store)
        self.hooks = HookReceiver(self.store, self.tills, self.ingestor, self.runner, self.security_events)
        addresses = AddressPolicy(parse_hosts(settings.relay_hosts))
        self.subscribers = SubscriberClient(addresses)
        self.relay = RelayDeliverer(self.store, self.subscribers, self._chat_sentence, self._stamps_wait)
        self._addresses = addresses
        self.store.recorders.append(recording.record)
        self.loyalty_hooks = LoyaltyReceiver(self.store, self.security_events)
        self.retention = Retention(
            self.store, bodies_days=settings.keep_bodies_days, journal_days=settings.keep_journal_days
        )
        push = WebPush(self.store, self.subscribers, addresses, self._public_url)
        self.notices = Notices(
            Emails(self.store, self.words, settings.smtp_url, self._public_url), Pushes(self.store, self.words, push)
        )
        self.services = Services(self._service_context())
        self.membership = None if self.store.embedded else Membership(self.store, settings.dead_after_seconds)
        self._shared_rates = None if self.store.embedded else SharedRates(self.store)
        self.commands = CommandClient(self.store, self.lock, self.services, self.membership)
        self.maintenance = self._maintenance()
        self._dispatcher = InProcess()
        self._scheduler: Scheduler | None = None
        self._cluster_scheduler: ClusterScheduler | None = None
        self._worker: ClusterWorker | None = None
        self._delivery: asyncio.Task[None] | None = None
        self._rotation: asyncio.Task[None] | None = None

    def _senders(self, transport: httpx.AsyncBaseTransport | None) -> _Senders:
        """Build what talks to 7stamp, where its address is set and may be used."""
        settings = self.settings
        if not settings.sevenstamp_url or settings.without_sevenstamp is not None:
            return _Senders()
        sevenstamp = SevenStamp(settings.sevenstamp_url, transport=transport, deadline=settings.call_deadline_seconds)
        timing = self._timing()
        return _Senders(
            sevenstamp,
            Identifier(self.store, self.tills, sevenstamp),
            Deliverer(self.store, sevenstamp, timing),
            LoyaltyEffects(self.store, self.tills, sevenstamp, self.plugin_calls.tell_of_loyalty_event),
            LoyaltySubscriber(self.store, sevenstamp, self._reachable_url),
            Vouchers(self.store, sevenstamp, timing),
            GiftVouchers(self.store, sevenstamp),
            CardLookups(self.store, sevenstamp),
        )

    def _timing(self) -> Timing:
        return Timing(self.settings.call_deadline_seconds, self.settings.settle_seconds)

    def _reconciler(self) -> Reconciler | None:
        """Build what compares till, ledger and cards, where 7stamp's address is set."""
        if self.sevenstamp is None:
            return None
        return Reconciler(self.store, self.reader, self.sevenstamp, self._timing())

    def _plugin_runner(self, *, direct: bool) -> PluginRunner:
        """Build what runs connectors' own code on what strangers send; `direct` runs it in this process."""
        limits = Limits(processor_seconds=self.settings.plugin_seconds, workers=self.settings.plugin_workers)
        return PluginRunner(limits, shipped=self.plugins.shipped, direct=direct)

    def _maintenance(self) -> Maintenance:
        return Maintenance(
            self.store,
            self.retention,
            self.notices,
            self.security_events,
            self.refused,
            security_log_days=self.settings.security_log_days,
        )

    def _service_context(self) -> ServiceContext:
        return ServiceContext(
            store=self.store,
            tills=self.tills,
            sevenstamp_client=self.sevenstamp,
            reader=self.reader,
            identifier=self.identifier,
            deliverer=self.deliverer,
            hooks=self.hooks,
            subscriber=self.subscriber,
            loyalty_subscriber=self.loyalty_subscriber,
            vouchers=self.vouchers,
            gifts=self.gifts,
            lookups=self.lookups,
            reconciler=self.reconciler,
            rechecker=self.rechecker,
            addresses=self._addresses,
            relay=self.relay,
            runner=self.runner,
            ingestor=self.ingestor,
            public_url=self._public_url,
            without_sevenstamp=self.settings.without_sevenstamp,
        )

    def _chat_sentence(self, event: str, data: Mapping[str, JsonValue]) -> str:
        return self.words.word(chat_message(event, data))

    def _stamps_wait(self) -> bool:
        """Say whether more sales are on their way to cards than have a place."""
        hinted = self._scheduler.hints_under_way() if self._scheduler is not None else 0
        return hinted > LEAST or (self.deliverer is not None and self.deliverer.is_behind())

    def _public_url(self) -> str:
        return self.public_url  # known for good only once the host listens

    def _reachable_url(self) -> str:
        """Return where tills and 7stamp reach us; "" for a cluster's worker that nobody told: it listens nowhere."""
        is_known = self.settings.public_url or self._listens or self.membership is None
        return self.public_url if is_known else ""

    def listens_on(self, origin: str) -> None:
        """Set where the world reaches this host, unless the operator has set that."""
        self._listens = True
        if not self.settings.public_url:
            self.public_url = origin

    # --- open and closed --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the database, upgrading its schema where it is older. Raises `StoreError`."""
        if self.store.outdated():
            self._require_upgrade()
        await self.store.open()
        # taken for the upgrade only; a host or a working command takes it again for itself
        if self.lock.holder().role == Role.upgrade:
            self.lock.release()
        self.store.listeners.append(self.plugin_calls.on_commit)
        if self._shared_rates is not None:
            RateLimit.lender = self._shared_rates
        return self

    def _require_upgrade(self) -> None:
        """Make sure that the schema may be upgraded now. Raises `StoreError`."""
        # several hosts run on a server, also while they are upgraded one after another: somebody says when
        if not self.store.embedded and not self.may_upgrade:
            raise StoreError(
                "the database has the schema of another version: run `connectors db upgrade` of the newest version once"
            )
        if not self.lock.acquire(Role.upgrade):
            raise StoreError(
                "a host of an older version runs on this database: stop it, so that the database can be upgraded"
            )

    async def __aexit__(self, *_: object) -> None:
        """Close what is open: first what still uses other parts, the database after all of them."""
        await self.plugin_calls.wait()
        await self.relay.stop()
        await self.subscribers.aclose()
        await self.runner.aclose()
        await self.security_events.flush()
        await self.tills.aclose()
        if self.lookups is not None:
            await self.lookups.aclose()
        if self.sevenstamp is not None:
            await self.sevenstamp.aclose()
        if self.membership is not None:
            await self.membership.leave()
        if RateLimit.lender is self._shared_rates:
            RateLimit.lender = None
        await self.store.close()
        self.lock.release()

    # --- running ----------------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Become the host of this database.

        Raises `StoreError` where there is one, `Refusal` without an address of 7stamp.
        """
        self.services.require_sevenstamp()
        if not self.lock.acquire(Role.host):
            pid = self.lock.holder().pid or "?"
            raise StoreError(
                f"another host (process {pid}) already runs on this database: stop it first, "
                "or set CONNECTORS_DATABASE_URL to another one"
            )

    async def start(self, role: MemberRole = MemberRole.host, *, works: bool = True) -> None:
        """Run in the background: scheduler, delivery, and a rotation that was not ended.

        On a database server a host says when work is due, and it `works` where it also does it, as a worker does.
        Raises `StoreError` where there is a host on the same file, `Refusal` without an address of 7stamp.
        """
        self.take_over()
        parts = self._background_parts()
        if self.membership is not None:
            await self._start_member(self.membership, parts, role, works=works)
        else:
            await self._start_alone(parts)
        for finding in await self.database_findings():
            if finding.ok is False:
                log.warning("%s", finding.text)
        self._rotation = asyncio.create_task(self._finish_rotation(), name="rotation")

    def _background_parts(self) -> BackgroundParts:
        if (
            self.identifier is None
            or self.deliverer is None
            or self.loyalty is None
            or self.loyalty_subscriber is None
            or self.vouchers is None
            or self.gifts is None
            or self.reconciler is None
            or self.rechecker is None
        ):
            raise RuntimeError("without 7stamp nothing runs in the background: take_over refuses before")
        return BackgroundParts(
            self.store,
            self.reader,
            self.identifier,
            self.deliverer,
            self.loyalty,
            self.loyalty_subscriber,
            self.vouchers,
            self.gifts,
            self.relay,
            self.reconciler,
            self.rechecker,
            self.services.commands,
            self.maintenance.run,
            self.maintenance.write_counts,
        )

    async def _start_member(
        self, membership: Membership, parts: BackgroundParts, role: MemberRole, *, works: bool
    ) -> None:
        """Run as a member of a cluster."""
        from connectors.runtime.cluster_jobs import ClusterJobs
        from connectors.runtime.cluster_scheduler import ClusterScheduler
        from connectors.runtime.cluster_worker import ClusterWorker

        if not self.settings.public_url:
            log.warning("CONNECTORS_PUBLIC_URL is not set: the members of a cluster are reached by one address")
        await _once_reachable(lambda: membership.join(role, works=works))
        jobs, settings = ClusterJobs(parts), self.settings
        self._cluster_scheduler = ClusterScheduler(parts, jobs, ticks=role is MemberRole.host)
        if works:
            self._delivery = asyncio.create_task(parts.deliverer.run(asked_only=True), name="delivery")
            self._worker = ClusterWorker(
                self.store,
                jobs,
                at_once=settings.worker_jobs,
                dead_after=settings.dead_after_seconds,
                grace=settings.call_deadline_seconds,
            )
            self._worker.start()
        self._cluster_scheduler.start()

    async def _start_alone(self, parts: BackgroundParts) -> None:
        """Run as the only host of a file."""
        from connectors.runtime.scheduler import Scheduler

        # before anything is sent: what is marked as on the wire now is from the last host, and in doubt
        await recover_unfinished(self.store)
        await self.store.write(connections.schedule.resume_lookbacks)
        await self.store.write(lambda tx: counters.set_counters(tx, {STARTED: self.started, UNTRUSTED_PROXY: 0}))
        self._scheduler = Scheduler(parts, self._dispatcher)
        self._delivery = asyncio.create_task(parts.deliverer.run(), name="delivery")
        self._scheduler.start()

    async def database_findings(self) -> list[Finding]:
        """List what an operator should know about the secret keys, and about what the database server may lose."""

        def look(tx: Transaction) -> list[Finding]:
            return [*keyring.find_problems(tx.session, tx.vault), *durability.find_problems(tx.session)]

        return await self.store.read(look)

    async def _finish_rotation(self) -> None:
        """Go on with a rotation of the secret key that was begun and not ended."""
        try:
            if await rotation.is_unfinished(self.store):
                log.warning("a change of keys was not ended: it goes on")
                result = await self.services.commands.rotate_keys(ignore)
                log.warning("the change of keys has ended: everything is encrypted with key %s", result.key)
        except StoreError as error:
            log.error("the change of keys stopped, and goes on at the next start: %s", error)

    async def stop(self) -> None:
        """End the background work; calls on the wire are waited for, everything else is in the database."""
        # the scheduler first, so that nothing new is handed over; delivery last, because work that ends may still
        # wake it
        if self._scheduler is not None:
            self._scheduler.stop()
        if self._cluster_scheduler is not None:
            await self._cluster_scheduler.stop()
        if self._scheduler is not None or self._cluster_scheduler is not None:
            self._scheduler = self._cluster_scheduler = None
            with contextlib.suppress(StoreError):
                await self.maintenance.count_refused()
        if self._rotation is not None:
            self._rotation.cancel()
            await asyncio.gather(self._rotation, return_exceptions=True)
            self._rotation = None
        await self._dispatcher.close()
        if self._worker is not None:
            # released first: its jobs that deliver end with what is on the wire
            if self.deliverer is not None:
                self.deliverer.stop()
            await self._worker.stop()
            self._worker = None
        await self._stop_delivery()
        await self.relay.stop()

    async def _stop_delivery(self) -> None:
        """End delivery after the calls that are on the wire."""
        if self.deliverer is None:
            return
        self.deliverer.stop()
        if self._delivery is not None:
            await asyncio.gather(self._delivery, return_exceptions=True)
            self._delivery = None
        await self.deliverer.close()

    async def ready(self) -> bool:
        """Return whether the database answers and the background work runs."""
        if self._delivery is not None and self._delivery.done():
            return False
        if self.membership is None:
            running = self._scheduler is not None and self._delivery is not None
            return running and await self.store.read(lambda tx: connections.registry.count(tx) >= 0)
        silent_for = self.membership.silent_for
        workers = await self.store.read(lambda tx: members.count_workers(tx, silent_for))
        return self._cluster_scheduler is not None and workers > 0


async def _once_reachable(work: Callable[[], Awaitable[None]]) -> None:
    """Do work once the database server takes it: it may restart just now, be locked, or have a full disk.

    Raises `StoreError` after a minute.
    """
    for _ in range(_PATIENCE_SECONDS):
        try:
            return await work()
        except (Conflict, StoreBusy) as error:
            log.warning("%s", error)
            await asyncio.sleep(1)
    return await work()
