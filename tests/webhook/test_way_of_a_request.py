"""Any till, end to end: its request proves itself, becomes a sale by the mapping, and stamps; ready-made ones too."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connector_sdk.money import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.signatures import BodyHmac, StandardWebhooks
from connectors.cli.main import app
from connectors.store import inbox, ledger
from tests.installation import KEY, Installation, build
from tests.webhook.test_mapping import BASE
from webhook_connector import ready_made
from webhook_connector.stub import WebhookStub

SECRET = "dGhpcyBpcyBhIHNlY3JldA=="
EURO_1 = StampRule(kind="by_amount", amount=Money.from_decimal("1.00", "EUR"), unknown_customer=UnknownCustomer.issue)
READY = {ready.name: ready for ready in ready_made.ALL}
SHOP = {"till_name": "Shop", "currency": "EUR", "zone": "Europe/Madrid", "country": "ES", "secret": SECRET}


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch) as built:
        yield built


async def connect(installation: Installation, values: dict[str, str], rule: StampRule = EURO_1) -> None:
    """Connect a till with these settings; it is the installation's connection from then on."""
    installation.connection = await installation.host.services.onboarding.connect(
        "webhook", values, KEY, lambda _account: rule
    )


async def send(installation: Installation, body: bytes, headers: dict[str, str]) -> int:
    """Send a request to the connection's own address and return the status of the answer."""
    path = str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    return (await installation.hook(body, path=path, headers=headers)).status_code


def fresh(sample: bytes, **changes: object) -> bytes:
    """A sample whose receipt is closed now, for it earns stamps only from the connection on."""
    receipt = json.loads(sample)
    later = datetime.now(UTC) + timedelta(seconds=5)
    naive = later.strftime("%Y-%m-%dT%H:%M:%S")
    for name in ("date_paid_gmt", "date_modified_gmt"):
        if name in receipt:
            receipt[name] = naive
    for name in ("processed_at", "updated_at"):
        if name in receipt:
            receipt[name] = later.isoformat()
    return json.dumps(receipt | changes).encode()


@pytest.mark.parametrize(
    ("name", "stamps", "header"),
    [("woocommerce", 19, "X-WC-Webhook-Signature"), ("shopify", 13, "X-Shopify-Hmac-Sha256")],
)
async def test_a_ready_made_mapping_turns_its_sample_into_stamps_and_refuses_a_tampered_one(
    installation: Installation, name: str, stamps: int, header: str
) -> None:
    await connect(installation, {**READY[name].settings, **SHOP})
    body = fresh(READY[name].sample)
    signature = BodyHmac(SECRET, "base64").sign(body)
    assert await send(installation, body.replace(b"FREECOFFEE", b"FREECOFFEX"), {header: signature}) == 401
    assert await send(installation, body, {}) == 401
    assert await installation.operations() == []
    assert await send(installation, body, {header: signature}) == 200
    await installation.sync()
    assert installation.stamps("+34600111222") == stamps
    assert [operation.redeem_code for operation in await installation.operations() if operation.redeem_code] == [
        "FREECOFFEE"
    ]


async def test_a_refund_takes_stamps_back_and_an_old_state_changes_nothing(installation: Installation) -> None:
    await connect(installation, {**READY["woocommerce"].settings, **SHOP})
    first = fresh(READY["woocommerce"].sample, refunds=[])
    later = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S")
    back = json.dumps({**json.loads(first), "status": "refunded", "date_modified_gmt": later}).encode()
    for body, stamps in ((first, 29), (back, 0), (first, 0)):
        assert await send(installation, body, {"X-WC-Webhook-Signature": BodyHmac(SECRET, "base64").sign(body)}) == 200
        await installation.sync()
        assert installation.stamps("+34600111222") == stamps


async def test_pings_are_answered_and_leave_nothing(installation: Installation) -> None:
    await connect(installation, {**READY["woocommerce"].settings, **SHOP})
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert await send(installation, b"webhook_id=5", form) == 200
    assert await send(installation, b"", {}) == 200
    assert await send(installation, b"webhook_id=5&id=7", form) == 401
    assert (
        await installation.host.store.read(lambda tx: inbox.unreadable.with_bodies(tx, installation.connection.id))
        == []
    )


@pytest.mark.parametrize(
    ("proof", "good", "bad"),
    [
        (
            {"proof": "hmac", "proof_header": "X-Sig"},
            lambda body: {"X-Sig": BodyHmac(SECRET).sign(body)},
            {"X-Sig": "ab"},
        ),
        (
            {"proof": "hmac", "proof_header": "X-Sig"},
            lambda body: {"X-Sig": f"sha256={BodyHmac(SECRET).sign(body).upper()}"},
            {"X-Sig": "sha256="},
        ),
        ({"proof": "header", "proof_header": "X-Key"}, lambda _body: {"X-Key": SECRET}, {"X-Key": SECRET[:-1]}),
        (
            {"proof": "basic", "proof_user": "till"},
            lambda _body: {"Authorization": "Basic " + base64.b64encode(f"till:{SECRET}".encode()).decode()},
            {"Authorization": "Basic " + base64.b64encode(f"other:{SECRET}".encode()).decode()},
        ),
        (
            {"proof": "standard"},
            lambda body: StandardWebhooks(SECRET).sign(body, "msg_1", datetime.now(UTC)),
            {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
        ),
    ],
)
async def test_every_proof_lets_the_till_in_and_nobody_else(
    installation: Installation, proof: dict[str, str], good: Callable[[bytes], dict[str, str]], bad: dict[str, str]
) -> None:
    await connect(installation, {**BASE, **proof, "secret": SECRET})
    body = json.dumps({"id": "1", "at": "2026-11-20T08:15:30Z", "total": "3.00", "phone": "600111222"}).encode()
    assert await send(installation, body, good(body)) == 200
    assert await send(installation, body, bad) == 401
    assert await send(installation, body, {}) == 401
    (row,) = await installation.host.store.read(lambda tx: ledger.sales.newest_closed(tx, installation.connection.id))
    assert row.receipt_id == "1"


async def test_what_does_not_fit_is_kept_and_accepted(installation: Installation) -> None:
    await connect(installation, {**READY["woocommerce"].settings, **SHOP})
    body = fresh(READY["woocommerce"].sample, total="many")
    assert await send(installation, body, {"X-WC-Webhook-Signature": BodyHmac(SECRET, "base64").sign(body)}) == 200
    (unread,) = await installation.host.store.read(
        lambda tx: inbox.unreadable.with_bodies(tx, installation.connection.id)
    )
    assert (unread.receipt_id, unread.body, unread.where) == ("727", body, "paid")
    assert "“many” is no number" in installation.host.words.word(unread.why)


async def test_the_identity_it_makes_up_is_made_up_once(installation: Installation) -> None:
    await connect(installation, {**READY["shopify"].settings, **SHOP})
    before = installation.connection.account.id
    changed = await installation.host.services.connections.edit(
        installation.connection.id, {"till_name": "Another name"}
    )
    assert (changed.account.id, changed.account.name) == (before, "Another name")


# --- the command ----------------------------------------------------------------------------------------------------


def mapping(*arguments: str) -> tuple[int, str]:
    """Run `connectors mapping`; return how it ended and what it printed."""
    result = CliRunner().invoke(app, ["mapping", *arguments])
    return result.exit_code, result.output


def test_a_mapping_is_tried_on_a_sample(tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_bytes(READY["shopify"].sample)
    code, output = mapping("try", str(sample), "--ready", "shopify")
    assert code == 0
    assert "20.00 EUR" in output
    assert "total_price − total_tip_received" in output
    code, output = mapping("show", "shopify")
    file = tmp_path / "mapping.toml"
    file.write_text(output.replace('"total_price"', '"total_prize"'))
    code, output = mapping("try", str(sample), "--map", str(file))
    assert code == 1
    assert "✗ receipt 5940139491234: paid: nothing is at total_prize" in output
    file.write_text('map_receipt_id = "length(@)"\n')
    code, output = mapping("try", str(sample), "--map", str(file), "--json")
    assert code == 1
    assert "map_receipt_id: a path has no functions" in output
    assert "map_paid: Field required" in output


def test_what_cannot_be_tried_is_said(tmp_path: Path) -> None:
    assert "cannot be read" in mapping("try", str(tmp_path / "none.json"), "--ready", "shopify")[1]
    assert "known: woocommerce, shopify" in mapping("show", "square")[1]
    assert "either --map FILE or --ready NAME" in mapping("try", "x.json")[1]


def test_the_stub_speaks_as_its_settings_say() -> None:
    assert WebhookStub.connector.settings_model.model_validate(dict(WebhookStub().settings()))
