"""The API: what a program may see and do, and how it is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from connector_sdk.rule import StampRule
from connectors.domain.clock import DAY, MINUTE, SECOND
from connectors.sevenstamp.sandbox import Faults
from connectors.store.access import api_tokens
from connectors.store.access.api_tokens import Scope
from connectors.web.api import calls, card_calls, subscription_calls, till_calls
from connectors.web.api.routing import cursor_of
from poster_connector.sandbox import Account
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.relay.subscriber import subscribing
from tests.sync.test_unread_retries import BASE
from tests.web.api.program import EVERYTHING, Program, programming, token_for
from tests.web.clock import MovableClock
from tests.webhook.test_way_of_a_request import connect as connect_any_till

PHONE = "+34600111222"


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch, time=MovableClock(), relay_hosts="127.0.0.1") as made:
        yield made


@pytest.fixture
async def program(installation: Installation) -> AsyncIterator[Program]:
    await installation.connect()
    async with programming(installation) as made:
        yield made


# --- tokens ---------------------------------------------------------------------------------------------------------


async def test_a_token_is_its_business_and_its_rights_and_its_use_shows(
    installation: Installation, program: Program
) -> None:
    answer = await program.get("/me")
    business = installation.connection.business_id
    me = answer.json()
    plan = me.pop("plan")
    assert me == {"business": business, "title": "A test", "scopes": sorted(EVERYTHING)}
    assert (plan["used"], plan["allowed"], plan["used_up"]) == (0, None, False)
    installation.sevenstamp.state.allowed = 1
    installation.sevenstamp.state.used[business] = 1
    await installation.host.services.plans.check(business)
    plan = (await program.get("/me")).json()["plan"]
    assert (plan["used"], plan["allowed"], plan["used_up"]) == (1, 1, True)
    (listed,) = await installation.host.services.tokens.list_all(business)
    assert listed.last_used_at is not None
    assert listed.ending == program.token[-4:]
    await installation.host.services.tokens.revoke(business, listed.id)
    assert (await program.get("/me")).status_code == 401


async def test_nobody_gets_in_without_a_token_of_ours(program: Program) -> None:
    for token in ("", "7con_", "7con_" + "x" * 43, KEY, "7con_ü", "x" * 500):
        answer = await program.with_token(token).get(
            "/connections", headers={"Authorization": f"Bearer {token}".encode()}
        )
        assert answer.status_code == 401, token
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthorised"
    assert (await program.client.get("/api/v1/connections")).status_code == 401


async def test_guessing_tokens_gets_slow_and_stops_nobody_else(program: Program) -> None:
    wrong = program.with_token("7con_wrong")
    answers = [(await wrong.get("/me")).status_code for _ in range(30)]
    assert answers[0] == 401
    assert answers[-1] == 429
    assert (await program.get("/me")).status_code == 200


ROUTES = [
    route
    for router in (calls.router, card_calls.router, till_calls.router, subscription_calls.router)
    for route in router.routes
    if isinstance(route, APIRoute)
]


NEEDS = {
    "me": None,
    **dict.fromkeys(("act", "backfill", "job", "issueCard", "issueVoucher", "redeemVoucher"), "act"),
    **dict.fromkeys(
        ("subscribe", "changeSubscription", "unsubscribe", "renewSecret", "sendTest", "replay"), "subscribe"
    ),
    "sell": "sell",
}
"""The right that each call needs; `read` where none stands here."""
BODIES: dict[str, Any] = {
    "backfill": {"since": "2026-11-20"},
    "subscribe": {"url": "https://93.184.216.34/hook"},
    "changeSubscription": {"title": "stolen"},
    "replay": {"failed": True},
    "issueCard": {"phone": ANNA},
    "issueVoucher": {"title": "A free coffee"},
    "sell": {"connection": "{connection}", "receipt": "1", "closed_at": "2026-11-26T09:00:00Z", "paid": "12.50"},
}


def _query(connection: str) -> str:
    """What the calls that read ask in their addresses."""
    return f"?since=2026-11-20&from=2026-11-01&to=2026-11-26&receipt=1&number=100000&connection={connection}"


def _path(route: APIRoute, ids: dict[str, str]) -> str:
    return route.path.format(**{**ids, "action": "retry", "event": "stamp_added"})


async def _ids(installation: Installation, program: Program) -> dict[str, str]:
    """A connection's receipt, operation, job and subscription."""
    installation.cafe.sell(installation.cafe.client(ANNA), comment="FREECOFFEE9")
    await installation.sync()
    connection = installation.connection.id
    listed = (await program.get(f"/connections/{connection}/receipts")).json()["items"]
    operations = (await program.get(f"/connections/{connection}/operations?state=rejected")).json()["items"]
    made = await program.post("/subscriptions", {"url": "https://93.184.216.34/hook"})
    job = await program.post(f"/connections/{connection}/backfills", {"since": "2026-11-20"})
    return {
        "connection": connection,
        "receipt": listed[0]["id"],
        "operation": operations[0]["id"],
        "subscription": made.json()["id"],
        "job": job.json()["id"],
        "redeem_code": (await program.post("/vouchers", {"title": "A cake"})).json()["redeem_code"],
    }


async def test_every_call_needs_its_right_and_names_the_one_that_is_missing(
    installation: Installation, program: Program
) -> None:
    ids = await _ids(installation, program)
    for route in ROUTES:
        needed = NEEDS.get(str(route.operation_id), "read")
        others = [scope.value for scope in Scope if scope.value != needed]
        lacking = program.with_token(await token_for(installation, *others))
        (method,) = route.methods
        query = _query(ids["connection"]) if method == "GET" else ""
        body = BODIES.get(str(route.operation_id))
        answer = await lacking.call(method, _path(route, ids) + query, json=body)
        if needed is None:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 403, (route.path, answer.text)
            assert (answer.json()["code"], answer.json()["scope"]) == ("missing_scope", needed)
        tokens = await installation.host.services.tokens.list_all(installation.connection.business_id)
        await installation.host.services.tokens.revoke(installation.connection.business_id, tokens[-1].id)


def test_every_call_is_walked_by_these_tests() -> None:
    assert len(ROUTES) == 30
    assert set(NEEDS) | set(BODIES) <= {route.operation_id for route in ROUTES}


async def test_everything_of_another_business_is_404(installation: Installation, program: Program) -> None:
    ids = await _ids(installation, program)
    second = Account(token="861053:5a9e1570ff9af128e93c5a771055bb21", name="other")
    installation.till.accounts[second.token] = second
    other = await installation.host.services.onboarding.connect(
        "poster", {"access_token": second.token}, "7loc_sc_another_business", lambda _account: StampRule()
    )
    theirs = program.with_token(await token_for(installation, business=other.business_id))
    assert [one["id"] for one in (await theirs.get("/connections")).json()["items"]] == [other.id]
    assert (await theirs.get("/subscriptions")).json()["items"] == []
    assert (await theirs.get("/events")).json()["items"] == []
    tried = 0
    for route in ROUTES:
        names_connection = "{" in route.path or route.operation_id in ("sell", "tillCard")
        if not names_connection or route.operation_id == "samples":
            continue
        # and an id of theirs in the address does not let in what is somebody else's below it
        parts = {"{receipt}", "{operation}"} & set(route.path.split("/"))
        for mixed in (ids, {**ids, "connection": other.id}) if parts else (ids,):
            (method,) = route.methods
            query = _query(ids["connection"]) if method == "GET" else ""
            text = json.dumps(BODIES.get(str(route.operation_id))).replace("{connection}", ids["connection"])
            answer = await theirs.call(method, _path(route, mixed) + query, json=json.loads(text))
            assert answer.status_code == 404, (method, route.path, answer.text)
            tried += 1
    assert tried >= 19


# --- reading --------------------------------------------------------------------------------------------------------


async def test_connections_receipts_and_their_story(installation: Installation, program: Program) -> None:
    for number in range(5):
        installation.cafe.sell(installation.cafe.client(ANNA), paid=1000 + number)
    await installation.sync()
    (connection,) = (await program.get("/connections")).json()["items"]
    assert connection["id"] == installation.connection.id
    assert "hook_url" not in connection
    base = f"/connections/{connection['id']}"
    assert (await program.get(base)).json() == connection
    seen: list[str] = []
    cursor = None
    for _ in range(5):
        page = (
            await program.get(f"{base}/receipts", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        seen += [receipt["receipt"] for receipt in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    (found,) = (await program.get(f"{base}/receipts", params={"q": seen[0]})).json()["items"]
    story = (await program.get(f"{base}/receipts/{found['id']}")).json()
    assert (story["receipt"], story["stamps"], story["operations"][0]["state"]) == (seen[0], 1, "applied")
    assert story["story"][0]["text"].startswith("The till says it was paid")
    malay = (await program.get(f"{base}/receipts/{found['id']}", headers={"Accept-Language": "ms"})).json()
    assert malay["story"][0]["text"] != story["story"][0]["text"]
    assert ANNA not in json.dumps([story, found, connection])
    (day,) = (await program.get(f"{base}/totals", params={"from": "2025-12-01", "to": "2026-12-31"})).json()["items"]
    assert (day["receipts"], day["stamps"]) == (5, 5)
    preview = (await program.get(f"{base}/preview", params={"since": day["day"]})).json()["items"]
    assert sorted(one["receipt"] for one in preview) == sorted(seen)
    assert all(one["stamps"] == 1 for one in preview)


async def test_operations_are_listed_retried_and_dismissed(installation: Installation, program: Program) -> None:
    installation.cafe.sell(0, comment="FREECOFFEE9")
    await installation.sync()
    base = f"/connections/{installation.connection.id}/operations"
    (rejected,) = (await program.get(base, params={"state": "rejected"})).json()["items"]
    assert rejected["reason"] == "voucher_unknown"
    assert (await program.post(f"{base}/{rejected['id']}/retry")).json()["state"] == "pending"
    refused = await program.post(f"{base}/{rejected['id']}/dismiss")
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")
    assert (await program.post(f"{base}/none/retry")).status_code == 404
    lines = [line async for line in _journal_by(installation)]
    assert "API: A test" in lines


async def _journal_by(installation: Installation) -> AsyncIterator[str | None]:
    from connectors.store import ledger

    for line in await installation.host.store.read(
        lambda tx: ledger.journal.of_connection(tx, installation.connection.id)
    ):
        yield line.by


async def test_a_backfill_is_a_job_with_its_progress(installation: Installation, program: Program) -> None:
    installation.cafe.sell(installation.cafe.client(ANNA))
    base = f"/connections/{installation.connection.id}/backfills"
    asked = await program.post(base, {"since": "2026-11-20"})
    assert (asked.status_code, asked.json()["state"]) == (202, "asked")
    again = await program.post(base, {"since": "2026-11-20"})
    assert (again.status_code, again.json()["code"]) == (409, "refused")
    for command in await installation.host.services.commands.claim():
        await installation.host.services.commands.execute(command)
    job = (await program.get(f"/jobs/{asked.json()['id']}")).json()
    assert (job["state"], job["result"]["sales_seen"]) == ("done", 1)
    assert (await program.post(base, {"since": "3026-11-20"})).status_code == 422


async def test_events_of_7stamp_are_listed_without_names(installation: Installation, program: Program) -> None:
    from connector_sdk.loyalty import LoyaltyCard, LoyaltyCustomer, StampAdded
    from connectors.domain.clock import moment
    from connectors.store import inbox

    business = installation.connection.business_id
    for number in range(3):
        event = StampAdded(
            id=f"msg_{number}",
            at=moment(installation.host.store.clock.now()),
            business_id=business,
            card=LoyaltyCard(id="card_1"),
            customer=LoyaltyCustomer(phone=PHONE),
        )
        new = inbox.loyalty_events.NewEvent(business, event.id, event, b"")
        await installation.host.store.write(lambda tx, new=new: inbox.loyalty_events.keep(tx, [new]))  # type: ignore[misc]
    first = (await program.get("/events", params={"limit": 2})).json()
    second = (await program.get("/events", params={"limit": 2, "cursor": first["next"]})).json()
    assert [one["id"] for one in first["items"] + second["items"]] == ["msg_2", "msg_1", "msg_0"]
    assert PHONE not in json.dumps(first)


# --- subscriptions --------------------------------------------------------------------------------------------------


async def test_the_rest_hook_pattern_of_zapier_and_make(installation: Installation, program: Program) -> None:
    async with subscribing() as subscriber:
        body = {"url": f"{subscriber.origin}/zapier", "events": ["stamp_added"]}
        made = await program.post("/subscriptions", body, headers={"Idempotency-Key": "zap-1"})
        again = await program.post("/subscriptions", body, headers={"Idempotency-Key": "zap-1"})
        assert (made.status_code, again.status_code) == (201, 201)
        assert made.json() == again.json()
        assert again.headers["idempotent-replayed"] == "true"
        assert made.json()["secret"].startswith("whsec_")
        other = await program.post("/subscriptions", {**body, "title": "x"}, headers={"Idempotency-Key": "zap-1"})
        assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
        one = f"/subscriptions/{made.json()['id']}"
        assert [listed["id"] for listed in (await program.get("/subscriptions")).json()["items"]] == [made.json()["id"]]
        assert "secret" not in (await program.get(one)).json()
        tried = (await program.post(f"{one}/test")).json()
        assert (tried["state"], tried["tries"][0]["status"]) == ("delivered", 200)
        (delivery,) = (await program.get(f"{one}/deliveries")).json()["items"]
        assert (await program.post(f"{one}/replay", {"delivery": delivery["id"]})).json() == {"replayed": 1}
        since = {"since": "2020-01-01T00:00:00Z"}
        assert (await program.post(f"{one}/replay", since)).json() == {"replayed": 0}
        assert (await program.post(f"{one}/replay", {})).status_code == 422
        changed = await program.call("PATCH", one, json={"title": "Zap", "active": False})
        assert (changed.json()["title"], changed.json()["state"]) == ("Zap", "disabled")
        assert (await program.post(f"{one}/test")).status_code == 409
        assert (await program.post(f"{one}/secret")).json()["secret"] != made.json()["secret"]
        (sample,) = (await program.get("/samples/voucher_redeemed")).json()
        assert sample["data"]["voucher"]["redeem_code"] == "FREECOFFEE"
        unknown = await program.get("/samples/voucher_redemed")
        assert (unknown.status_code, "nearest: voucher_redeemed" in unknown.json()["detail"]) == (422, True)
        assert (await program.call("DELETE", one)).status_code == 204
        assert (await program.get(one)).status_code == 404


# --- cards and vouchers ---------------------------------------------------------------------------------------------


async def test_a_scenario_issues_a_card_and_a_voucher_and_redeems_it_once(
    installation: Installation, program: Program
) -> None:
    card = (await program.post("/cards", {"phone": ANNA})).json()
    assert (card["active"], card["stamps"]) == (True, 0)
    assert card["save_url"].startswith("https://")
    assert (await program.get("/cards", params={"number": card["number"]})).json() == card
    assert (await program.get("/cards", params={"phone": BORYS})).json()["code"] == "not_found"
    headers = {"Idempotency-Key": "birthday-anna"}
    body = {"title": "A cake", "card_id": card["id"]}
    issued = (await program.post("/vouchers", body, headers=headers)).json()
    assert (await program.post("/vouchers", body, headers=headers)).json() == issued
    assert issued["outcome"] == "done"
    assert len(installation.sevenstamp.state.vouchers) == 1
    code = issued["redeem_code"]
    shown = (await program.get(f"/vouchers/{code}")).json()
    assert (shown["title"], shown["card"], shown["redeemed_at"]) == ("A cake", card["id"], None)
    assert (await program.post(f"/vouchers/{code.lower()}/redeem")).json() == {"redeem_code": code, "outcome": "done"}
    again = await program.post(f"/vouchers/{code}/redeem")
    assert (again.status_code, again.json()["code"]) == (409, "refused")
    assert "redeemed already" in again.json()["detail"]
    for wrong, field in (({}, "title"), ({"title": "A", "template_id": "t"}, "title"),
                         ({"title": "A", "redeem_code": "a b"}, "redeem_code")):  # fmt: skip
        answer = await program.post("/vouchers", wrong)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
    assert (await program.post("/cards", {"phone": "12"})).json()["errors"][0]["field"] == "phone"
    assert len(installation.sevenstamp.state.vouchers) == 1


async def test_a_voucher_without_an_answer_is_said_to_be_in_doubt(installation: Installation, program: Program) -> None:
    installation.sevenstamp.faults = Faults(drop_after=1.0)
    answer = await program.post("/vouchers", {"title": "A cake"})
    assert (answer.status_code, answer.json()["outcome"]) == (201, "in_doubt")
    installation.sevenstamp.faults = Faults()
    assert (await program.get(f"/vouchers/{answer.json()['redeem_code']}")).json()["status"] == "active"


# --- sales ----------------------------------------------------------------------------------------------------------


async def test_of_requests_under_one_key_that_come_at_once_one_is_done(
    installation: Installation, program: Program
) -> None:
    async with subscribing() as subscriber:
        body, headers = {"url": f"{subscriber.origin}/zapier", "events": ["stamp_added"]}, {"Idempotency-Key": "zap-2"}
        answers = await asyncio.gather(*(program.post("/subscriptions", body, headers=headers) for _ in range(5)))
        listed = (await program.get("/subscriptions")).json()["items"]
        assert len(listed) == 1
        assert {answer.status_code for answer in answers} <= {201, 409}
        assert {answer.json().get("code") for answer in answers if answer.status_code == 409} <= {"refused"}
        assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {listed[0]["id"]}
        # and later each gets the answer
        assert (await program.post("/subscriptions", body, headers=headers)).json()["id"] == listed[0]["id"]


async def test_a_key_whose_request_was_refused_is_free_again(installation: Installation, program: Program) -> None:
    async with subscribing() as subscriber:
        headers, events = {"Idempotency-Key": "zap-3"}, ["stamp_added"]
        wrong = await program.post("/subscriptions", {"url": "ftp://x", "events": events}, headers=headers)
        assert wrong.status_code == 422
        made = await program.post("/subscriptions", {"url": subscriber.origin, "events": events}, headers=headers)
        assert made.status_code == 201


async def test_a_key_whose_host_died_is_free_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        store = installation.host.store
        assert await store.write(lambda tx: api_tokens.take_key(tx, "tok_1", "key", "digest")) is None
        held = await store.write(lambda tx: api_tokens.take_key(tx, "tok_1", "key", "digest"))
        assert held is not None
        assert held.status == api_tokens.UNANSWERED
        clock.ahead += 61 * SECOND
        assert await store.write(lambda tx: api_tokens.take_key(tx, "tok_1", "key", "digest")) is None


async def test_a_sale_that_is_reported_earns_and_corrects(installation: Installation) -> None:
    await connect_any_till(installation, BASE)
    async with programming(installation, "sell", "read") as program:
        sale = {
            "connection": installation.connection.id,
            "receipt": "A-1",
            "closed_at": "2026-11-26T09:12:00+01:00",
            "paid": "12.50",
            "customer": {"phone": PHONE},
            "lines": [{"product": "coffee", "quantity": "2"}],
        }
        installation.host.store.clock.ahead += DAY  # type: ignore[attr-defined]
        assert (await program.post("/sales", sale)).json() == {"receipt": "A-1", "outcome": "stored"}
        assert (await program.post("/sales", sale)).json() == {"receipt": "A-1", "outcome": "unchanged"}
        refunded = await program.post("/sales", {**sale, "refunded": "12.50"})
        assert refunded.json()["outcome"] == "stored"
        undone = await program.post("/sales", sale)
        assert undone.json()["outcome"] in ("lost", "unchanged")
        (receipt,) = (await program.get(f"/connections/{installation.connection.id}/receipts")).json()["items"]
        assert (receipt["receipt"], receipt["paid"], receipt["stamps"]) == ("A-1", "12.50", 0)
        for wrong, field in (
            ({"paid": "12.505"}, "paid"),
            ({"paid": "-1"}, "paid"),
            ({"paid": 12.5}, "paid"),
            ({"receipt": ""}, "receipt"),
            ({"closed_at": "2026-11-26T09:12:00"}, "closed_at"),
            ({"closed_at": None}, "sale"),
            ({"customer": {"number": "12"}}, "customer.number"),
            ({"nonsense": 1}, "nonsense"),
        ):
            answer = await program.post("/sales", {**sale, **wrong})
            assert answer.status_code == 422, wrong
            assert field in answer.json()["errors"][0]["field"], (wrong, answer.json())


async def test_receipts_of_one_moment_are_on_several_pages_each_once(installation: Installation) -> None:
    await connect_any_till(installation, BASE)
    async with programming(installation, "sell", "read") as program:
        sale = {"connection": installation.connection.id, "closed_at": "2026-11-26T09:12:00+01:00", "paid": "12.50"}
        for number in range(5):
            assert (await program.post("/sales", {**sale, "receipt": f"A-{number}"})).status_code == 200
        pages: list[list[str]] = []
        query: dict[str, object] = {"limit": 2}
        while True:
            page = (await program.get(f"/connections/{installation.connection.id}/receipts", params=query)).json()
            pages.append([receipt["receipt"] for receipt in page["items"]])
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert sorted(receipt for page in pages for receipt in page) == [f"A-{number}" for number in range(5)]


async def test_a_till_that_is_read_is_not_reported_to(installation: Installation, program: Program) -> None:
    body = {"connection": installation.connection.id, "receipt": "1", "closed_at": "2026-11-26T09:00:00Z", "paid": "1"}
    answer = await program.post("/sales", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")


# --- limits and forms -----------------------------------------------------------------------------------------------


async def test_calls_are_limited_by_token_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, time=clock, api_calls_per_minute=3) as installation:
        await installation.connect()
        async with programming(installation) as program:
            first = await program.get("/me")
            assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("3", "2")
            await program.get("/me")
            await program.get("/nowhere")
            await program.get("/me")
            refused = await program.get("/me")
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert int(refused.headers["retry-after"]) > 0
            other = program.with_token(await token_for(installation))
            assert (await other.get("/me")).status_code == 200
            clock.ahead += MINUTE
            assert (await program.get("/me")).status_code == 200


async def test_what_cannot_be_understood_is_a_problem(program: Program) -> None:
    for body, headers, status in (
        (b"{", {"Content-Type": "application/json"}, 422),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 422),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"x" * 300_000, {"Content-Type": "application/json"}, 413),
        (b'{"connection":"\\ud800","receipt":"1","paid":"1"}', {"Content-Type": "application/json"}, 422),
        (b'{"connection":"x","receipt":"1","paid":NaN}', {"Content-Type": "application/json"}, 422),
    ):
        answer = await program.call("POST", "/sales", content=body, headers=headers)
        assert answer.status_code == status, (body[:20], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await program.get("/nowhere")).json()["code"] == "not_found"
    assert (await program.call("PUT", "/connections")).json()["code"] == "method_not_allowed"
    for cursor in ("nonsense", cursor_of(-1), cursor_of(2**62), cursor_of("1"), cursor_of(1, "x")):
        assert (await program.get("/events", params={"cursor": cursor})).status_code == 422, cursor
    assert (await program.get("/connections/a%00b")).status_code == 404


async def test_other_sites_are_not_let_in_and_nothing_is_cached(program: Program) -> None:
    answer = await program.get("/me", headers={"Origin": "https://evil.test"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"
    assert (await program.call("OPTIONS", "/me", headers={"Origin": "https://evil.test"})).status_code == 405


async def test_tokens_of_a_business_are_bounded(installation: Installation, program: Program) -> None:
    from connectors.services import Refusal

    installation.host.store.quotas = dataclasses.replace(installation.host.store.quotas, tokens=1)
    business = installation.connection.business_id
    with pytest.raises(Refusal, match="at most 1"):
        await installation.host.services.tokens.make(business, "x", ["read"])
    for title, scopes, says in (("x", [], "at least one"), ("x", ["reed"], "known: read"), (" ", ["read"], "a name")):
        with pytest.raises(Refusal, match=says):
            await installation.host.services.tokens.make(business, title, scopes)
