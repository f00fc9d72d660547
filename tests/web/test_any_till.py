"""The console connects a till that only sends: a ready-made mapping chosen, what is wrong said beside its field."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from connector_sdk.rule import StampRule
from connector_sdk.signatures import BodyHmac
from connectors.services import Refusal
from tests.installation import KEY, Installation
from tests.web.browser import Browsers, open_browsers
from tests.webhook.test_way_of_a_request import READY, fresh

SECRET = "a secret for the shop"


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


async def test_a_shop_is_connected_by_a_ready_made_mapping_and_its_sale_becomes_stamps(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await browsers.new().sign_in()
    page = await mine.get("/")
    assert "Any till with a webhook" in page.text
    assert "Serve" not in page.text  # SERVE_API_URL is not set
    assert "Checked by us." in page.text
    draft = (await mine.post("/connect/webhook")).headers["location"].rsplit("/", 1)[0]
    page = await mine.get(f"{draft}/authorise?ready=woocommerce")
    assert "Topic: Order updated." in page.text
    typed = {f"set.{name}": value for name, value in READY["woocommerce"].settings.items()}
    typed |= {"set.till_name": "Shop", "set.currency": "EUR", "set.zone": "Europe/Madrid", "set.country": "ES"}
    for name in ("map_receipt_id", "proof_header"):
        assert re.search(f'name="set.{name}"[^>]*value="{typed[f"set.{name}"]}"', page.text)
    refused = await mine.post(f"{draft}/authorise", **typed)
    assert refused.status_code == 422
    assert re.search(r'id="wrong-secret">[^<]*needs a secret of at least 8 signs', refused.text)
    refused = await mine.post(f"{draft}/authorise", **{**typed, "set.secret": SECRET, "set.map_paid": "sum(total)"})
    assert re.search(r'id="wrong-map_paid">[^<]*no functions', refused.text)
    assert SECRET not in refused.text
    for guessed in ("a" * 16, "abcabcabcabcabc", "12345678", "zyxwvuts", "aaaabbbbccccdddd", "ab12ab12ab12ab12"):
        refused = await mine.post(f"{draft}/authorise", **{**typed, "set.secret": guessed})
        assert re.search(r'id="wrong-secret">[^<]*easily guessed', refused.text), guessed
    assert (await mine.post(f"{draft}/authorise", **{**typed, "set.secret": SECRET})).status_code == 303
    assert (await mine.post(f"{draft}/key", use="own")).status_code == 303
    await mine.get(f"{draft}/where")
    connected = await mine.post(f"{draft}/rule", kind="per_order", unknown_customer="issue")
    welcome = await mine.get(connected.headers["location"])
    address = re.search(r'value="(http[^"]*/hooks/tills/webhook/[^"]+)"', welcome.text)
    assert address is not None
    body = fresh(READY["woocommerce"].sample)
    path = address[1].removeprefix(installation.host.public_url)
    signed = {"X-WC-Webhook-Signature": BodyHmac(SECRET, "base64").sign(body)}
    assert (await installation.hook(body, path=path, headers=signed)).status_code == 200
    (installation.connection,) = await installation.host.services.connections.list_all()
    await installation.sync()
    assert installation.stamps("+34600111222") == 1


async def test_a_secret_that_a_connection_has_goes_on_and_another_weak_one_is_refused(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak, values = "a" * 16, dict(READY["woocommerce"].settings)
    values |= {"till_name": "Shop", "currency": "EUR", "zone": "Europe/Madrid", "secret": weak}
    with monkeypatch.context() as before:  # as it was connected by an older version
        before.setattr("connectors.services.checks.easily_guessed", lambda _text: False)
        connection = await installation.host.services.onboarding.connect(
            "webhook", values, KEY, lambda _account: StampRule()
        )
    assert (
        await installation.host.services.connections.edit(connection.id, {"till_name": "Another name"})
    ).account.name == "Another name"
    with pytest.raises(Refusal, match="easily guessed"):
        await installation.host.services.connections.edit(connection.id, {"secret": "b" * 16})
    token = installation.host.store.vault.decrypt(connection.hook_token)
    body = fresh(READY["woocommerce"].sample)
    signed = {"X-WC-Webhook-Signature": BodyHmac(weak, "base64").sign(body)}
    assert (await installation.hook(body, path=f"/hooks/tills/webhook/{token}", headers=signed)).status_code == 200
