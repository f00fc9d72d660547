"""A Poster hook is parsed and verified once on its way, and each step of that way still stands alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr

from connector_sdk import Account, Connector, Forged, Hint, Hints, HookRequest, TillAccount
from connector_sdk.signatures import OrderedFieldsMd5
from connectors.store import inbox
from poster_connector import PosterConnector, verification, wire
from poster_connector.sandbox import SECRET
from poster_connector.sandbox import Account as SandboxAccount
from poster_connector.settings import PosterApp, PosterSettings
from tests.installation import Installation

LARGE = 20 * 1024


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often bodies are parsed and signatures computed; nothing is remembered from another test."""
    verification._parse_once.cache_clear()
    verification._verify_once.cache_clear()
    counted: Counter[str] = Counter()
    parse_hook, verify = wire.parse_hook, OrderedFieldsMd5.verify

    def count_parse(body: bytes) -> wire.Hook:
        counted["parsed"] += 1
        return parse_hook(body)

    def count_verify(scheme: OrderedFieldsMd5, fields: list[str], signature: str) -> None:
        counted["verified"] += 1
        verify(scheme, fields, signature)

    monkeypatch.setattr(wire, "parse_hook", count_parse)
    monkeypatch.setattr(OrderedFieldsMd5, "verify", count_verify)
    return counted


def operator(secret: str = SECRET) -> PosterApp:
    return PosterApp(application_secret=SecretStr(secret))


def connector(app: PosterApp) -> PosterConnector:
    account = TillAccount(id="861052", name="Cafe", currency="UAH", zone="Europe/Kyiv", hook_name="api-demo")
    settings = PosterSettings(access_token=SecretStr("861052:abc"))
    return PosterConnector(settings, app=app, account=account)


def posted(body: bytes) -> HookRequest:
    """A request of its own, with a copy of the body: nothing may depend on its being the same object."""
    return HookRequest("POST", {}, {}, bytes(bytearray(body)))


async def test_a_hook_at_the_hosts_address_is_parsed_and_verified_once(
    installation: Installation, counts: Counter[str]
) -> None:
    await installation.connect()
    receipt = installation.cafe.sell()
    assert (await installation.hook(installation.cafe.hook(receipt, "closed"))).status_code == 200
    assert counts == {"parsed": 1, "verified": 1}
    assert await installation.host.store.read(lambda tx: inbox.hints.count_of(tx, installation.connection.id)) == 1


def test_several_connections_of_one_account_share_the_work(counts: Counter[str]) -> None:
    app, body = operator(), SandboxAccount().hook(330_660, "closed")
    tills: list[Connector[PosterSettings]] = [connector(app) for _ in range(3)]
    assert PosterConnector.route(app, posted(body)) == Account("861052", hook_name="api-demo")
    for till in tills:
        assert till.receive(posted(body)) == Hints((Hint("330660", closed=True),))
    assert counts == {"parsed": 1, "verified": 1}


def test_each_step_stands_alone(counts: Counter[str]) -> None:
    app, account = operator(), SandboxAccount()
    PosterConnector.route(app, posted(account.hook(1, "closed")))
    assert connector(app).receive(posted(account.hook(2, "closed"))) == Hints((Hint("2", closed=True),))
    assert counts == {"parsed": 2, "verified": 1}


def test_a_forged_hook_is_refused_however_often_and_after_the_honest_one(counts: Counter[str]) -> None:
    app, body = operator(), SandboxAccount().hook(330_660, "closed")
    PosterConnector.route(app, posted(body))
    forged = json.dumps({**json.loads(body), "object_id": 330_661}).encode()
    for _ in range(3):
        with pytest.raises(Forged, match="does not match"):
            PosterConnector.route(app, posted(forged))
    assert counts["verified"] == 4  # a refusal is not remembered


def test_another_secret_refuses_what_was_verified_a_moment_ago(counts: Counter[str]) -> None:
    body = SandboxAccount().hook(330_660, "closed")
    PosterConnector.route(operator(), posted(body))
    with pytest.raises(Forged, match="does not match"):
        PosterConnector.route(operator("another secret"), posted(body))


def test_large_and_many_hooks_are_not_held_in_memory(counts: Counter[str]) -> None:
    account = SandboxAccount()
    large = account.hook(1, "changed", data={"note": "x" * LARGE})
    for _ in range(2):
        PosterConnector.route(operator(), posted(large))
    assert counts["parsed"] == 2
    for receipt in range(300):
        PosterConnector.route(operator(), posted(account.hook(receipt, "closed")))
    assert verification._parse_once.cache_info().currsize <= 128


@pytest.mark.parametrize("sample", sorted((Path(__file__).parents[1] / "samples" / "poster").glob("webhook.*.json")))
def test_the_documented_hooks_hold_when_they_are_read_again(sample: Path, counts: Counter[str]) -> None:
    app = operator()
    first = PosterConnector.route(app, posted(sample.read_bytes()))
    assert PosterConnector.route(app, posted(sample.read_bytes())) == first
    assert counts["parsed"] == 1
