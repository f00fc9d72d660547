"""Vouchers apart from receipts: issued once and used once, whatever gets lost on the way."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy

from connector_sdk.redeem_codes import find_redeem_codes
from connector_sdk.rule import StampRule
from connectors.domain.clock import HOUR, SECOND
from connectors.domain.vouchers import RequestState, new_redeem_code, tidy_redeem_code
from connectors.services import Refusal
from connectors.sevenstamp.sandbox import Faults
from connectors.store import ledger
from connectors.store.errors import NotFound
from connectors.store.ledger.voucher_requests import VoucherRequest
from connectors.sync.vouchers import WantedVoucher
from poster_connector.sandbox import Account
from tests.installation import ANNA, KEY, Installation, build
from tests.web.clock import MovableClock

COFFEE = WantedVoucher(title="A free coffee")
HORIZON = 3 * SECOND
"""Beyond the deadline and the settling time of these tests."""


class Counter:
    """An installation, and what its 7stamp has."""

    def __init__(self, installation: Installation, clock: MovableClock) -> None:
        self.installation, self.clock = installation, clock
        self.cards = installation.host.services.cards
        self.business = installation.connection.business_id
        self.state = installation.sevenstamp.state

    def faults(self, **faults: object) -> None:
        self.installation.sevenstamp.faults = Faults(**faults)  # type: ignore[arg-type]

    async def issue(self, wanted: WantedVoucher = COFFEE) -> VoucherRequest:
        return await self.cards.issue_voucher(self.business, wanted)

    async def look(self) -> int:
        assert self.installation.host.vouchers is not None
        return await self.installation.host.vouchers.round()

    async def stored(self, request: VoucherRequest) -> VoucherRequest:
        found = await self.installation.host.store.read(lambda tx: ledger.voucher_requests.find(tx, request.id))
        assert found is not None
        return found

    def redeemed(self) -> list[str]:
        used = [code for (_, code), voucher in self.state.vouchers.items() if voucher.status == "redeemed"]
        assert len(used) == len(self.installation.applied("voucher_redeemed")), "one was used twice"
        return used

    def issued(self) -> list[str]:
        return [code for business, code in self.state.vouchers if business == self.business]


@pytest.fixture
async def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counter]:
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, time=clock, call_deadline_seconds=1.0) as installation:
        await installation.connect()
        yield Counter(installation, clock)


async def test_a_voucher_is_issued_shown_and_used_once(counter: Counter) -> None:
    request = await counter.issue()
    assert request.state is RequestState.applied
    shown = await counter.cards.show_voucher(counter.business, request.redeem_code.lower())
    assert (shown.voucher.title, shown.voucher.status, shown.receipt) == ("A free coffee", "active", None)
    used = await counter.cards.redeem_voucher(counter.business, f" {request.redeem_code.lower()} ")
    assert used.state is RequestState.applied
    with pytest.raises(Refusal, match="this voucher was redeemed already"):
        await counter.cards.redeem_voucher(counter.business, request.redeem_code)
    assert counter.redeemed() == [request.redeem_code]
    with pytest.raises(NotFound):
        await counter.cards.show_voucher(counter.business, "NO-SUCH-CODE")
    with pytest.raises(NotFound, match="7stamp knows no voucher of this code"):
        await counter.cards.redeem_voucher(counter.business, "NO-SUCH-CODE")


async def test_a_voucher_that_a_receipt_redeemed_says_which(counter: Counter) -> None:
    request = await counter.issue(WantedVoucher(title="Cake", redeem_code="FREECAKE9"))
    receipt = counter.installation.cafe.sell(0, comment="FREECAKE9")
    await counter.installation.sync()
    with pytest.raises(Refusal, match=f"with receipt {receipt}"):
        await counter.cards.redeem_voucher(counter.business, request.redeem_code)


async def test_a_lost_answer_is_looked_up_and_nothing_is_done_twice(counter: Counter) -> None:
    counter.faults(drop_after=1.0, ignore_idempotency_keys=True)
    request = await counter.issue()
    assert request.state is RequestState.uncertain
    assert counter.issued() == [request.redeem_code]
    counter.faults(ignore_idempotency_keys=True)
    assert await counter.look() == 0  # not due: it may still take effect
    counter.clock.ahead += HORIZON
    assert await counter.look() == 1
    assert (await counter.stored(request)).state is RequestState.applied
    counter.faults(drop_after=1.0, ignore_idempotency_keys=True)
    used = await counter.cards.redeem_voucher(counter.business, request.redeem_code)
    assert used.state is RequestState.uncertain
    counter.faults(ignore_idempotency_keys=True)
    counter.clock.ahead += HORIZON
    await counter.look()
    assert (await counter.stored(used)).state is RequestState.applied
    assert counter.redeemed() == counter.issued() == [request.redeem_code]
    assert await counter.look() == 0


async def test_what_surely_did_not_arrive_is_sent_again_with_the_same_bytes(counter: Counter) -> None:
    counter.faults(drop_before=1.0)
    request = await counter.issue()
    assert request.state is RequestState.uncertain  # cut off: nobody knows
    assert counter.issued() == []
    counter.faults()
    counter.clock.ahead += HORIZON
    await counter.look()  # looked up: it is not there
    assert (await counter.stored(request)).state is RequestState.waiting
    await counter.look()  # sent again
    again = await counter.stored(request)
    assert (again.state, again.tries, again.request, again.key) == (
        RequestState.applied,
        2,
        request.request,
        request.key,
    )
    assert counter.issued() == [request.redeem_code]


async def test_a_look_that_begins_too_early_proves_nothing(counter: Counter) -> None:
    counter.faults(drop_before=1.0)
    request = await counter.issue()
    counter.faults()
    store = counter.installation.host.store
    # due by some clock, but its horizon has not come
    await store.write(lambda tx: ledger.voucher_requests.settle(tx, request, RequestState.uncertain, next_at=tx.now))
    await counter.look()
    assert (await counter.stored(request)).state is RequestState.uncertain
    assert counter.issued() == []


async def test_a_host_that_dies_while_it_sends_leaves_a_doubt_that_is_settled(counter: Counter) -> None:
    request = await counter.issue()
    store = counter.installation.host.store
    dead = VoucherRequest(
        id="dead", business_id=counter.business, connection_id=request.connection_id, kind=request.kind,
        redeem_code="DEADBEEF1", request='{"code": "voucher:dead", "title": "Tea", "redeem_code": "DEADBEEF1"}',
        state=RequestState.sending, reason=None, sent_at=store.clock.now(), tries=1, made_at=store.clock.now(),
        made_by=None,
    )  # fmt: skip
    await store.write(lambda tx: ledger.voucher_requests.insert(tx, dead, tx.now + HORIZON))
    assert await counter.look() == 0
    counter.clock.ahead += HORIZON
    await counter.look()
    counter.clock.ahead += SECOND
    await counter.look()
    assert (await counter.stored(dead)).state is RequestState.applied
    assert counter.issued() == [request.redeem_code, "DEADBEEF1"]


async def test_a_redeem_code_of_somebody_else_is_never_taken_for_ours(counter: Counter) -> None:
    await counter.issue(WantedVoucher(title="Theirs", redeem_code="WELCOME"))
    with pytest.raises(Refusal, match="is the redeem code new"):
        await counter.issue(WantedVoucher(title="Ours", redeem_code="WELCOME"))
    counter.faults(drop_before=1.0)
    request = await counter.issue(WantedVoucher(title="Ours", redeem_code="WELCOME"))
    counter.faults()
    counter.clock.ahead += HORIZON
    await counter.look()
    settled = await counter.stored(request)
    assert (settled.state, settled.reason) == (RequestState.refused, "invalid")


async def test_after_an_hour_without_7stamp_nothing_is_sent_any_more(counter: Counter) -> None:
    counter.faults(drop_before=1.0)
    request = await counter.issue()
    counter.faults()
    counter.clock.ahead += 2 * HOUR
    await counter.look()
    await counter.look()
    settled = await counter.stored(request)
    assert (settled.state, settled.reason) == (RequestState.given_up, "no_answer")
    assert counter.issued() == []


async def test_under_faults_every_voucher_is_issued_once_and_used_once(counter: Counter) -> None:
    chance = random.Random(11)
    bad: dict[str, object] = {
        "drop_before": 0.2, "drop_after": 0.3, "status_500": 0.2, "garbage": 0.1, "ignore_idempotency_keys": True,
    }  # fmt: skip
    requests: list[VoucherRequest] = []
    for number in range(12):
        counter.faults(**bad, seed=number)
        requests.append(await counter.issue())
        if chance.random() < 0.5:
            counter.clock.ahead += HORIZON
            await counter.look()
    for turn in range(40):
        counter.faults(**(bad if turn < 20 else {"ignore_idempotency_keys": True}), seed=100 + turn)
        counter.clock.ahead += HORIZON
        await counter.look()
    counter.clock.ahead += 60 * SECOND
    for _ in range(3):
        await counter.look()
    assert {(await counter.stored(one)).state for one in requests} == {RequestState.applied}
    assert sorted(counter.issued()) == sorted(one.redeem_code for one in requests)
    assert len(counter.installation.applied("voucher_issued")) == len(requests)


async def test_what_is_done_once_is_the_same_voucher_whatever_became_of_the_answer(counter: Counter) -> None:
    counter.faults(drop_after=1.0)
    first = await counter.cards.issue_voucher(counter.business, COFFEE, "birthday")
    counter.faults()
    # the host died, or its answer was lost: whoever asked asks again
    again = await counter.cards.issue_voucher(counter.business, COFFEE, "birthday")
    assert (again.id, again.redeem_code) == (first.id, first.redeem_code)
    counter.clock.ahead += HORIZON
    await counter.look()
    again = await counter.cards.issue_voucher(counter.business, COFFEE, "birthday")
    assert again.state is RequestState.applied
    assert counter.issued() == [first.redeem_code]
    other = await counter.cards.issue_voucher(counter.business, WantedVoucher(title="Tea"), "birthday")
    assert other.redeem_code != first.redeem_code
    for _ in range(2):
        used = await counter.cards.redeem_voucher(counter.business, first.redeem_code, "birthday")
        assert used.state is RequestState.applied
    assert counter.redeemed() == [first.redeem_code]


async def test_after_a_refusal_the_same_may_be_asked_for_again(counter: Counter) -> None:
    await counter.issue(WantedVoucher(title="Theirs", redeem_code="WELCOME"))
    ours = WantedVoucher(title="Ours", redeem_code="WELCOME")
    with pytest.raises(Refusal):
        await counter.cards.issue_voucher(counter.business, ours, "once")
    counter.state.vouchers.clear()
    assert (await counter.cards.issue_voucher(counter.business, ours, "once")).state is RequestState.applied


async def test_what_is_refused_again_and_again_under_one_key_stays_refused(counter: Counter) -> None:
    await counter.issue(WantedVoucher(title="Theirs", redeem_code="WELCOME"))
    ours = WantedVoucher(title="Ours", redeem_code="WELCOME")
    for _ in range(15):
        with pytest.raises(Refusal, match="is the redeem code new"):
            await counter.cards.issue_voucher(counter.business, ours, "once")
    rows = await counter.installation.host.store.read(
        lambda tx: tx.run(sqlalchemy.text("SELECT count(*) FROM voucher_request")).scalar()
    )
    assert rows == 11


async def test_of_a_business_no_more_wait_and_no_more_are_kept_than_may(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.store.ledger.voucher_requests.MOST_OPEN", 2)
    monkeypatch.setattr("connectors.store.ledger.voucher_requests.MOST_KEPT", 3)
    settled = [await counter.issue() for _ in range(4)]
    store = counter.installation.host.store
    kept = [await store.read(lambda tx, one=one: ledger.voucher_requests.find(tx, one.id)) for one in settled]  # type: ignore[misc]
    assert [one is not None for one in kept] == [False, True, True, True]
    counter.faults(drop_before=1.0)
    waiting = [await counter.issue(), await counter.issue()]
    with pytest.raises(Refusal, match="2 vouchers wait for 7stamp already"):
        await counter.issue()
    counter.faults()
    for _ in range(2):
        counter.clock.ahead += HORIZON
        await counter.look()
    assert [(await counter.stored(one)).state for one in waiting] == [RequestState.applied] * 2
    assert (await counter.issue()).state is RequestState.applied


async def test_a_code_that_a_person_chose_is_known_however_it_is_typed(counter: Counter) -> None:
    await counter.issue(WantedVoucher(title="Summer", redeem_code="summer-1"))
    assert counter.issued() == ["SUMMER-1"]
    assert (await counter.cards.redeem_voucher(counter.business, "Summer-1")).state is RequestState.applied


async def test_a_doubt_is_settled_by_another_till_of_the_business_and_at_last_by_nobody(counter: Counter) -> None:
    host = counter.installation.host
    other = Account(token="861053:5a9e1570ff9af128e93c5a771055bb21", name="other")
    counter.installation.till.accounts[other.token] = other
    second = await host.services.onboarding.connect("poster", {"access_token": other.token}, KEY, lambda _: StampRule())
    counter.faults(drop_after=1.0)
    request = await counter.issue()
    lost = await counter.issue()
    counter.faults()
    await host.services.connections.remove(counter.installation.connection.id)
    counter.clock.ahead += HORIZON
    store = host.store
    await store.write(lambda tx: ledger.voucher_requests.settle(tx, lost, RequestState.uncertain, next_at=2**62))
    await counter.look()
    assert (await counter.stored(request)).state is RequestState.applied
    await host.services.connections.remove(second.id)
    await store.write(lambda tx: ledger.voucher_requests.settle(tx, lost, RequestState.uncertain, next_at=tx.now))
    for _ in range(200):
        counter.clock.ahead += 2 * HOUR
        await counter.look()
    settled = await counter.stored(lost)
    assert (settled.state, settled.reason) == (RequestState.given_up, "unknown")


async def test_what_is_settled_stays_so_and_a_later_try_is_not_undone(counter: Counter) -> None:
    counter.faults(drop_before=1.0)
    request = await counter.issue()
    counter.faults()
    settle, store = ledger.voucher_requests.settle, counter.installation.host.store
    counter.clock.ahead += HORIZON
    await counter.look()
    taken = await counter.stored(request)
    assert await store.write(lambda tx: ledger.voucher_requests.take(tx, taken, RequestState.sending, tx.now))
    await store.write(lambda tx: settle(tx, request, RequestState.waiting))  # of the first try, come late
    assert (await counter.stored(request)).state is RequestState.sending
    await store.write(lambda tx: settle(tx, request, RequestState.applied))
    await store.write(lambda tx: settle(tx, request, RequestState.refused, reason="invalid"))
    assert (await counter.stored(request)).state is RequestState.applied


async def test_a_sender_that_comes_late_sends_nothing(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    insert = ledger.voucher_requests.insert

    def slow(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]
        counter.clock.ahead += SECOND

    monkeypatch.setattr(ledger.voucher_requests, "insert", slow)
    request = await counter.issue()
    assert request.state is RequestState.waiting
    assert counter.issued() == []
    counter.clock.ahead += 10 * SECOND
    await counter.look()
    assert counter.issued() == [request.redeem_code]


async def test_a_card_is_issued_and_found_by_each_of_its_names(counter: Counter) -> None:
    issued = await counter.cards.issue_card(counter.business, phone=ANNA, email=None)
    again = await counter.cards.issue_card(counter.business, phone=f"{ANNA[:4]} {ANNA[4:]}", email=None)
    assert issued.id == again.id
    found = await counter.cards.find_card(counter.business, phone=None, email=None, number=issued.number)
    assert found.id == issued.id
    with pytest.raises(NotFound):
        await counter.cards.find_card(counter.business, phone=None, email="nobody@cafe.example", number=None)
    for phone, email in (("12", None), (None, "no email"), (None, None), (ANNA, "a@b.example")):
        with pytest.raises(Refusal):
            await counter.cards.issue_card(counter.business, phone=phone, email=email)
    counter.installation.sevenstamp.revoked.add(KEY)
    with pytest.raises(Refusal, match="7stamp refuses the key"):
        await counter.cards.issue_card(counter.business, phone=ANNA, email=None)


def test_codes_that_we_make_are_read_by_everybody_and_typed_by_anybody() -> None:
    made = {new_redeem_code() for _ in range(200)}
    assert len(made) == 200
    for code in made:
        assert not set(code) & set("O0I1LS5Z2")
        assert find_redeem_codes(f"voucher {code} please") == (code,)
        assert tidy_redeem_code(f" {code.lower()} ") == code
