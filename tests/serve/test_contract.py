"""The OpenAPI file of both directions holds for the connector's requests, the sandbox's answers and its events."""

from __future__ import annotations

import json
from importlib import resources

import httpx
import pytest
import yaml

from connector_sdk import HookRequest, NotAuthorised
from serve_connector import ServeConnector
from serve_connector.sandbox import Cafe, ServeSandbox
from serve_connector.settings import ServeApp, ServeSettings
from tests.sevenstamp.contract import Contract

SPEC = yaml.safe_load((resources.files("serve_connector") / "openapi.yaml").read_text())


def connector(sandbox: ServeSandbox) -> tuple[ServeConnector, Contract]:
    """A connector of the sandbox's account, each of whose exchanges is held against the file."""
    contract = Contract(httpx.ASGITransport(app=sandbox.application()), SPEC)
    settings = ServeSettings.model_validate(sandbox.settings())
    return ServeConnector(settings, app=ServeApp(api_url="http://serve.test"), transport=contract), contract


async def test_every_exchange_is_as_the_file_says() -> None:
    sandbox = ServeSandbox(Cafe(page_size=2))
    checks = [sandbox.cafe.sell(phone="+34600111222") for _ in range(5)]
    sandbox.cafe.refund(checks[0], "1.00")
    sandbox.cafe.void(checks[1])
    till, contract = connector(sandbox)
    account = await till.check()
    assert (account.id, account.currency, account.zone) == ("acc_31", "EUR", "Europe/Madrid")
    till._account = account
    since = sandbox.cafe.changes[0][0]
    assert len([sale async for page in till.poll(since) for sale in page.sales]) == 5
    assert await till.fetch(checks[0]) is not None
    assert await till.fetch("chk_1") is None
    sandbox.cafe.fail_next = [503, 429]
    assert await till.fetch(checks[0]) is not None
    wrong = ServeSettings.model_validate({"access_token": "wrong"})
    with pytest.raises(NotAuthorised):
        await ServeConnector(wrong, app=till.app, transport=contract).check()
    assert contract.used == {
        ("listVenues", 200),
        ("listVenues", 401),
        ("listChecks", 200),
        ("getCheck", 200),
        ("getCheck", 404),
        ("getCheck", 503),
        ("getCheck", 429),
    }


def test_events_are_as_the_file_says_and_prove_themselves() -> None:
    sandbox = ServeSandbox()
    till, contract = connector(sandbox)
    body = sandbox.cafe.event(sandbox.cafe.sell(phone="+34600111222"))
    headers = sandbox.cafe.signed(body, secrets_=(sandbox.cafe.secret, "next"))
    till.prove(HookRequest("POST", headers, {}, body))
    event = SPEC["webhooks"]["check"]["post"]
    contract.validate(json.loads(body), event["requestBody"]["content"]["application/json"]["schema"], "event")
    contract.validate(headers["serve-signature"], event["parameters"][0]["schema"], "signature")
