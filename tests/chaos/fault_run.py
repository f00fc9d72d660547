"""A run: cafes sell on a cluster while everything fails that can, then it is quiet, and the laws are looked at.

Owns what happens when, all of it drawn from one seed. Tills, 7stamp and subscribers stand in this process; hosts,
workers and the database are processes of their own, which are killed, stopped and cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import psycopg
from psycopg import sql
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from connector_sdk.authorisation import Consent, Returned
from connector_sdk.money import Money
from connector_sdk.rule import Mode, StampRule, UnknownCustomer
from connectors.cli.servers import serving
from connectors.domain.receipt_links import ClaimState, ReceiptTarget
from connectors.runtime.host import Host
from connectors.services import ConnectOptions, Refusal, SubscriptionRequest
from connectors.services.consents import code_challenge_of
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Faults, Sandbox
from connectors.store import connections, host_commands, ledger, queries
from connectors.store.engine import Transaction
from connectors.store.errors import StoreError
from connectors.store.host_commands import CommandState
from connectors.sync.vouchers import WantedVoucher
from poster_connector.sandbox import SECRET, Account, PosterSandbox
from serve_connector.sandbox import ServeSandbox
from serve_connector.sandbox_cafe import Cafe as ServeAccount
from square_connector.sandbox import SquareSandbox
from tests.chaos.cafes import Cafe, HookPost, PosterTill, Receipt, ServeTill, SquareTill
from tests.chaos.laws import LAWS, Seen, broken
from tests.cluster.members import Cluster, Member
from tests.machines import ANSWERS_HERE, Machine, Network
from tests.postgresql import PostgresServer, fake_clock, running_postgresql

KEY = "a key that only tests use"
_SETTLED_WITHIN = 2.0
"""Seconds from a request's arrival within which 7stamp lets it take effect and shows it, or never."""
_MARGIN = 2.0
"""Seconds that a request may need to arrive, and that any process may stand still, on a machine that is busy."""
_DEADLINE = 1.0
_GOES_ON = ("_post_hooks", "_scan_receipts", "_take_in_history")
_OLDER = 6
"""Receipts that a cafe has from before it is connected."""
_QUIET_SECONDS = 240.0
"""How long everything may take to settle once nothing fails any more."""


@dataclass(frozen=True, slots=True)
class Profile:
    """How long and how hard: `kills` of members at most, `sales` at most, within `seconds`."""

    seconds: float = 60.0
    seed: int = 1
    hosts: int = 2
    workers: int = 2
    kills: int = 1000
    sales: int = 100_000
    pause: float = 0.04
    """Seconds between what cashiers do."""
    steady_clock: bool = False
    """Whether the database server's clock is left alone, though it could be put forward and back."""
    machines: bool = False
    """Whether the database and every member have machines of their own, with cables and a disk that can fill up."""


@dataclass
class Report:
    """What happened, and which laws were broken."""

    counts: Counter[str]
    broken: dict[str, list[str]]
    logs: str
    settled_after: float
    longest_stall: float
    """Seconds that this process, with 7stamp in it, stood still at most."""

    @property
    def proves(self) -> bool:
        """Say whether the laws say anything: 7stamp, which stands in this process, acted as soon as it promises."""
        return self.longest_stall <= _MARGIN

    @property
    def holds(self) -> bool:
        """Say whether every law held."""
        return not any(self.broken.values())


@dataclass
class FaultRun:
    """One run."""

    profile: Profile
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    hooks: list[tuple[float, Cafe, HookPost]] = field(default_factory=list)
    """Hooks that tills have yet to post, and when."""
    guests: list[tuple[Cafe, Receipt, str]] = field(default_factory=list)
    """Receipts that guests scan, and the phones that they type, until each is told yes or no."""
    without_history: list[Cafe] = field(default_factory=list)
    """Cafes whose older receipts are not taken in yet."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Why a cafe's older receipts were not taken in, the last time, by its key."""
    businesses: dict[str, str] = field(default_factory=dict)
    """The business of each cafe, by its key."""
    failing: bool = True
    longest_stall: float = 0.0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.profile.seed)

    async def run(self) -> Report:
        """Run it to its end."""
        async with AsyncExitStack() as stack:
            await self._build(stack)
            tasks = [
                asyncio.create_task(work(), name=work.__name__)
                for work in (
                    self._sell,
                    self._post_hooks,
                    self._vary_faults,
                    self._kill,
                    self._break_database,
                    self._step_clock,
                    self._break_cables,
                    self._scan_receipts,
                    self._take_in_history,
                )
            ]
            watching = asyncio.create_task(self._watch_stalls())
            await asyncio.wait(tasks, timeout=self.profile.seconds, return_when=asyncio.FIRST_EXCEPTION)
            self.failing = False
            # what tills, guests and owners have begun, they go on with until it is done
            self.going_on = [task for task in tasks if task.get_name() in _GOES_ON]
            for task in tasks:
                if task not in self.going_on:
                    await task
            began = time.monotonic()
            found = await self._settle()
            for task in (*self.going_on, watching):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            stories = await self.host.store.read(lambda tx: list(self._stories(tx, found)))
            logs = "\n".join([*stories, self.cluster.logs()])
            return Report(self.counts, found, logs, time.monotonic() - began, self.longest_stall)
        raise AssertionError("the block returns")

    # --- building -----------------------------------------------------------------------------------------------

    async def _build(self, stack: AsyncExitStack) -> None:
        self.network = Network() if self.profile.machines else None
        machine = self.network.new_machine() if self.network else None
        self.server: PostgresServer = stack.enter_context(
            running_postgresql(clock=fake_clock() is not None and not self.profile.steady_clock, machine=machine)
        )
        self.url = self.server.new_database(empty=True)
        self.sevenstamp = Sandbox(goal=10**9, settled_within=_SETTLED_WITHIN)
        poster = [Account(token=f"86{number}052:02391570ff9af128e93c5a771055ba88") for number in range(2)]
        serve, square = ServeAccount(), SquareSandbox()
        poster_sandbox, serve_sandbox = PosterSandbox(*poster), ServeSandbox(serve)
        balancer = Starlette(routes=[Route("/{path:path}", self._balance, methods=["GET", "POST"])])
        subscriber = Starlette(routes=[Route("/{name}", self._take_event, methods=["POST"])])
        apps = (self.sevenstamp, poster_sandbox.application(), serve_sandbox.application(), square.application())
        address = ANSWERS_HERE if self.network else "127.0.0.1"
        origins = [await stack.enter_async_context(serving(app, address)) for app in (*apps, balancer, subscriber)]
        self.env = {
            "CONNECTORS_DATABASE_URL": self.url,
            "CONNECTORS_SEVENSTAMP_URL": origins[0],
            "CONNECTORS_PUBLIC_URL": origins[4],
            "CONNECTORS_RELAY_HOSTS": origins[5].removeprefix("http://"),
            "CONNECTORS_SECRET_KEY": KEY,
            # an absence proves something from both together on, after a request was sent
            "CONNECTORS_SETTLE_SECONDS": str(_SETTLED_WITHIN + _MARGIN - _DEADLINE),
            "CONNECTORS_CALL_DEADLINE_SECONDS": str(_DEADLINE),
            "CONNECTORS_DEAD_AFTER_SECONDS": "2",
            "CONNECTORS_HOOKS_PER_MINUTE": "100000",
            "POSTER_APPLICATION_SECRET": SECRET,
            **poster_sandbox.environment(origins[1]),
            **serve_sandbox.environment(origins[2]),
            **square.environment(origins[3]),
        }
        os.environ.update({name: value for name, value in self.env.items() if not name.startswith("CONNECTORS_")})
        square.post_to(f"{origins[4]}/hooks/tills/square")
        tills = [*map(PosterTill, poster), ServeTill(serve), SquareTill(square)]
        self.cafes = [self._cafe(number, till) for number, till in enumerate(tills)]
        self.seen = Seen(self.cafes, self.sevenstamp, self.url)
        self.client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=5))
        self.host = await stack.enter_async_context(self._open_host())
        for cafe in self.cafes:
            for _ in range(_OLDER):
                cafe.act()
            await self._connect(cafe, square, f"{origins[5]}/{cafe.key}")
        self.without_history = list(self.cafes)
        members = self.folder / "members"
        members.mkdir(parents=True, exist_ok=True)
        self.cluster = stack.enter_context(Cluster(self.env, members, self.network))
        for _ in range(self.profile.hosts):
            await asyncio.to_thread(self.cluster.start_host)
        for _ in range(self.profile.workers):
            await asyncio.to_thread(self.cluster.start_worker)
        await asyncio.to_thread(self.cluster.wait_ready)

    def _cafe(self, number: int, till: PosterTill | ServeTill | SquareTill) -> Cafe:
        chance = random.Random(self.chance.random())
        phones = [f"+3805{number}111{person:04d}" for person in range(12)]
        return Cafe(till, f"7loc_sc_cafe{number}", chance, phones)

    @asynccontextmanager
    async def _open_host(self) -> AsyncIterator[Host]:
        """Open a host in this process, with which people do what they do in the console."""
        prefix = "CONNECTORS_"
        values = {name.removeprefix(prefix).lower(): v for name, v in self.env.items() if name.startswith(prefix)}
        async with Host(Settings(**{**values, "secret_key": SecretStr(KEY)})) as host:  # type: ignore[arg-type]
            yield host

    async def _connect(self, cafe: Cafe, square: SquareSandbox, subscriber: str) -> None:
        services, till = self.host.services, cafe.till
        values: dict[str, object] = {}
        grant = None
        if isinstance(till, PosterTill):
            values = {"access_token": till.account.token}
        elif isinstance(till, ServeTill):
            values = {"token": till.cafe.token, "signing_secret": till.cafe.secret}
            values = dict(ServeSandbox(till.cafe).settings())
        else:
            verifier = "verifier-of-the-tests-which-is-long-enough-for-pkce"
            consent = Consent(services.consents.redirect_uri, "state", code_challenge_of(verifier))
            query = dict(httpx.URL(str(services.onboarding.authorise_url("square", consent))).params)
            application = square.square_application
            code = application.allow(application.read_consent(query), square.seller.merchant_id)
            returned = Returned({"code": code, "state": "state"}, consent.redirect_uri, verifier)
            grant = await services.onboarding.exchange_consent("square", returned)
        connection = await services.onboarding.connect(
            till.connector,
            values,
            cafe.key,
            lambda account: StampRule(
                kind="by_amount",
                amount=Money.from_decimal("10.00", account.currency),
                unknown_customer=UnknownCustomer.issue,
                mode=Mode.both,
            ),
            ConnectOptions(poll_seconds=10, grant=grant),
        )
        cafe.connection_id, cafe.account_id = connection.id, connection.account.id
        self.businesses[cafe.key] = connection.business_id
        if isinstance(till, ServeTill):
            till.path = f"/hooks/tills/serve/{self.host.store.vault.decrypt(connection.hook_token)}"
        cafe.codes = [f"{cafe.key[-5:].upper()}{code:03d}" for code in range(200)]
        for redeem_code in cafe.codes:
            await services.cards.issue_voucher(
                connection.business_id, WantedVoucher(title="Coffee", redeem_code=redeem_code)
            )
        await services.subscriptions.create(connection.business_id, SubscriptionRequest(subscriber))

    @property
    def hosts(self) -> list[Member]:
        """The hosts that are up."""
        return list(self.cluster.hosts) if hasattr(self, "cluster") else []

    # --- what stands in this process ----------------------------------------------------------------------------

    async def _balance(self, request: Request) -> Response:
        """Hand what 7stamp posts to some host, as a load balancer does; some of it is lost on the way."""
        if self.client.is_closed or not self.hosts or (self.failing and self.chance.random() < 0.1):
            return Response(status_code=503)
        host = self.chance.choice(self.hosts)
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        try:
            answer = await self.client.request(
                request.method, f"{host.origin}{request.url.path}", content=await request.body(), headers=headers
            )
        except httpx.HTTPError:
            return Response(status_code=502)
        return Response(answer.content, answer.status_code)

    async def _take_event(self, request: Request) -> Response:
        """Take an event of a subscription, or fail."""
        if self.failing and self.chance.random() < 0.1:
            return Response(status_code=500)
        body = json.loads(await request.body())
        name = next(cafe for cafe in self.cafes if cafe.key == request.path_params["name"])
        self.seen.received[name.connection_id].append((request.headers["webhook-id"], str(body.get("type"))))
        return Response(status_code=204)

    # --- what happens -------------------------------------------------------------------------------------------

    async def _sell(self) -> None:
        while self.failing and self.counts["sales and changes"] < self.profile.sales:
            cafe = self.chance.choice(self.cafes)
            receipt = cafe.act()
            self.counts["sales and changes"] += 1
            self._leave_hook(cafe, receipt.id)
            await asyncio.sleep(self.profile.pause)

    def _leave_hook(self, cafe: Cafe, receipt: str) -> None:
        """Have the till post a hook: lost, late or twice now and then."""
        hook, now = cafe.till.hook(receipt), time.monotonic()
        if self.chance.random() < 0.1:
            self.counts["hooks lost"] += 1
            return
        for _ in range(2 if self.chance.random() < 0.1 else 1):
            self.hooks.append((now + self.chance.choice([0, 0, 0, 0.5, 3.0]), cafe, hook))

    async def _post_hooks(self) -> None:
        while True:
            now = time.monotonic()
            due = [entry for entry in self.hooks if entry[0] <= now]
            self.hooks = [entry for entry in self.hooks if entry[0] > now]
            await asyncio.gather(*(self._post(cafe, hook) for _at, cafe, hook in due))
            await asyncio.sleep(0.02)

    async def _post(self, cafe: Cafe, hook: HookPost) -> None:
        """Post a hook to some host, and again later until it is taken, as tills do."""
        status = 0
        if self.hosts:
            with contextlib.suppress(httpx.HTTPError):
                url = f"{self.chance.choice(self.hosts).origin}{hook.path}"
                status = (await self.client.post(url, content=hook.body, headers=dict(hook.headers))).status_code
        if status == 200:
            self.counts["hooks acknowledged"] += 1
            self.seen.acknowledged.add((cafe.connection_id, hook.receipt))
        elif status in (0, 429) or status >= 500:
            self.hooks.append((time.monotonic() + 0.5, cafe, hook))
        else:
            raise AssertionError(f"a hook was refused with {status}")

    async def _scan_receipts(self) -> None:
        """Have guests claim receipts on which nobody was attached; they try again until they are told yes or no."""
        while True:
            await self._pause(0.3)
            cafe = self.chance.choice(self.cafes)
            if self.failing and (receipt := cafe.leave_receipt()):
                self.guests.append((cafe, receipt, self.chance.choice(cafe.phones)))
                self.counts["receipts scanned"] += 1
            self.guests = [guest for guest in self.guests if not await self._is_told(*guest)]
            await asyncio.sleep(0.2)

    async def _is_told(self, cafe: Cafe, receipt: Receipt, phone: str) -> bool:
        """Claim a receipt; return whether that was answered."""
        claims, business = self.host.services.claims, self.businesses[cafe.key]
        find = partial(ledger.sales.sale_id_of, business_id=business, connector=cafe.till.connector)
        try:
            sale_id = await self.host.store.read(lambda tx: find(tx, account_id=cafe.account_id, receipt_id=receipt.id))
            link = ReceiptTarget(sale_id[:16])
            with contextlib.suppress(Refusal, StoreError):
                await claims.claim(link, phone, agreed="", language="en")
            # also where an answer was lost: nobody else may name this receipt
            state = (await claims.open(link)).state
        except StoreError:
            return False
        if state in (ClaimState.claimed, ClaimState.taken_back):
            receipt.phone = phone
            self.counts["receipts claimed"] += 1
        return state not in (ClaimState.waiting, ClaimState.open, ClaimState.not_arrived)

    async def _take_in_history(self) -> None:
        """Have each cafe take in what it sold before it was connected, at some time; again where that failed."""
        while self.without_history:
            await self._pause(self.profile.seconds / 10)
            cafe = self.chance.choice(self.without_history)
            try:
                why_not = await self._take_in_history_of(cafe)
            except (Refusal, StoreError) as error:
                why_not = str(error)
            if why_not:
                self.refusals[cafe.key] = why_not
            else:
                self.without_history.remove(cafe)
                self.counts["histories taken in"] += 1
            await asyncio.sleep(0.2)

    async def _take_in_history_of(self, cafe: Cafe) -> str:
        """Have a cafe's older receipts taken in; return why they are not, or nothing."""
        since = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
        asked = await self.host.services.commands.ask_for_history(cafe.connection_id, since)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            command = await self.host.store.read(lambda tx: host_commands.get(tx, asked.id))
            if command.state in (CommandState.done, CommandState.failed):
                return "" if command.state is CommandState.done else str(command.result)
            await asyncio.sleep(0.3)
        return f"command {asked.id} is {command.state} after {command.progress}"

    async def _vary_faults(self) -> None:
        profiles: list[dict[str, object]] = [
            {},
            {"drop_after": 0.3, "apply_late_ms": (0, 900)},
            {"drop_before": 0.2, "status_500": 0.2, "latency_ms": (0, 200)},
            {"garbage": 0.2, "history_lag_ms": (0, 900)},
            {"status_429": 0.1},
            {"latency_ms": (300, 900), "webhook_repeat": 0.3, "webhook_delay_ms": (0, 2000)},
        ]
        while self.failing:
            chosen = self.chance.choice(profiles)
            self.sevenstamp.faults = Faults(
                **{**chosen, "ignore_idempotency_keys": True, "seed": self.chance.randint(0, 9)}  # type: ignore[arg-type]
            )
            if self.chance.random() < 0.3:
                self.chance.choice(self.cafes).till.fail(self.chance.randint(1, 3))
            await self._pause(2.0)
        self.sevenstamp.faults = Faults(ignore_idempotency_keys=True)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than things fail."""
        until = time.monotonic() + self.chance.uniform(0.5, 1.5) * seconds
        while self.failing and time.monotonic() < until:
            await asyncio.sleep(0.05)

    async def _kill(self) -> None:
        cluster = self.cluster
        while self.failing and self.counts["members killed"] < self.profile.kills:
            await self._pause(1.0)
            kills_host = self.chance.random() < 0.4
            members: list[Member] = cluster.hosts if kills_host else cluster.workers
            await asyncio.to_thread(cluster.kill, self.chance.choice(members))
            self.counts["members killed"] += 1
            await asyncio.to_thread(cluster.start_host if kills_host else cluster.start_worker)

    async def _break_database(self) -> None:
        while self.failing:
            await self._pause(6.0)
            if not self.failing:
                return
            ways = [self._cut_connections, self._restart_database, *([self._fill_disk] if self.network else [])]
            await asyncio.to_thread(self.chance.choice(ways))

    async def _break_cables(self) -> None:
        """Cut or slow cables, some for longer than an absence needs to prove something."""
        while self.failing and self.network:
            await self._pause(2.0)
            machine = self.chance.choice(self.network.machines)
            await asyncio.to_thread(self._break_cable, machine)
            await self._pause(self.chance.choice([0.5, 2.0, 8.0]))
            await asyncio.to_thread(machine.mend)

    def _break_cable(self, machine: Machine) -> None:
        if self.chance.random() < 0.3:
            with contextlib.suppress(subprocess.CalledProcessError):  # not every system can
                machine.slow()
                self.counts["cables slowed"] += 1
                return
        machine.cut()
        self.counts["cables cut"] += 1

    async def _step_clock(self) -> None:
        """Put the database server's clock forward by an hour and back, or behind and forward again."""
        while self.failing and self.server.clock:
            await self._pause(8.0)
            self.server.put_clock(self.chance.choice([3600, -3600]))
            self.counts["clock steps"] += 1
            await self._pause(8.0)
            self.server.put_clock(0)
            self.counts["clock steps"] += 1

    def _cut_connections(self) -> None:
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(self.url, autocommit=True, connect_timeout=2) as session,
        ):
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '7stamp%'"
            )
            self.counts["connections cut"] += 1

    def _fill_disk(self) -> None:
        self.server.fill_disk()
        time.sleep(self.chance.uniform(0.5, 4))
        self.server.free_disk()
        self.counts["disks full"] += 1

    def _restart_database(self) -> None:
        self.server.stop(self.chance.choice(["immediate", "fast"]))
        time.sleep(self.chance.uniform(0.1, 1.5))
        self.server.keep_up()
        self.counts["database restarts"] += 1

    async def _watch_stalls(self) -> None:
        """Measure how long this process stands still: what arrives meanwhile is taken for later than it was sent."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            self.longest_stall = max(self.longest_stall, time.monotonic() - began - 0.05)

    # --- quiet --------------------------------------------------------------------------------------------------

    async def _settle(self) -> dict[str, list[str]]:
        """Wait until the laws hold, or for so long that they never will; the members do all of the work.

        Every till is due to be read whole once more, since some hooks were lost, and what pauses after a failure has
        paused: some of those pauses are longer than anybody would wait for here.
        """
        await asyncio.to_thread(self._end_pauses)
        until = time.monotonic() + _QUIET_SECONDS
        again_at = time.monotonic() + 10
        found = {law: ["was never looked at"] for law in LAWS}
        while time.monotonic() < until:
            await asyncio.sleep(1)
            if time.monotonic() > again_at:
                await asyncio.to_thread(self._end_pauses)
                again_at = time.monotonic() + 10
            for task in self.going_on:
                if task.done():
                    await task  # raises what ended it
            if (self.hooks or self.guests or self.without_history) and time.monotonic() < until - 10:
                continue
            await self._name_subscriptions()
            try:
                found = await asyncio.to_thread(broken, self.seen)
            except psycopg.OperationalError:  # it is still recovering from what was done to it
                await asyncio.to_thread(self.server.keep_up)
                continue
            if not any(found.values()):
                break
        for waiting, what in (
            (self.hooks, "hooks were never taken"),
            (self.guests, "guests were never answered"),
            (self.without_history, f"histories were never taken in: {self.refusals}"),
        ):
            if waiting:
                found[next(iter(LAWS))].append(f"{len(waiting)} {what}")
        found["every member lives and is ready"] = await asyncio.to_thread(self._members_that_fail)
        return found

    def _stories(self, tx: Transaction, found: Mapping[str, Sequence[str]]) -> Iterator[str]:
        """Tell of each receipt that breaks a law what the till, the ledger and 7stamp have of it."""
        told = " ".join(line for lines in found.values() for line in lines)
        for cafe in self.cafes:
            for receipt in cafe.receipts.values():
                code = f"{cafe.till.connector}:{cafe.account_id}:{receipt.id}"
                if code not in told:
                    continue
                yield f"=== {receipt}"
                connection = connections.registry.get(tx, cafe.connection_id)
                sale_id = ledger.sales.sale_id_of(
                    tx, connection.business_id, cafe.till.connector, cafe.account_id, receipt.id
                )
                details = queries.receipts.details(tx, cafe.connection_id, sale_id)
                yield from (f"version {version}" for version in (details.versions if details else ()))
                yield f"ticket {ledger.sales.get(tx, sale_id).ticket}" if details else "not in the ledger"
                yield from (f"{line.at} {line.message}" for line in ledger.journal.of_sale(tx, sale_id))
                yield from (str(history) for history in queries.operations.of_sale(tx, sale_id))
                yield from (str(one) for one in self.sevenstamp.state.operations if code in str(one["code"]))
                yield str(replace(connection, sevenstamp_key="", settings=""))
                yield from (
                    str(row) for row in self.seen.rows("SELECT * FROM procrastinate_jobs WHERE status <> 'succeeded'")
                )

    def _end_pauses(self) -> None:
        """Have everything due now; what somebody else is changing is so the next time."""
        tables = ("hint", "identify", "loyalty_event", "relay_subscription", "relay_delivery")
        statements = [sql.SQL("UPDATE {} SET next_at = 0").format(sql.Identifier(table)) for table in tables]
        statements.append(
            sql.SQL("UPDATE {} SET next_poll_at = 0, next_lookback_at = 0").format(sql.Identifier("connection"))
        )
        # not those in doubt: until when an absence proves nothing is no pause
        statements.append(sql.SQL("UPDATE operation SET next_at = 0 WHERE state = 'pending'"))
        with (
            contextlib.suppress(psycopg.OperationalError),  # it is still recovering: the next time
            psycopg.connect(self.url, autocommit=True, options="-c lock_timeout=2s") as session,
        ):
            for statement in statements:
                with contextlib.suppress(psycopg.errors.LockNotAvailable):
                    session.execute(statement)

    def _members_that_fail(self) -> list[str]:
        """Name the members that ended, and the hosts that are not ready."""
        failing = [
            member.log.name for member in (*self.hosts, *self.cluster.workers) if member.process.poll() is not None
        ]
        for host in self.hosts:
            try:
                if httpx.get(f"{host.origin}/readyz", trust_env=False).status_code != 200:
                    failing.append(f"{host.log.name} is not ready")
            except httpx.HTTPError as error:
                failing.append(f"{host.log.name} does not answer ({error})")
        return failing

    async def _name_subscriptions(self) -> None:
        """Know what subscribers got by the ids of their subscriptions."""
        for cafe in self.cafes:
            connection = await self.host.services.connections.get(cafe.connection_id)
            for subscription in await self.host.services.subscriptions.list_all(connection.business_id):
                self.seen.received[subscription.id] = self.seen.received[cafe.connection_id]
