"""A small database with something of everything in it, made to be stored and opened again by later code.

Run as `python -m tests.store.stored_database FOLDER` it writes one with the code it stands beside: the database, what
the 7stamp sandbox knew, and what the host read of both. `test_stored_databases` opens what earlier versions wrote.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from connector_sdk.loyalty import CardOpened, LoyaltyCard
from connector_sdk.money import Money
from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.cli.servers import serving
from connectors.domain.clock import SECOND, micros, moment
from connectors.domain.connection import Connection
from connectors.domain.events import LoyaltyEventReceived
from connectors.runtime.host import Host
from connectors.services import ConnectOptions, SubscriptionRequest
from connectors.services.results import ignore
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Faults, Sandbox
from connectors.store import access, connections, inbox, ledger, queries
from connectors.store.engine import Transaction
from connectors.sync.vouchers import WantedVoucher
from poster_connector.sandbox import Account, PosterSandbox
from serve_connector.sandbox import Cafe, ServeSandbox
from tests.installation import ANNA, BORYS, CHRYSTYNA, post_hook
from tests.served_installation import OTHER, keep_passkey
from tests.web.browser import Browsers

SECRET_KEY = "a key that only tests use"
LVIV_KEY, MADRID_KEY = "7loc_sc_stored_lviv", "7loc_sc_stored_madrid"
DIEGO, ELENA, FELIPE, GLORIA = "+34600111222", "+34600111333", "+34600111444", "+34600111555"
ELENAS_EMAIL = "elena@example.com"
VOUCHER = "FREECOFFEE9"
GOAL = 12
BEGAN = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
CORNER = {
    "till_name": "Corner", "currency": "EUR", "zone": "Europe/Madrid", "proof": "address",
    "map_receipt_id": "number", "map_paid": "sum", "map_closed_at": "at", "map_phone": "guest.phone",
}  # fmt: skip
UNREADABLE = b'{"number": "C-9", "total": 1250, "at": "2026-11-23T12:00:00Z"}'


class SteppedClock:
    """A clock that stands still until it is moved, so that two runs see the same times."""

    def __init__(self, start: datetime = BEGAN) -> None:
        self._now = micros(start)

    def now(self) -> int:
        """UTC microseconds since 1970."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward."""
        self._now += int(seconds * SECOND)


class Tills:
    """Two Poster accounts and a Serve one. Their day is the same whenever it is played: ids, times and amounts.

    A test plays it again beside a stored database, so that the tills know the receipts that stand in it.
    """

    def __init__(self) -> None:
        self.clock = SteppedClock()
        self.lviv = Account(now=self._now)
        self.kiosk = Account(token=OTHER, name="other", now=self._now)
        self.madrid = Cafe(now=self._now)
        self.receipts: dict[str, int | str] = {}
        """Receipt ids by what happened to them."""

    def _now(self) -> datetime:
        self.clock.advance(7)
        return moment(self.clock.now())

    def morning(self) -> None:
        """Sales with and without cards, a reward, and three that a person or a card must be waited for."""
        lviv, madrid, receipts = self.lviv, self.madrid, self.receipts
        receipts["plain"] = lviv.sell(lviv.client(ANNA), paid=3000)
        receipts["rewarded"] = lviv.sell(lviv.client(BORYS), paid=12000)
        receipts["to correct"] = lviv.sell(lviv.client(CHRYSTYNA), paid=4000)
        receipts["without a customer"] = lviv.sell(0, paid=9000)
        receipts["with a voucher"] = lviv.sell(lviv.client(ANNA), paid=1000, comment=VOUCHER)
        receipts["with a used voucher"] = lviv.sell(0, paid=1000, comment=VOUCHER)
        receipts["of the kiosk"] = self.kiosk.sell(self.kiosk.client(ANNA), paid=2000)
        receipts["first of Diego"] = madrid.sell("12.50", phone=DIEGO)
        receipts["second of Diego"] = madrid.sell("3.20", phone=DIEGO)
        receipts["over the cap"] = madrid.sell("8.00", phone=DIEGO)
        receipts["without a card"] = madrid.sell("5.00", phone=FELIPE)
        receipts["of two cards"] = madrid.sell("6.00", phone=ELENA, email=ELENAS_EMAIL)
        self.clock.advance(600)

    def noon(self) -> None:
        """Refunds and a correction."""
        self.lviv.refund(int(self.receipts["rewarded"]))
        self.lviv.correct(int(self.receipts["to correct"]), 2000)
        self.madrid.refund(str(self.receipts["first of Diego"]))
        self.clock.advance(600)

    def afternoon(self) -> None:
        """Sales after the rule was changed, and one whose answer will be lost."""
        self.receipts["by the new rule"] = self.lviv.sell(self.lviv.client(ANNA), paid=2000)
        self.receipts["in doubt"] = self.madrid.sell("4.00", phone=GLORIA)
        self.clock.advance(600)

    def evening(self) -> None:
        """Two sales of one card, and a table that is still open."""
        self.receipts["on the wire"] = self.lviv.sell(self.lviv.client(CHRYSTYNA), paid=1500)
        self.receipts["behind it"] = self.lviv.sell(self.lviv.client(CHRYSTYNA), paid=2500)
        self.receipts["still open"] = self.lviv.open(self.lviv.client(ANNA))
        self.clock.advance(60)

    def whole_day(self) -> None:
        """Everything above, in order."""
        for part in (self.morning, self.noon, self.afternoon, self.evening):
            part()


class WithholdingSevenStamp:
    """The 7stamp sandbox, which can be told to leave writes of stamps unanswered and undone."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.withholds = False
        self.waiting = asyncio.Event()
        """Set once a write waits."""
        self._released = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.withholds and scope["type"] == "http" and scope["method"] == "POST":
            self.waiting.set()
            await self._released.wait()
        await self.sandbox(scope, receive, send)

    def release(self) -> None:
        """Answer from now on, those that wait too."""
        self.withholds = False
        self._released.set()


@dataclass
class Installation:
    """A host on a database in a folder, with its tills and 7stamp on loopback."""

    host: Host
    tills: Tills
    sevenstamp: WithholdingSevenStamp

    async def hook(self, path: str, body: bytes) -> httpx.Response:
        """Post what a till sends."""
        return await post_hook(self.host, path, body)

    async def corner_sale(self, connection: Connection, number: str, total: str, phone: str) -> None:
        """A sale of the till that was taught, as it posts it."""
        at = moment(self.tills.clock.now()).isoformat()
        body = json.dumps({"number": number, "sum": total, "at": at, "guest": {"phone": phone}}).encode()
        answer = await self.hook(self._hook_path(connection), body)
        answer.raise_for_status()

    async def corner_unreadable(self, connection: Connection) -> None:
        """A body in which the taught till's amount is missing."""
        (await self.hook(self._hook_path(connection), UNREADABLE)).raise_for_status()

    def _hook_path(self, connection: Connection) -> str:
        return str(self.host.services.connections.hook_url(connection)).removeprefix(self.host.public_url)

    def sandbox_stamps(self) -> dict[str, int]:
        """The stamps that 7stamp put on each customer's cards, less those taken back, by phone."""
        state, signs = self.sevenstamp.sandbox.state, {"stamps_added": 1, "stamps_reversed": -1}
        stamps: dict[str, int] = {}
        for operation in state.operations:
            if operation["kind"] in signs:
                phone = state.cards[operation["card_id"] or ""].phone or ""
                stamps[phone] = stamps.get(phone, 0) + signs[operation["kind"]] * operation["count"]
        return stamps


@asynccontextmanager
async def installation(folder: Path, monkeypatch: pytest.MonkeyPatch, tills: Tills) -> AsyncIterator[Installation]:
    """Open a host on `ledger.db` in a folder, whose sandboxed 7stamp keeps what it knows in `sevenstamp.jsonl`.

    The environment is set for commands on the same database.
    """
    async with AsyncExitStack() as stack:
        poster, serve = PosterSandbox(tills.lviv, tills.kiosk), ServeSandbox(tills.madrid)
        sandbox = Sandbox(goal=GOAL, state=folder / "sevenstamp.jsonl", now=lambda: tills.clock.now() / SECOND)
        sevenstamp = WithholdingSevenStamp(sandbox)
        stack.callback(sevenstamp.release)
        environment = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": await stack.enter_async_context(serving(sevenstamp)),
            "CONNECTORS_SECRET_KEY": SECRET_KEY,
            "CONNECTORS_PUBLIC_URL": "http://host",
        }
        for till in (poster, serve):
            origin = await stack.enter_async_context(serving(till.application()))
            environment |= till.environment(origin)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = Settings(
            database_url=environment["CONNECTORS_DATABASE_URL"],
            sevenstamp_url=environment["CONNECTORS_SEVENSTAMP_URL"],
            secret_key=SecretStr(SECRET_KEY),
            public_url="http://host",
            plugin_workers=0,
        )
        host = await stack.enter_async_context(Host(settings, clock=tills.clock))
        yield Installation(host, tills, sevenstamp)


# --- making one -----------------------------------------------------------------------------------------------------


async def make(folder: Path, target: Path) -> None:
    """Live through a day on a new database and write it, while an operation is on the wire, to `target`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        async with installation(folder, monkeypatch, Tills()) as place:
            cookies = await _live(place)
            task = asyncio.create_task(place.host.services.sync.run((await _connected(place, "Lviv")).id))
            await place.sevenstamp.waiting.wait()
            await _write(place, folder, target, cookies)
            place.sevenstamp.release()
            await task


async def _live(place: Installation) -> Mapping[str, str]:
    """Do everything up to the moment at which the database is stored; the cookies of a browser signed in there."""
    host, tills, sandbox = place.host, place.tills, place.sevenstamp.sandbox
    await _issue_cards(host)
    lviv, madrid, corner, kiosk = await _connect_all(place)
    everyone = (lviv, madrid, corner, kiosk)
    tills.morning()
    await place.corner_sale(corner, "C-1", "2.00", ELENA)
    await _sync(host, *everyone)
    tills.noon()
    await place.corner_unreadable(corner)
    await _sync(host, *everyone)
    await host.services.connections.edit(
        lviv.id, {}, rule=lambda _account, rule: rule.model_copy(update={"amount": Money(500, "UAH")})
    )
    await host.services.connections.remove(kiosk.id)
    await _tell_others(host, lviv)
    tills.afternoon()
    await _sync(host, lviv)
    sandbox.faults = Faults(drop_after=1.0, history_lag_ms=(10_000, 10_000))
    await _sync(host, madrid)
    sandbox.faults = Faults()
    cookies = await _use_the_console(place, lviv)
    tills.evening()
    sandbox.state.allowed = sandbox.state.used[madrid.business_id]
    await place.corner_sale(corner, "C-2", "3.00", ELENA)
    await _sync(host, corner)
    await host.services.connections.pause(corner.id)
    await place.corner_sale(corner, "C-3", "1.50", ELENA)
    table = tills.lviv.hook(int(tills.receipts["still open"]), "closed")
    (await place.hook("/hooks/tills/poster", table)).raise_for_status()
    place.sevenstamp.withholds = True
    return cookies


async def _tell_others(host: Host, lviv: Connection) -> None:
    """Leave a subscription with a delivery that waits, a token, an event of 7stamp, a comparison and a voucher."""
    business = lviv.business_id
    request = SubscriptionRequest("https://93.184.216.34/hook", ("card_opened",), "CRM", personal=True)
    made = await host.services.subscriptions.create(business, request)
    await host.services.tokens.make(business, "Zapier", ["read", "act"])
    event = CardOpened(id="msg_1", at=moment(host.store.clock.now()), business_id=business, card=LoyaltyCard(id="c_9"))
    stored = inbox.loyalty_events.NewEvent(business, event.id, event, b'{"event": "card_opened"}')
    await host.store.write(lambda tx: inbox.loyalty_events.keep(tx, [stored]))
    await host.store.write(lambda tx: tx.events.append(LoyaltyEventReceived(business, event)))
    # stopped: whoever starts a host on this database posts to nobody
    await host.services.subscriptions.set_active(business, made.subscription.id, active=False)
    await host.services.agreement.reconcile(lviv.id, "2026-11-23", ignore)
    await host.services.cards.issue_voucher(business, WantedVoucher(title="A cake", redeem_code="STOREDCAKE"))


async def _issue_cards(host: Host) -> None:
    if host.sevenstamp is None:
        raise RuntimeError("the host was opened without 7stamp")
    lviv, madrid = host.sevenstamp.with_key(LVIV_KEY), host.sevenstamp.with_key(MADRID_KEY)
    voucher = json.dumps({"code": "a voucher", "title": "Coffee", "redeem_code": VOUCHER})
    await lviv.write("/v1/vouchers", voucher, "a voucher", 5)
    for phone in (DIEGO, ELENA, GLORIA):
        await madrid.issue_card(phone=phone)
    await madrid.issue_card(email=ELENAS_EMAIL)


async def _connect_all(place: Installation) -> tuple[Connection, Connection, Connection, Connection]:
    """Poster and a second account of it for Lviv, Serve and a till that was taught for Madrid."""
    connect, tills = place.host.services.onboarding.connect, place.tills
    per_ten = StampRule(kind="by_amount", amount=Money(1000, "UAH"), unknown_customer=UnknownCustomer.issue)
    per_order = StampRule(
        kind="per_order", unknown_customer=UnknownCustomer.hold, refunds=Refunds.flag, max_per_card_per_day=2
    )
    per_euro = StampRule(kind="by_amount", amount=Money(100, "EUR"), unknown_customer=UnknownCustomer.issue)
    serve = {"access_token": tills.madrid.token, "signing_secret": tills.madrid.secret}
    lviv = await connect(
        "poster", {"access_token": tills.lviv.token}, LVIV_KEY, lambda _: per_ten, ConnectOptions(title="Lviv")
    )
    madrid = await connect("serve", serve, MADRID_KEY, lambda _: per_order, ConnectOptions(title="Madrid"))
    corner = await connect("webhook", CORNER, MADRID_KEY, lambda _: per_euro, ConnectOptions(title="Corner"))
    kiosk = await connect(
        "poster", {"access_token": tills.kiosk.token}, LVIV_KEY, lambda _: per_ten, ConnectOptions(title="Kiosk")
    )
    return lviv, madrid, corner, kiosk


async def _sync(host: Host, *wanted: Connection) -> None:
    for connection in wanted:
        await host.services.sync.run(connection.id)


async def _use_the_console(place: Installation, lviv: Connection) -> Mapping[str, str]:
    """Sign in, whose cookies are returned, and leave a draft that a till posted to, a link, a passkey and an email."""
    host = place.host
    await host.services.connections.set_alert_email(lviv.id, "owner@example.com", "en")
    cafe = access.sessions.Principal(lviv.business_id, "Cafe", "Europe/Kyiv", "till", LVIV_KEY)
    await keep_passkey(host, cafe, "Corner phone")
    browsers = Browsers(host)
    browser = await browsers.new().sign_in(LVIV_KEY, remember="1")
    await browser.post("/devices/link")
    draft = (await browser.post("/connect/webhook")).headers["location"].split("/")[2]
    owned = await host.store.read(lambda tx: connections.drafts.get(tx, draft, lviv.business_id))
    if owned is None:
        raise RuntimeError("the console began no draft")
    body = json.dumps({"number": "1", "sum": "2.50"}).encode()
    (await place.hook(f"/hooks/tills/webhook/{owned.content.hook_token}", body)).raise_for_status()
    cookies = {cookie.name: str(cookie.value) for cookie in browser.client.cookies.jar}
    await browser.client.aclose()
    return cookies


async def _connected(place: Installation, title: str) -> Connection:
    """The connection of that title."""
    return next(
        connection for connection in await place.host.services.connections.list_all() if connection.title == title
    )


async def _write(place: Installation, folder: Path, target: Path, cookies: Mapping[str, str]) -> None:
    """Copy the database as it is at this moment, and what 7stamp and the host know of it."""
    compact = folder / "compact.db"
    with sqlite3.connect(folder / "ledger.db") as database:
        database.execute("VACUUM INTO ?", (str(compact),))
    (target / "ledger.db.gz").write_bytes(gzip.compress(compact.read_bytes(), 9, mtime=0))
    (target / "sevenstamp.jsonl").write_bytes((folder / "sevenstamp.jsonl").read_bytes())
    recorded = {
        "cookies": dict(cookies),
        "stamps": place.sandbox_stamps(),
        "readings": await readings(place.host),
    }
    (target / "recorded.json").write_text(json.dumps(recorded, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


# --- what pages and commands read -------------------------------------------------------------------------------------


async def readings(host: Host) -> dict[str, Any]:
    """Everything that people and scripts read of a database, as JSON; the words of messages are left out."""
    read: dict[str, Any] = {"installation": await host.store.read(_installation)}
    read["installation"]["told"] = await _told(host)
    for connection in await host.store.read(_connections_ever):
        read[connection.title] = await host.store.read(partial(_of_connection, connection=connection))
    for connection in await host.services.connections.list_all():
        read[connection.title]["shown"] = (await host.services.connections.describe(connection)).as_json()
        unread = await host.services.review.list_unread(connection.id)
        bodies = [await host.services.review.unread_body(connection.id, item.id) for item in unread]
        read[connection.title]["unread bodies"] = [hashlib.sha256(body).hexdigest()[:16] for body in bodies]
    # tuples become lists and enums texts, as in the file they are compared with
    return json.loads(json.dumps(read, default=str))  # type: ignore[no-any-return]


def _connections_ever(tx: Transaction) -> list[Connection]:
    """All connections of all businesses, removed ones too."""
    businesses = connections.businesses.list_all(tx)
    return [
        connection for business in businesses for connection in connections.registry.all_of_business(tx, business.id)
    ]


async def _told(host: Host) -> dict[str, Any]:
    """What programs and other addresses know of each business, and what each connection's comparison came to."""
    businesses = await host.store.read(connections.businesses.list_all)
    listed = await host.services.connections.list_all()
    return {
        "subscriptions": [
            (one.title, one.url, one.events, one.personal, one.state, one.pending)
            for business in businesses
            for one in await host.services.subscriptions.list_all(business.id)
        ],
        "tokens": [
            (one.title, sorted(one.scopes), one.ending)
            for business in businesses
            for one in await host.services.tokens.list_all(business.id)
        ],
        "events": [
            (one.name, one.stage)
            for business in businesses
            for one in await host.store.read(partial(inbox.loyalty_events.newest, business_id=business.id, limit=20))
        ],
        "comparisons": [
            (one.title, found.receipts, found.still_open)
            for one in listed
            if (found := await host.services.agreement.last(one)) is not None and found.finished_at is not None
        ],
    }


def _installation(tx: Transaction) -> dict[str, Any]:
    businesses = connections.businesses.list_all(tx)
    ids = sorted(business.id for business in businesses)
    return {
        "businesses": sorted((business.id, business.name, business.currency, business.zone) for business in businesses),
        "health": queries.installation.health_counts(tx),
        "overviews": sorted(
            (row.connection.title, row.stopped, row.without_card, row.on_its_way, row.hints, row.unread)
            for row in queries.overviews.overviews(tx, None)
        ),
        "devices": [
            (session.device, session.remembered) for owner in ids for session in access.sessions.devices(tx, owner)
        ],
        "passkeys": [passkey.label for owner in ids for passkey in access.passkeys.of_owner(tx, owner)],
        "drafts": [
            (draft.connector, draft.updated_at) for owner in ids for draft in connections.drafts.of_owner(tx, owner)
        ],
        "security log": [
            (event.kind, event.message.id) for owner in ids for event in access.security_log.list_newest(tx, owner)
        ],
    }


def _of_connection(tx: Transaction, connection: Connection) -> dict[str, Any]:
    operations = queries.operations.list_newest(tx, connection.id)
    sale_ids = sorted({operation.sale_id for operation in operations})
    days = ledger.daily_totals.of_days(tx, [connection.id], "2026-01-01")[connection.id]
    return {
        "health": connection.health,
        "rules": [
            (version.number, version.rule.model_dump_json())
            for version in connections.rules.of_connection(tx, connection.id)
        ],
        "journal": [(line.receipt_id, line.message.id) for line in ledger.journal.of_connection(tx, connection.id)],
        "operations": sorted(_operation(operation) for operation in operations),
        "tries": sorted(
            (history.operation.code, len(history.tries))
            for sale_id in sale_ids
            for history in queries.operations.of_sale(tx, sale_id)
        ),
        "receipts": sorted(_receipt(tx, connection, sale_id) for sale_id in sale_ids),
        "unread": [(item.where, item.why.id, item.origin) for item in inbox.unreadable.waiting(tx, connection, 200)],
        "days": {day: [sums.receipts, sums.stamps, sums.redemptions] for day, sums in days.items()},
        "email": watch.email if (watch := connections.alerts.watch_of(tx, connection.id)) is not None else None,
        "hints": inbox.hints.count_of(tx, connection.id),
        "unsettled": queries.operations.count_unsettled(tx, connection.id),
    }


def _operation(operation: ledger.operations.Operation) -> tuple[object, ...]:
    """An operation in an order in which operations can be sorted, with the exact request that it sends."""
    return (
        operation.receipt_id,
        operation.code,
        operation.kind,
        operation.count,
        operation.state,
        operation.hold or "",
        operation.redeem_code or "",
        operation.key,
        operation.request,
    )


def _receipt(tx: Transaction, connection: Connection, sale_id: str) -> tuple[object, ...]:
    """What a receipt's page shows, with every version that the till told."""
    page = queries.receipts.details(tx, connection.id, sale_id)
    if page is None:
        raise LookupError(f"sale {sale_id} has operations and no receipt")
    return (
        page.receipt.receipt_id,
        page.receipt.paid,
        page.refunded,
        page.receipt.stamps,
        page.rule_number or 0,
        page.receipt.card_hint or "",
        [version.content.model_dump_json() for version in page.versions],
    )


def main() -> None:
    """Write a database of this version to the folder that is named."""
    # nothing of the machine's own settings reaches it
    for name in list(os.environ):
        if name.startswith(("CONNECTORS_", "POSTER_", "SERVE_", "WEBHOOK_")):
            del os.environ[name]
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(make(Path(folder), target))


if __name__ == "__main__":
    main()
