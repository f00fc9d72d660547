"""A customer who is forgotten leaves no trace, the sums stay as they were, and the next poll brings nobody back."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from connector_sdk.messages import Message
from connector_sdk.money import Money as Amount
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import DAY, SystemClock
from connectors.domain.connection import Connection
from connectors.domain.operation import State
from connectors.domain.person import MASKED_CARD, PersonMatcher, Reference
from connectors.services.people import reference_from
from connectors.sevenstamp.sandbox import Faults
from connectors.store import connections, inbox, ledger
from connectors.store.schema import kept_table, metadata
from connectors.sync import erasure, identification, person_search
from connectors.sync.retention import Retention
from tests.sync.test_by_hand import sums_are_true
from tests.town import ANNA, BORYS, KEY, Town, build
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


class Later:
    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SystemClock().now() + self.ahead


async def nothing(_done: float) -> None:
    return


async def forget(town: Town, text: str, *, business: int = 0) -> person_search.Counts:
    businesses = await town.host.services.people.businesses(None)
    return (
        await town.host.services.people.forget_person(reference_from(text, "UA"), businesses[business], nothing)
    ).counts


async def count(town: Town, text: str) -> person_search.Counts:
    (business,) = await town.host.services.people.businesses(None)
    return (await town.host.services.people.count_person(reference_from(text, "UA"), business, nothing)).counts


async def everything(town: Town) -> str:
    """Every value in the database, what is encrypted opened."""
    vault = town.host.store.vault

    def read(tx: Any) -> str:
        texts = []
        for table in metadata.tables.values():
            for row in tx.run(sqlalchemy.select(table)):
                for value in row:
                    encrypted = isinstance(value, str) and value.startswith(f"{vault.key_id}:")
                    texts.append(f"{table.name}: {vault.decrypt(value) if encrypted else value}")
        return "\n".join(texts)

    return await town.host.store.read(read)


def traces_of_anna(text: str, *more: str) -> list[str]:
    return [line for line in text.splitlines() for name in (*SPELLINGS, EMAIL, NAME, *more) if name in line]


def sent(number: str, phone: str = "(050) 111-22-01", **more: Any) -> bytes:
    at = datetime.now(UTC).isoformat()
    guest = {"phone": phone, "email": EMAIL if phone != BORYS else None, "name": f"Anna {NAME}"}
    return json.dumps({"id": number, "total": "25.00", "at": at, "guest": guest, **more}).encode()


async def hook(town: Town, one: Connection, body: bytes) -> int:
    path = str(town.host.services.connections.hook_url(one)).removeprefix(town.host.public_url)
    return (await town.hook(body, path=path)).status_code


async def two_tills(town: Town) -> Connection:
    """A Poster and any till of one cafe, with Anna and Borys in everything that either of them leaves behind."""
    await town.connect(BY_AMOUNT)
    anna, borys = town.cafe.client(ANNA, email=EMAIL), town.cafe.client(BORYS)
    for who in (anna, borys, anna):
        town.cafe.sell(who, paid=2750)
    await town.sync()
    any_till = await town.host.services.onboarding.connect("webhook", ANY_TILL, KEY, lambda _account: BY_AMOUNT)
    assert await hook(town, any_till, sent("w1")) == 200
    assert await hook(town, any_till, sent("w2", BORYS)) == 200
    assert await hook(town, any_till, sent("w3", total="much")) == 200  # kept unread
    assert await hook(town, any_till, sent("w4", BORYS, total="much").replace(NAME.encode(), b"Melnyk")) == 200
    draft = await town.host.store.write(
        lambda tx: connections.drafts.begin(tx, any_till.business_id, "webhook", listens=True)
    )
    found = await town.host.store.read(lambda tx: connections.drafts.get(tx, draft, any_till.business_id))
    assert found is not None
    path = f"/hooks/tills/webhook/{found.content['hook_token']}"
    assert (await town.hook(sent("w5"), path=path)).status_code == 200
    sample = {**found.content, "sample": {"body": sent("w5").decode(), "headers": {}, "id": "x"}}
    await town.host.store.write(lambda tx: connections.drafts.save(tx, found, sample))
    await town.host.services.sync.run(any_till.id)
    return any_till


def number_of(town: Town, phone: str) -> str:
    return next(card.number for card in town.sevenstamp.state.cards.values() if card.phone == phone)


async def planned(town: Town) -> list[tuple[Any, ...]]:
    """Every operation as the sums count it."""

    def read(tx: Any) -> list[tuple[Any, ...]]:
        operation = metadata.tables["operation"]
        wanted = (operation.c.id, operation.c.card_id, operation.c.kind, operation.c.count, operation.c.state)
        return [tuple(row) for row in tx.run(sqlalchemy.select(*wanted).order_by(operation.c.seq))]

    return await town.host.store.read(read)


@pytest.mark.parametrize("by", ["phone", "email", "number"])
async def test_no_trace_of_the_person_is_left_and_the_sums_are_the_same(town: Town, tmp_path: Path, by: str) -> None:
    any_till = await two_tills(town)
    stamps, before = (town.stamps(ANNA), town.stamps(BORYS)), await planned(town)
    assert stamps == (6, 4)
    number = number_of(town, ANNA)
    assert traces_of_anna(await everything(town))
    counts = await count(town, {"phone": ANNA, "email": EMAIL, "number": number}[by])
    assert (counts.receipts, counts.requests, counts.drafts) == (3, 3, 1)
    assert traces_of_anna(await everything(town))  # counting changes nothing
    assert await forget(town, {"phone": ANNA, "email": EMAIL, "number": number}[by]) == counts
    left = await everything(town)
    assert traces_of_anna(left, number) == []
    assert not re.search(rf"card.{{1,12}}{number[-4:]}|^(sale|operation|binding): {number[-4:]}$", left, re.MULTILINE)
    assert MASKED_CARD in left
    files = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))  # noqa: ASYNC240 - a test
    assert len(files) > 100_000
    assert f'"card":"{number[-4:]}"'.encode() not in files
    for name in (*SPELLINGS, EMAIL, NAME):
        assert name.encode() not in files
    # the sums are what they were, and Borys is as he was
    assert await planned(town) == before
    assert (town.stamps(ANNA), town.stamps(BORYS)) == stamps
    assert BORYS in left
    await sums_are_true(town, town.connection.id, any_till.id)
    kept_now = await town.host.store.read(lambda tx: inbox.unreadable.with_bodies(tx, any_till.id))
    assert [b"Melnyk" in one.body for one in kept_now] == [True]
    assert not await count(town, ANNA)
    assert not await count(town, EMAIL)
    assert not await count(town, number)


async def test_the_same_receipts_bring_nobody_back(town: Town) -> None:
    any_till = await two_tills(town)
    first = sent("w9")
    assert await hook(town, any_till, first) == 200
    await town.host.services.sync.run(any_till.id)
    await forget(town, ANNA)
    given, before = len(town.applied()), await planned(town)
    await town.sync()
    since = datetime.now(UTC).date().isoformat()
    await town.host.services.sync.backfill(town.connection.id, since, _quietly)
    assert await hook(town, any_till, first) == 200
    await town.host.services.sync.run(any_till.id)
    assert traces_of_anna(await everything(town)) == []
    assert (len(town.applied()), await planned(town)) == (given, before)


async def _quietly(_now: Any) -> None:
    return


async def test_a_receipt_never_seen_before_brings_nobody_back_if_it_is_older(town: Town) -> None:
    any_till = await two_tills(town)
    older = sent("w8")
    await forget(town, ANNA)
    assert await hook(town, any_till, older) == 200
    await town.host.services.sync.run(any_till.id)
    assert traces_of_anna(await everything(town)) == []
    assert town.stamps(ANNA) == 6


async def test_who_comes_again_is_a_customer_like_any_other(town: Town) -> None:
    await two_tills(town)
    await forget(town, ANNA)
    town.cafe.sell(town.cafe.client(ANNA), paid=2000)
    await town.sync()
    assert town.stamps(ANNA) == 8
    assert traces_of_anna(await everything(town))
    assert (await forget(town, ANNA)).receipts == 1 + 3  # the older ones by the card that is known again
    assert traces_of_anna(await everything(town)) == []


async def test_a_refund_afterwards_still_takes_back_what_was_given(town: Town) -> None:
    any_till = await two_tills(town)
    first = sorted(town.cafe.receipts)[-3]
    await forget(town, ANNA)
    town.cafe.refund(first)
    await town.sync()
    assert town.stamps(ANNA) == 4
    assert await hook(town, any_till, sent("w1", refunded="10.00")) == 200
    await town.host.services.sync.run(any_till.id)
    assert town.stamps(ANNA) == 3
    town.cafe.remove(sorted(town.cafe.receipts)[-1])
    await town.sync()
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (1, 4)
    assert traces_of_anna(await everything(town), number_of(town, ANNA)) == []
    await sums_are_true(town, town.connection.id, any_till.id)


async def test_what_was_not_sent_is_ended_and_what_is_in_doubt_is_finished(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    waits, doubtful = town.cafe.sell(town.cafe.client(ANNA)), town.cafe.sell(town.cafe.client(BORYS))
    assert town.host.sevenstamp is not None
    await town.host.sevenstamp.with_key(KEY).issue_card(phone=BORYS)
    town.sevenstamp.faults = Faults(drop_after=1.0)
    await town.sync()
    town.sevenstamp.faults = Faults()
    states = {one.receipt_id: one.state for one in await town.operations()}
    assert states == {str(waits): State.held, str(doubtful): State.uncertain}
    anna, borys = await forget(town, ANNA), await forget(town, BORYS)
    assert (anna.operations_ended, anna.being_sent) == (1, 0)
    assert (borys.operations_ended, borys.being_sent) == (0, 1)
    await until_settled(town)
    await town.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await town.sync()
    by_receipt = {one.receipt_id: one for one in await town.operations()}
    ended, finished = by_receipt[str(waits)], by_receipt[str(doubtful)]
    assert (ended.state, ended.reason.id if ended.reason else "") == (State.rejected, "why.forgotten")
    assert finished.state is State.applied
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (0, 1)
    assert ANNA not in await everything(town)
    assert BORYS not in await everything(town)
    assert any("asked to be forgotten" in line for line in await town.journal())


async def until_settled(town: Town) -> None:
    while any(one.state in (State.uncertain, State.sending) for one in await town.operations()):
        await town.sync()


async def test_a_search_on_its_way_brings_nobody_back(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    await town.connect()
    town.cafe.sell(town.cafe.client(ANNA))
    look = identification._find_card

    async def and_meanwhile(*given: Any, **more: Any) -> Any:
        answer = await look(*given, **more)
        await forget(town, ANNA)
        return answer

    monkeypatch.setattr(identification, "_find_card", and_meanwhile)
    await town.sync()
    assert traces_of_anna(await everything(town)) == []
    cards = metadata.tables["known_card"]
    assert await town.host.store.read(lambda tx: tx.run(sqlalchemy.select(cards)).all()) == []
    assert town.applied() == []


async def test_two_people_who_share_an_email_stay_two(town: Town) -> None:
    any_till = await two_tills(town)
    # Borys gives Anna's email beside his phone, on a receipt whose card is his
    assert town.host.sevenstamp is not None
    shared = sent("w6", BORYS)
    shared = json.dumps({**json.loads(shared), "guest": {"phone": BORYS, "email": EMAIL}}).encode()
    assert await hook(town, any_till, shared) == 200
    await town.host.services.sync.run(any_till.id)
    borys = town.stamps(BORYS)
    assert borys == 6
    await forget(town, BORYS)
    left = await everything(town)
    assert BORYS not in left
    assert ANNA in left
    assert (await count(town, ANNA)).receipts == 3


async def test_one_cafe_forgets_only_its_own_customers(town: Town, tmp_path: Path) -> None:
    await two_tills(town)
    other = await town.host.services.onboarding.connect(
        "webhook", {**ANY_TILL, "till_id": "other"}, f"{THEIRS}", lambda _a: BY_AMOUNT
    )
    assert await hook(town, other, sent("x1")) == 200
    await town.host.services.sync.run(other.id)
    businesses = {one.id for one in await town.host.services.people.businesses(None)}
    assert businesses == {town.connection.business_id, other.business_id}
    mine = next(one for one in await town.host.services.people.businesses(town.connection.business_id))
    await town.host.services.people.forget_person(Reference("phone", ANNA), mine, nothing)
    theirs = await town.host.store.read(lambda tx: ledger.sales.newest_closed(tx, other.id))
    assert [one.customer is not None for one in theirs] == [True]
    mine_now = await town.host.store.read(lambda tx: ledger.sales.newest_closed(tx, town.connection.id))
    assert [one.customer is not None for one in mine_now].count(True) == 1  # Borys
    assert await hook(town, other, sent("x2")) == 200
    await town.host.services.sync.run(other.id)
    assert len(await town.host.store.read(lambda tx: ledger.sales.newest_closed(tx, other.id))) == 2


THEIRS = "7loc_sc_another_business_77aa"


async def test_forgetting_that_was_cut_off_goes_on_where_it_is_run_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_tills(town)
    real, budget = town.host.store.write, 0

    async def cut_off(*given: Any, **more: Any) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise RuntimeError("the power went")
        return await real(*given, **more)

    monkeypatch.setattr(erasure, "_ERASED_AT_ONCE", 1)
    for writes in range(1, 12):
        budget = writes
        monkeypatch.setattr(town.host.store, "write", cut_off)
        with contextlib.suppress(RuntimeError):
            await forget(town, ANNA)
        monkeypatch.setattr(town.host.store, "write", real)
    await forget(town, ANNA)
    assert traces_of_anna(await everything(town), number_of(town, ANNA)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"tel": "+380501112201"}', True),
        ('{"tel": "0501112201"}', True),
        ('{"tel": "+38 (050) 111-22-01"}', True),
        ('{"tel": 380501112201}', True),
        ("phone=%2B380501112201&x=1", True),
        ("phone=050+111+22+01", True),
        ('{"tel": "+3805011122013"}', False),
        ('{"mail": "Anna.Kovalenko@Example.com"}', True),
        ('{"mail": "anna.kovalenko\u0040example.com"}', True),
        ("mail=anna.kovalenko%40example.com", True),
        ('{"mail": "joanna.kovalenko@example.com"}', False),
        ('{"mail": "anna.kovalenko@example.com.ua"}', False),
        ('{"card": "123456"}', True),
        ('{"card": "123 456"}', True),
        ('{"at": 1234567}', False),
        ('{"client_id": "5", "id": "77"}', True),
        ('{"customer": {"id": 5}}', True),
        ('{"id": "5", "client_id": "77"}', False),
    ],
)
def test_a_person_is_recognised_however_they_are_written(text: str, found: bool) -> None:
    names = frozenset({Reference("phone", ANNA), Reference("email", EMAIL), Reference("number", "123456")})
    assert PersonMatcher(names, frozenset({"5"})).matches(text) is found


@pytest.mark.parametrize("odd", ["\\", "0", " ", "5 ", "anna.", "%", "+", "[", '{"a":', "(050) "])
def test_a_long_odd_body_is_looked_through(odd: str) -> None:
    """A pattern that goes back again and again would not come to an end here."""
    traces = PersonMatcher(
        frozenset({Reference("phone", ANNA), Reference("email", EMAIL), Reference("number", "123456")})
    )
    assert not traces.matches(odd * (256 * 1024 // len(odd)))


# --- retention ------------------------------------------------------------------------------------------------------


async def test_a_round_of_retention_deletes_a_little_at_a_time_and_goes_on_to_the_end(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_till = await two_tills(town)
    stamps, before = (town.stamps(ANNA), town.stamps(BORYS)), await planned(town)
    for number in range(30):
        assert await hook(town, any_till, sent(f"k{number}", total="much")) == 200
        await town.host.store.write(lambda tx: ledger.journal.write(tx, any_till.id, Message("connection.email")))
    clock = town.host.store.clock = Later()
    swept = Retention(town.host.store, bodies_days=30, journal_days=400)
    assert (await swept.round()).bodies == 0
    clock.ahead = 31 * DAY
    sizes: list[int] = []

    def bounded(work: Any, name: str) -> Any:
        def counted(tx: Any, since: int, limit: int) -> int:
            number = work(tx, since, min(limit, 7))
            assert limit <= 500
            sizes.append(number)
            return int(number)

        return counted

    for module, name in (
        (inbox.unreadable, "sweep"),
        (ledger.journal, "sweep"),
        (ledger.retention, "sweep_sales"),
    ):
        monkeypatch.setattr(module, name, bounded(getattr(module, name), name))
    monkeypatch.setattr("connectors.sync.retention.TURNS", 2)
    rounds = [await swept.round()]
    while rounds[-1].unfinished:
        rounds.append(await swept.round())
    assert [(one.bodies, one.lines, one.sales) for one in rounds] == [(14, 0, 0), (14, 0, 0), (4, 0, 0)]
    monkeypatch.setattr("connectors.sync.retention.TURNS", 50)
    assert await town.host.store.read(lambda tx: tx.run(sqlalchemy.select(kept_table)).all()) == []
    assert traces_of_anna(await everything(town))  # sales stay as they are
    clock.ahead = 401 * DAY
    done = await swept.round()
    assert done.lines > 60
    assert done.sales == 5
    assert max(sizes) == 7
    await town.host.store.write(connections.drafts.sweep)
    left = await everything(town)
    assert traces_of_anna(left, number_of(town, ANNA)) == []
    assert BORYS not in left
    assert await planned(town) == before
    town.cafe.refund(sorted(town.cafe.receipts)[-1])
    await town.host.services.sync.backfill(town.connection.id, datetime.now(UTC).date().isoformat(), _quietly)
    assert (town.stamps(ANNA), town.stamps(BORYS)) == (stamps[0] - 2, stamps[1])
    assert traces_of_anna(await everything(town), number_of(town, ANNA)) == []
    await sums_are_true(town, town.connection.id, any_till.id)


async def test_a_sale_that_was_never_closed_keeps_its_customer_no_longer(town: Town) -> None:
    values = {**ANY_TILL, "map_status": "state", "closed_statuses": "paid", "open_statuses": "pending"}
    await town.connect(BY_AMOUNT)
    any_till = await town.host.services.onboarding.connect("webhook", values, KEY, lambda _account: BY_AMOUNT)
    assert await hook(town, any_till, sent("w1", state="pending")) == 200
    assert traces_of_anna(await everything(town))
    clock = town.host.store.clock = Later()
    clock.ahead = 401 * DAY
    assert (await Retention(town.host.store, bodies_days=30, journal_days=400).round()).sales == 1
    await town.host.store.write(lambda tx: inbox.captured.sweep_samples(tx, tx.now, 100))
    assert traces_of_anna(await everything(town)) == []


async def test_what_arrives_while_a_person_is_looked_for_is_forgotten_too(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    any_till = await two_tills(town)
    find, arrived = person_search.find_person, []

    async def slow(*arguments: Any, **more: Any) -> person_search.FoundPerson:
        found = await find(*arguments, **more)
        if not arrived:
            arrived.append(await hook(town, any_till, sent("late")))
            arrived.append(await hook(town, any_till, sent("later", total="much")))
        return found

    monkeypatch.setattr(person_search, "find_person", slow)
    await forget(town, ANNA)
    assert arrived == [200, 200]
    assert traces_of_anna(await everything(town)) == []


async def test_a_sale_that_still_waits_keeps_its_customer(town: Town) -> None:
    await town.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    town.cafe.sell(town.cafe.client(ANNA))
    await town.sync()
    clock = town.host.store.clock = Later()
    clock.ahead = 20 * DAY
    assert (await Retention(town.host.store, bodies_days=7, journal_days=7).round()).sales == 0
    clock.ahead = 0
    assert town.host.sevenstamp is not None
    await town.host.sevenstamp.with_key(KEY).issue_card(phone=ANNA)
    await town.sync()
    assert town.stamps(ANNA) == 1


async def test_settings_say_how_long_things_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONNECTORS_KEEP_BODIES_DAYS", "5")
    monkeypatch.setenv("CONNECTORS_KEEP_JOURNAL_DAYS", "7")
    async with build(tmp_path, monkeypatch) as town:
        await two_tills(town)
        clock = town.host.store.clock = Later()
        clock.ahead = 6 * DAY
        await town.host._tidy()
        assert await town.host.store.read(lambda tx: tx.run(sqlalchemy.select(kept_table)).all()) == []
        assert traces_of_anna(await everything(town))
        clock.ahead = 8 * DAY
        await town.host._tidy()
        assert traces_of_anna(await everything(town)) == []
        assert await town.host.store.read(lambda tx: ledger.journal.of_connection(tx, town.connection.id)) == []
