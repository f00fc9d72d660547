"""Client and sandbox are each held against the OpenAPI file, so that they cannot drift together into something else."""

from __future__ import annotations

import json

import httpx
import pytest

from connectors.sevenstamp.client import (
    Applied,
    InDoubt,
    InvalidKey,
    Limited,
    NotSent,
    Refused,
    SevenStamp,
    redeem_path,
    stamps_path,
)
from connectors.sevenstamp.events import EVENTS
from connectors.sevenstamp.sandbox import Faults, Sandbox
from tests.model import InProcessTransport
from tests.sevenstamp.contract import SPEC, Contract

PHONE = "+380501112233"


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(goal=3)


@pytest.fixture
def contract(sandbox: Sandbox) -> Contract:
    return Contract(InProcessTransport(sandbox))


async def test_everything_in_the_contract_is_spoken_and_answered_as_it_says(
    sandbox: Sandbox, contract: Contract
) -> None:
    service = SevenStamp("http://7stamp", transport=contract)
    client = service.with_key("7loc_sc_one")
    assert (await client.me()).operations.used == 0
    card = await client.issue_card(phone=PHONE)
    assert await client.issue_card(phone=PHONE) == card
    assert await client.issue_card(email="Anna@Example.com") != card
    assert [found_card.id for found_card in await client.cards(phone=PHONE)] == [card.id]
    assert [found_card.id for found_card in await client.cards(number=card.number)] == [card.id]
    assert await client.cards(email="nobody@example.com") == []

    def body(n: int, count: int = 1, **more: str) -> str:
        return json.dumps({"count": count, "code": f"poster:1:2:{n}", "receipt": "poster:1:2", **more})

    added = await client.write(stamps_path(card.id), body(1, 2, amount="27.50"), "k1", 5)
    assert isinstance(added, Applied)
    assert await client.write(stamps_path(card.id), body(1, 2, amount="27.50"), "k1", 5) == added
    assert [event.stamps for event in await client.history(card.id, "poster:1:2:1")] == [2]
    conflict = await client.write(stamps_path(card.id), body(9, 2), "k1", 5)
    assert conflict == InDoubt("7stamp answered 409", conflict=True)
    assert isinstance(await client.write(stamps_path(card.id, back=True), body(2), "k2", 5), Applied)
    refused = await client.write(stamps_path(card.id, back=True), body(3, 5), "k3", 5)
    assert isinstance(refused, Refused)
    assert refused.code == "nothing_to_reverse"
    missing = await client.write(stamps_path("card/none"), body(4), "k4", 5)
    assert isinstance(missing, Refused)
    assert missing.code == "card_not_found"
    gone = await client.write(stamps_path("none", back=True), body(4), "k4b", 5)
    assert isinstance(gone, Refused)

    issued = '{"code":"v:1","title":"Coffee","redeem_code":"FREECOFFEE"}'
    assert isinstance(await client.write("/v1/vouchers", issued, "k5", 5), Applied)
    assert (await client.voucher("FREECOFFEE")).status == "active"
    redeemed = await client.write(redeem_path("FREECOFFEE"), '{"code":"poster:1:2:5"}', "k6", 5)
    assert isinstance(redeemed, Applied)
    redeemed_twice = await client.write(redeem_path("FREECOFFEE"), '{"code":"poster:1:3:1"}', "k7", 5)
    assert isinstance(redeemed_twice, Refused)
    assert redeemed_twice.body["redeemed_by_code"] == "poster:1:2:5"
    with pytest.raises(Refused):
        await client.voucher("NOSUCH")
    assert isinstance(await client.write(redeem_path("NOSUCH"), '{"code":"x"}', "k8", 5), Refused)

    async with httpx.AsyncClient(transport=contract, base_url="http://7stamp") as plain:
        bearer = {"Authorization": "Bearer 7loc_sc_one"}
        assert (await plain.get("/v1/vouchers", params={"code": "v:1"}, headers=bearer)).is_success
        assert (await plain.get(f"/v1/cards/{card.id}", headers=bearer)).is_success
        assert (await plain.get("/v1/cards", params={"phone": "x"}, headers=bearer)).status_code == 422
    secret = "whsec_" + "A" * 44
    webhook = await client.subscribe("https://host.test/hooks/7stamp/x", EVENTS, secret)
    assert await client.subscribe("https://host.test/hooks/7stamp/x", ["card_issued"], secret) == webhook.model_copy(
        update={"events": ("card_issued",)}
    )
    async with httpx.AsyncClient(transport=contract, base_url="http://7stamp") as plain:
        listed = (await plain.get("/v1/webhooks", headers=bearer)).json()
        assert [(subscription["id"], "secret" in subscription) for subscription in listed] == [(webhook.id, False)]
        others = {"Authorization": "Bearer 7loc_sc_two"}
        assert (await plain.get("/v1/webhooks", headers=others)).json() == []
        assert (await plain.delete(f"/v1/webhooks/{webhook.id}", headers=others)).status_code == 404
    with pytest.raises(Refused):
        await client.subscribe("ftp://host.test", EVENTS, secret)
    await client.unsubscribe(webhook.id)
    with pytest.raises(Refused):
        await client.unsubscribe(webhook.id)

    sandbox.state.allowed = 0
    limited = await client.write(stamps_path(card.id), body(6), "k9", 5)
    assert isinstance(limited, Refused)
    assert limited.code == "plan_limit"
    sandbox.revoked.add("7loc_sc_one")
    assert isinstance(await client.write(stamps_path(card.id), body(7), "k10", 5), InvalidKey)
    with pytest.raises(InvalidKey):
        await client.me()
    sandbox.revoked.clear()
    sandbox.faults = Faults(status_429=1.0)
    with pytest.raises(Limited):
        await client.me()
    spoken = {name for name, _status in contract.used}
    assert spoken == {operation["operationId"] for path in SPEC["paths"].values() for operation in path.values()}


async def test_a_card_of_another_business_does_not_exist(contract: Contract) -> None:
    service = SevenStamp("http://7stamp", transport=contract)
    card = await service.with_key("7loc_sc_one").issue_card(phone=PHONE)
    other = service.with_key("7loc_sc_two")
    assert await other.cards(phone=PHONE) == []
    answer = await other.write(stamps_path(card.id), '{"count":1,"code":"c","receipt":"r"}', "k", 5)
    assert isinstance(answer, Refused)


async def test_a_reward_uses_the_oldest_stamps_and_protects_them(sandbox: Sandbox) -> None:
    client = SevenStamp("http://7stamp", transport=InProcessTransport(sandbox)).with_key("7loc_sc_one")
    card = await client.issue_card(phone=PHONE)

    async def stamps(n: int, receipt: str, *, back: bool = False) -> object:
        body = json.dumps({"count": 2, "code": f"{receipt}:{n}", "receipt": receipt})
        return await client.write(stamps_path(card.id, back=back), body, f"{receipt}:{n}", 5)

    await stamps(1, "r1")
    await stamps(1, "r2")  # three of the four are a reward now
    assert isinstance(await stamps(2, "r1", back=True), Refused)
    assert isinstance(await stamps(2, "r2", back=True), Refused)  # one of its two is used: whole or not at all
    assert (await client.cards(phone=PHONE))[0].stamps == 1


async def test_the_sandbox_keeps_its_operations_on_disk(tmp_path: object) -> None:
    from pathlib import Path

    file = Path(str(tmp_path)) / "state.jsonl"
    first = Sandbox(state=file)
    client = SevenStamp("http://7stamp", transport=InProcessTransport(first)).with_key("7loc_sc_one")
    card = await client.issue_card(phone=PHONE)
    await client.write(stamps_path(card.id), '{"count":1,"code":"c","receipt":"r"}', "k", 5)
    second = Sandbox(state=file)
    assert second.state.operations == first.state.operations
    reopened = SevenStamp("http://7stamp", transport=InProcessTransport(second)).with_key("7loc_sc_one")
    assert isinstance(
        await reopened.write(stamps_path(card.id), '{"count":1,"code":"c","receipt":"r"}', "k", 5), Applied
    )
    assert len(second.state.operations) == 2


@pytest.mark.parametrize(
    ("answer", "means"),
    [
        (httpx.Response(200, json={}), Applied({})),
        (httpx.Response(200, content=b"<html>"), InDoubt("the answer (200) is not JSON")),
        (httpx.Response(500, json={"code": "x"}), InDoubt("7stamp answered 500")),
        (httpx.Response(404, json={"code": "no_route"}), InDoubt("7stamp answered 404")),
        (httpx.Response(403, content=b"blocked"), InDoubt("the answer (403) is not JSON")),
        (httpx.ConnectError("no"), NotSent("ConnectError")),
        (httpx.ReadError("cut"), InDoubt("ReadError")),
        (httpx.RemoteProtocolError("cut"), InDoubt("RemoteProtocolError")),
        (httpx.ReadTimeout("slow"), InDoubt("ReadTimeout")),
    ],
)
async def test_what_an_answer_means(answer: httpx.Response | Exception, means: object) -> None:
    def handle(_request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = SevenStamp("http://7stamp", transport=httpx.MockTransport(handle)).with_key("7loc_sc_one")
    assert await client.write("/v1/cards/c/stamps", "{}", "k", 5) == means
