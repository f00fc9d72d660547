"""A customer who is forgotten leaves no trace, the sums stay as they were, and the next poll brings nobody back."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from connector_sdk.messages import Message
from connector_sdk.money import Money as Amount
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import DAY, SteadyClock
from connectors.domain.connection import Connection
from connectors.domain.operation import State
from connectors.domain.person import MASKED_CARD, Reference
from connectors.services.people import reference_from
from connectors.sevenstamp.sandbox import Faults
from connectors.store import connections, inbox, ledger
from connectors.store.connections.drafts import Sample
from connectors.store.engine import Transaction
from connectors.store.schema import kept_table, metadata
from connectors.sync import erasure, identification, person_search
from connectors.sync.retention import Retention
from tests.databases import ON_POSTGRESQL
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.sync.test_decisions import assert_totals_are_true
from tests.webhook.test_mapping import BASE

EMAIL, NAME = "anna.kovalenko@example.com", "Kovalenko"
SPELLINGS = (ANNA, ANNA.lstrip("+"), "0" + ANNA[4:], ANNA[4:], "050 111 22 01", "(050) 111-22-01", "050-111-22-01")
BY_AMOUNT = StampRule(
    kind="by_amount", amount=Amount.from_decimal("10.00", "UAH"), unknown_customer=UnknownCustomer.issue
)
ANY_TILL = {
    **BASE,
    "currency": "UAH",
    "zone": "Europe/Kyiv",
    "country": "UA",
    "map_receipt_id": "id",
    "map_paid": "total",
    "map_closed_at": "at",
    "map_phone": "guest.phone",
    "map_email": "guest.email",
    "map_refunded": "refunded",
}


class ShiftedClock:
    """The system's clock, `ahead` by so many microseconds."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


async def ignore_progress(_progress: object) -> None:
    """Progress that nobody watches."""


async def forget(installation: Installation, text: str) -> person_search.Counts:
    """Forget whoever has a name; return what was erased."""
    business, *_others = await installation.host.services.people.businesses(None)
    name = reference_from(text, "UA")
    return (await installation.host.services.people.forget_person(name, business, ignore_progress)).counts


async def count(installation: Installation, text: str) -> person_search.Counts:
    (business,) = await installation.host.services.people.businesses(None)
    return (
        await installation.host.services.people.count_person(reference_from(text, "UA"), business, ignore_progress)
    ).counts


async def decrypted_database(installation: Installation) -> str:
    """Every value in the database as a line of text, decrypted where it is encrypted."""
    vault = installation.host.store.vault

    def read(tx: Transaction) -> str:
        texts = []
        for table in metadata.tables.values():
            for row in tx.run(sqlalchemy.select(table)):
                for value in row:
                    encrypted = isinstance(value, str) and value.startswith(f"{vault.key_id}:")
                    texts.append(f"{table.name}: {vault.decrypt(value) if encrypted else value}")
        return "\n".join(texts)

    return await installation.host.store.read(read)


def traces_of_anna(text: str, *more_names: str) -> list[str]:
    """The lines that name Anna, however she is spelled."""
    names = [re.escape(name) for name in (*SPELLINGS, EMAIL, NAME)]
    # not within a longer number: a time in microseconds holds any six digits now and then
    names += [rf"(?<![0-9]){re.escape(name)}(?![0-9])" for name in more_names]
    pattern = re.compile("|".join(names))
    return [line for line in text.splitlines() if pattern.search(line)]


def hook_body(receipt_id: str, phone: str = "(050) 111-22-01", **changes: Any) -> bytes:
    """Build a hook of one sale; with `total="much"` it cannot be read."""
    at = datetime.now(UTC).isoformat()
    guest = {"phone": phone, "email": EMAIL if phone != BORYS else None, "name": f"Anna {NAME}"}
    return json.dumps({"id": receipt_id, "total": "25.00", "at": at, "guest": guest, **changes}).encode()


async def send_hook(installation: Installation, connection: Connection, body: bytes) -> int:
    """Send a hook to a connection's own address; return the status of the answer."""
    path = str(installation.host.services.connections.hook_url(connection)).removeprefix(installation.host.public_url)
    return (await installation.hook(body, path=path)).status_code


async def two_tills(installation: Installation) -> Connection:
    """Connect a Poster and a webhook till of one cafe, with Anna and Borys in everything that a till leaves behind."""
    await installation.connect(BY_AMOUNT)
    anna, borys = installation.cafe.client(ANNA, email=EMAIL), installation.cafe.client(BORYS)
    for client in (anna, borys, anna):
        installation.cafe.sell(client, paid=2750)
    await installation.sync()
    any_till = await installation.host.services.onboarding.connect("webhook", ANY_TILL, KEY, lambda _account: BY_AMOUNT)
    assert await send_hook(installation, any_till, hook_body("w1")) == 200
    assert await send_hook(installation, any_till, hook_body("w2", BORYS)) == 200
    assert await send_hook(installation, any_till, hook_body("w3", total="much")) == 200  # kept unread
    assert (
        await send_hook(installation, any_till, hook_body("w4", BORYS, total="much").replace(NAME.encode(), b"Melnyk"))
        == 200
    )
    drafts = installation.host.services.drafts
    draft = await drafts.find(any_till.business_id, await drafts.begin(any_till.business_id, "webhook"))
    assert draft is not None
    path = f"/hooks/tills/webhook/{draft.content.hook_token}"
    assert (await installation.hook(hook_body("w5"), path=path)).status_code == 200
    sample = Sample.from_request(hook_body("w5"), {}, "x")
    await drafts.save(draft, draft.content.model_copy(update={"sample": sample}))
    await installation.host.services.sync.run(any_till.id)
    return any_till


def card_number_of(installation: Installation, phone: str) -> str:
    return next(card.number for card in installation.sevenstamp.state.cards.values() if card.phone == phone)


async def planned_operations(installation: Installation) -> list[tuple[object, ...]]:
    """Every operation as the daily totals count it."""

    def read(tx: Transaction) -> list[tuple[object, ...]]:
        operation = metadata.tables["operation"]
        columns = (operation.c.id, operation.c.card_id, operation.c.kind, operation.c.count, operation.c.state)
        return [tuple(row) for row in tx.run(sqlalchemy.select(*columns).order_by(operation.c.seq))]

    return await installation.host.store.read(read)


@pytest.mark.parametrize("by", ["phone", "email", "number"])
async def test_forgetting_leaves_no_trace_and_changes_no_total(
    installation: Installation, tmp_path: Path, by: str
) -> None:
    any_till = await two_tills(installation)
    stamps, before = (installation.stamps(ANNA), installation.stamps(BORYS)), await planned_operations(installation)
    assert stamps == (6, 4)
    number = card_number_of(installation, ANNA)
    assert traces_of_anna(await decrypted_database(installation))
    counts = await count(installation, {"phone": ANNA, "email": EMAIL, "number": number}[by])
    assert (counts.receipts, counts.requests, counts.drafts) == (3, 3, 1)
    assert traces_of_anna(await decrypted_database(installation))  # counting changes nothing
    assert await forget(installation, {"phone": ANNA, "email": EMAIL, "number": number}[by]) == counts
    left = await decrypted_database(installation)
    assert traces_of_anna(left, number) == []
    assert not re.search(rf"card.{{1,12}}{number[-4:]}|^(sale|operation|binding): {number[-4:]}$", left, re.MULTILINE)
    assert MASKED_CARD in left
    files = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))  # noqa: ASYNC240 - a test
    assert len(files) > 100_000 or ON_POSTGRESQL
    assert f'"card":"{number[-4:]}"'.encode() not in files
    for name in (*SPELLINGS, EMAIL, NAME):
        assert name.encode() not in files
    # the sums are what they were, and Borys is as he was
    assert await planned_operations(installation) == before
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == stamps
    assert BORYS in left
    await assert_totals_are_true(installation, installation.connection.id, any_till.id)
    entries = await installation.host.store.read(lambda tx: inbox.unreadable.with_bodies(tx, any_till.id))
    assert [b"Melnyk" in entry.body for entry in entries] == [True]
    assert not await count(installation, ANNA)
    assert not await count(installation, EMAIL)
    assert not await count(installation, number)


async def test_receipts_that_are_read_again_bring_nobody_back(installation: Installation) -> None:
    any_till = await two_tills(installation)
    first = hook_body("w9")
    assert await send_hook(installation, any_till, first) == 200
    await installation.host.services.sync.run(any_till.id)
    await forget(installation, ANNA)
    applied, before = len(installation.applied()), await planned_operations(installation)
    await installation.sync()
    since = datetime.now(UTC).date().isoformat()
    await installation.host.services.sync.backfill(installation.connection.id, since, ignore_progress)
    assert await send_hook(installation, any_till, first) == 200
    await installation.host.services.sync.run(any_till.id)
    assert traces_of_anna(await decrypted_database(installation)) == []
    assert (len(installation.applied()), await planned_operations(installation)) == (applied, before)


async def test_an_older_receipt_that_arrives_late_brings_nobody_back(installation: Installation) -> None:
    any_till = await two_tills(installation)
    older = hook_body("w8")
    await forget(installation, ANNA)
    assert await send_hook(installation, any_till, older) == 200
    await installation.host.services.sync.run(any_till.id)
    assert traces_of_anna(await decrypted_database(installation)) == []
    assert installation.stamps(ANNA) == 6


async def test_somebody_forgotten_who_comes_again_is_a_customer_like_any_other(installation: Installation) -> None:
    await two_tills(installation)
    await forget(installation, ANNA)
    installation.cafe.sell(installation.cafe.client(ANNA), paid=2000)
    await installation.sync()
    assert installation.stamps(ANNA) == 8
    assert traces_of_anna(await decrypted_database(installation))
    assert (await forget(installation, ANNA)).receipts == 1 + 3  # the older ones by the card that is known again
    assert traces_of_anna(await decrypted_database(installation)) == []


async def test_a_refund_after_forgetting_still_takes_the_stamps_back(installation: Installation) -> None:
    any_till = await two_tills(installation)
    first = sorted(installation.cafe.receipts)[-3]
    await forget(installation, ANNA)
    installation.cafe.refund(first)
    await installation.sync()
    assert installation.stamps(ANNA) == 4
    assert await send_hook(installation, any_till, hook_body("w1", refunded="10.00")) == 200
    await installation.host.services.sync.run(any_till.id)
    assert installation.stamps(ANNA) == 3
    installation.cafe.remove(sorted(installation.cafe.receipts)[-1])
    await installation.sync()
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 4)
    assert traces_of_anna(await decrypted_database(installation), card_number_of(installation, ANNA)) == []
    await assert_totals_are_true(installation, installation.connection.id, any_till.id)


async def test_forgetting_ends_what_was_not_sent_and_finishes_what_is_in_doubt(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    waits, doubtful = (
        installation.cafe.sell(installation.cafe.client(ANNA)),
        installation.cafe.sell(installation.cafe.client(BORYS)),
    )
    assert installation.host.sevenstamp is not None
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=BORYS)
    installation.sevenstamp.faults = Faults(drop_after=1.0)
    await installation.sync()
    installation.sevenstamp.faults = Faults()
    states = {operation.receipt_id: operation.state for operation in await installation.operations()}
    assert states == {str(waits): State.held, str(doubtful): State.uncertain}
    anna, borys = await forget(installation, ANNA), await forget(installation, BORYS)
    assert (anna.operations_ended, anna.being_sent) == (1, 0)
    assert (borys.operations_ended, borys.being_sent) == (0, 1)
    await sync_until_settled(installation)
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await installation.sync()
    by_receipt = {operation.receipt_id: operation for operation in await installation.operations()}
    ended, finished = by_receipt[str(waits)], by_receipt[str(doubtful)]
    assert (ended.state, ended.reason.id if ended.reason else "") == (State.rejected, "why.forgotten")
    assert finished.state is State.applied
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (0, 1)
    assert ANNA not in await decrypted_database(installation)
    assert BORYS not in await decrypted_database(installation)
    assert any("asked to be forgotten" in line for line in await installation.journal())


async def sync_until_settled(installation: Installation) -> None:
    while any(operation.state in (State.uncertain, State.sending) for operation in await installation.operations()):
        await installation.sync()


async def test_a_search_under_way_brings_nobody_back(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    find_card = identification._find_card

    async def find_and_forget_meanwhile(*arguments: Any, **options: Any) -> Any:
        answer = await find_card(*arguments, **options)
        await forget(installation, ANNA)
        return answer

    monkeypatch.setattr(identification, "_find_card", find_and_forget_meanwhile)
    await installation.sync()
    assert traces_of_anna(await decrypted_database(installation)) == []
    cards = metadata.tables["known_card"]
    assert await installation.host.store.read(lambda tx: tx.run(sqlalchemy.select(cards)).all()) == []
    assert installation.applied() == []


async def test_two_people_who_share_an_email_are_not_forgotten_together(installation: Installation) -> None:
    any_till = await two_tills(installation)
    # Borys gives Anna's email beside his phone, on a receipt whose card is his
    assert installation.host.sevenstamp is not None
    shared = hook_body("w6", BORYS)
    shared = json.dumps({**json.loads(shared), "guest": {"phone": BORYS, "email": EMAIL}}).encode()
    assert await send_hook(installation, any_till, shared) == 200
    await installation.host.services.sync.run(any_till.id)
    borys = installation.stamps(BORYS)
    assert borys == 6
    await forget(installation, BORYS)
    left = await decrypted_database(installation)
    assert BORYS not in left
    assert ANNA in left
    assert (await count(installation, ANNA)).receipts == 3


async def test_a_business_forgets_only_its_own_customers(installation: Installation, tmp_path: Path) -> None:
    await two_tills(installation)
    other = await installation.host.services.onboarding.connect(
        "webhook", {**ANY_TILL, "till_id": "other"}, KEY_OF_OTHER, lambda _a: BY_AMOUNT
    )
    assert await send_hook(installation, other, hook_body("x1")) == 200
    await installation.host.services.sync.run(other.id)
    businesses = {business.id for business in await installation.host.services.people.businesses(None)}
    assert businesses == {installation.connection.business_id, other.business_id}
    (own,) = await installation.host.services.people.businesses(installation.connection.business_id)
    await installation.host.services.people.forget_person(Reference("phone", ANNA), own, ignore_progress)
    sales_of_other = await installation.host.store.read(lambda tx: ledger.sales.newest_closed(tx, other.id))
    assert [sale.customer is not None for sale in sales_of_other] == [True]
    own_sales = await installation.host.store.read(
        lambda tx: ledger.sales.newest_closed(tx, installation.connection.id)
    )
    assert [sale.customer is not None for sale in own_sales].count(True) == 1  # Borys
    assert await send_hook(installation, other, hook_body("x2")) == 200
    await installation.host.services.sync.run(other.id)
    assert len(await installation.host.store.read(lambda tx: ledger.sales.newest_closed(tx, other.id))) == 2


KEY_OF_OTHER = "7loc_sc_another_business_77aa"


async def test_an_erasure_that_was_cut_off_can_be_run_again(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_tills(installation)
    write, budget = installation.host.store.write, 0

    async def write_until_cut_off(*arguments: Any, **options: Any) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise RuntimeError("the power went")
        return await write(*arguments, **options)

    monkeypatch.setattr(erasure, "_ERASED_AT_ONCE", 1)
    for writes in range(1, 12):
        budget = writes
        monkeypatch.setattr(installation.host.store, "write", write_until_cut_off)
        with contextlib.suppress(RuntimeError):
            await forget(installation, ANNA)
        monkeypatch.setattr(installation.host.store, "write", write)
    await forget(installation, ANNA)
    assert traces_of_anna(await decrypted_database(installation), card_number_of(installation, ANNA)) == []


# Retention


async def test_retention_deletes_a_little_at_a_time_until_nothing_is_left(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_till = await two_tills(installation)
    stamps, before = (installation.stamps(ANNA), installation.stamps(BORYS)), await planned_operations(installation)
    for number in range(30):
        assert await send_hook(installation, any_till, hook_body(f"k{number}", total="much")) == 200
        await installation.host.store.write(
            lambda tx: ledger.journal.write(tx, any_till.id, Message("connection.email"))
        )
    clock = installation.host.store.clock = ShiftedClock()
    retention = Retention(installation.host.store, bodies_days=30, journal_days=400)
    assert (await retention.round()).bodies == 0
    clock.ahead = 31 * DAY
    sizes: list[int] = []

    def in_sevens(sweep: Callable[[Transaction, int, int], int]) -> Callable[[Transaction, int, int], int]:
        def sweep_seven(tx: Transaction, since: int, limit: int) -> int:
            assert limit <= 500
            number = sweep(tx, since, min(limit, 7))
            sizes.append(number)
            return number

        return sweep_seven

    for module, name in (
        (inbox.unreadable, "sweep"),
        (ledger.journal, "sweep"),
        (ledger.retention, "sweep_sales"),
    ):
        monkeypatch.setattr(module, name, in_sevens(getattr(module, name)))
    monkeypatch.setattr("connectors.sync.retention.TURNS", 2)
    rounds = [await retention.round()]
    while rounds[-1].unfinished:
        rounds.append(await retention.round())
    assert [(swept.bodies, swept.lines, swept.sales) for swept in rounds] == [(14, 0, 0), (14, 0, 0), (4, 0, 0)]
    monkeypatch.setattr("connectors.sync.retention.TURNS", 50)
    assert await installation.host.store.read(lambda tx: tx.run(sqlalchemy.select(kept_table)).all()) == []
    assert traces_of_anna(await decrypted_database(installation))  # sales stay as they are
    clock.ahead = 401 * DAY
    swept = await retention.round()
    assert swept.lines > 60
    assert swept.sales == 5
    assert max(sizes) == 7
    await installation.host.store.write(connections.drafts.sweep)
    left = await decrypted_database(installation)
    assert traces_of_anna(left, card_number_of(installation, ANNA)) == []
    assert BORYS not in left
    assert await planned_operations(installation) == before
    installation.cafe.refund(sorted(installation.cafe.receipts)[-1])
    await installation.host.services.sync.backfill(
        installation.connection.id, datetime.now(UTC).date().isoformat(), ignore_progress
    )
    assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (stamps[0] - 2, stamps[1])
    assert traces_of_anna(await decrypted_database(installation), card_number_of(installation, ANNA)) == []
    await assert_totals_are_true(installation, installation.connection.id, any_till.id)


async def test_retention_erases_the_customer_of_a_sale_that_was_never_closed(installation: Installation) -> None:
    values = {**ANY_TILL, "map_status": "state", "closed_statuses": "paid", "open_statuses": "pending"}
    await installation.connect(BY_AMOUNT)
    any_till = await installation.host.services.onboarding.connect("webhook", values, KEY, lambda _account: BY_AMOUNT)
    assert await send_hook(installation, any_till, hook_body("w1", state="pending")) == 200
    assert traces_of_anna(await decrypted_database(installation))
    clock = installation.host.store.clock = ShiftedClock()
    clock.ahead = 401 * DAY
    assert (await Retention(installation.host.store, bodies_days=30, journal_days=400).round()).sales == 1
    await installation.host.store.write(lambda tx: inbox.captured.sweep_samples(tx, tx.now, 100))
    assert traces_of_anna(await decrypted_database(installation)) == []


async def test_a_hook_that_arrives_during_the_search_for_a_person_is_forgotten_too(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_till = await two_tills(installation)
    find_person, statuses = person_search.find_person, []

    async def find_while_hooks_arrive(*arguments: Any, **options: Any) -> person_search.FoundPerson:
        person = await find_person(*arguments, **options)
        if not statuses:
            statuses.append(await send_hook(installation, any_till, hook_body("late")))
            statuses.append(await send_hook(installation, any_till, hook_body("later", total="much")))
        return person

    monkeypatch.setattr(person_search, "find_person", find_while_hooks_arrive)
    await forget(installation, ANNA)
    assert statuses == [200, 200]
    assert traces_of_anna(await decrypted_database(installation)) == []


async def test_retention_keeps_the_customer_of_a_sale_that_waits(installation: Installation) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    clock = installation.host.store.clock = ShiftedClock()
    clock.ahead = 20 * DAY
    assert (await Retention(installation.host.store, bodies_days=7, journal_days=7).round()).sales == 0
    clock.ahead = 0
    assert installation.host.sevenstamp is not None
    await installation.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await installation.sync()
    assert installation.stamps(ANNA) == 1


async def test_settings_say_for_how_many_days_retention_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_KEEP_BODIES_DAYS", "5")
    monkeypatch.setenv("CONNECTORS_KEEP_JOURNAL_DAYS", "7")
    async with build(tmp_path, monkeypatch) as installation:
        await two_tills(installation)
        clock = installation.host.store.clock = ShiftedClock()
        clock.ahead = 6 * DAY
        await installation.host.maintenance.run()
        assert await installation.host.store.read(lambda tx: tx.run(sqlalchemy.select(kept_table)).all()) == []
        assert traces_of_anna(await decrypted_database(installation))
        clock.ahead = 8 * DAY
        await installation.host.maintenance.run()
        assert traces_of_anna(await decrypted_database(installation)) == []
        assert (
            await installation.host.store.read(lambda tx: ledger.journal.of_connection(tx, installation.connection.id))
            == []
        )
