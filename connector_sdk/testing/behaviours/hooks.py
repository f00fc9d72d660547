"""Behaviours of hooks: they are proven, lead to their receipts, and can be read again."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, ConnectorError, Forged, NotConfigured
from connector_sdk.hooks import Hints, HookRequest, Sales
from connector_sdk.testing.behaviour_trial import Level, Trial, demand, fail
from connector_sdk.testing.behaviours.declared import behaviour


@behaviour(
    "A true hook leads to its receipt",
    guards="instant stamps that never come",
    fix="return `Sales` or `Hints` for the till's events about receipts",
)
async def true_hook(trial: Trial) -> None:
    """Receive a receipt's own hook, and demand that it names this receipt and no other."""
    trial.require("receive")
    receipt = trial.sell()
    match await trial.receive_hook(receipt):
        case Sales(sales):
            named = [sale.receipt_id for sale in sales]
        case Hints(hints):
            named = [hint.receipt_id for hint in hints]
        case received:
            fail(f"receive says {type(received).__name__} of a receipt's hook")
    demand(named == [receipt], "the hook is about another receipt")


@behaviour(
    "A forged hook is refused",
    guards="free stamps for whoever knows the address",
    fix="verify the signature over the raw body in `prove` or `route`, with `connector_sdk.signatures`",
)
async def forged_hook(trial: Trial) -> None:
    """Verify a hook of somebody without the secret, and one whose body was changed; demand that both are refused."""
    trial.require("receive")
    connector = await trial.hook_reader()
    hook = trial.stub.hook(trial.sell())
    for description, forgery in (
        ("forged", trial.stub.forge(hook)),
        ("tampered with", replace(hook, body=_tamper(hook.body))),
    ):
        _demand_refused(trial, connector, forgery, f"prove believes a hook that was {description}")


def _demand_refused(
    trial: Trial,
    connector: Connector[BaseModel],
    hook: HookRequest,
    otherwise: str,
    errors: tuple[type[ConnectorError], ...] = (Forged, BadPayload),
) -> None:
    """Demand that the proof of a hook raises one of these errors."""
    try:
        trial.prove(connector, hook)
    except errors:
        return
    fail(otherwise)


def _tamper(body: bytes) -> bytes:
    """Change a body's last digit: it stays well formed, and is no longer what was signed."""
    for position in range(len(body) - 1, -1, -1):
        digit = body[position : position + 1]
        if digit.isdigit():
            return body[:position] + (b"1" if digit != b"1" else b"2") + body[position + 1 :]
    return body + b" "


@behaviour(
    "An old hook is refused",
    guards="a captured hook that is sent again a year later",
    fix="bound the age of the signed time to five minutes (`TimestampedHmac` does)",
    level=Level.recommended,
)
async def old_hook(trial: Trial) -> None:
    """Verify a hook that was signed an hour ago, and demand that it is refused."""
    trial.require("receive")
    connector = await trial.hook_reader()
    hook = trial.stub.age(trial.stub.hook(trial.sell()), 3600)
    _demand_refused(trial, connector, hook, "prove believes a hook that was signed an hour ago", (Forged,))


@behaviour(
    "A hook that was kept can be read again",
    guards="what could not be read once, and never can be, though the connector was mended",
    fix="let `receive` read the body only: the proof belongs into `prove`, headers are not kept",
)
async def kept_hook(trial: Trial) -> None:
    """Receive a hook with its headers and query and without, as the host stores it, and demand equal results."""
    trial.require("receive")
    connector = await trial.hook_reader()
    hook = trial.stub.hook(trial.sell())
    stored = replace(hook, headers={}, query={})
    try:
        received = connector.receive(stored)
    except ConnectorError as error:
        fail(f"receive raises {type(error).__name__} for a hook without its headers")
    demand(received == connector.receive(hook), "receive says something else of a hook without its headers")


@behaviour(
    "A hook without any proof is refused",
    guards="free stamps for whoever leaves the signature out",
    fix="raise `Forged` where the signature is missing",
)
async def unsigned_hook(trial: Trial) -> None:
    """Verify a hook without its signature, and demand that it is refused."""
    trial.require("receive")
    connector = await trial.hook_reader()
    hook = trial.stub.unsigned(trial.stub.hook(trial.sell()))
    _demand_refused(trial, connector, hook, "a hook without any proof is believed")


@behaviour(
    "Every receipt of a hook is read",
    guards="instant stamps for the first of several receipts only",
    fix="return all sales, or hints of all receipts, that a hook is about",
)
async def joint_hook(trial: Trial) -> None:
    """Receive one hook about two receipts, and demand both."""
    trial.require("receive")
    receipts = {trial.sell(), trial.sell(700)}
    connector = await trial.hook_reader()
    hook = trial.stub.joint_hook(sorted(receipts))
    trial.prove(connector, hook)
    match connector.receive(hook):
        case Sales(sales):
            named = {sale.receipt_id for sale in sales}
        case Hints(hints):
            named = {hint.receipt_id for hint in hints}
        case received:
            fail(f"receive says {type(received).__name__} of a hook about two receipts")
    demand(named == receipts, f"receive names {len(named & receipts)} of two receipts")


@behaviour(
    "A hook that is no hook is said to be none",
    guards="a till whose odd message crashes the connector, and is lost",
    fix="parse the body with care and raise `BadPayload`, or return `Ignored`",
)
async def odd_hook(trial: Trial) -> None:
    """Receive bodies that the till would never send, and demand `BadPayload` or a value, never another error."""
    trial.require("receive")
    connector = await trial.hook_reader()
    hook = trial.stub.hook(trial.sell())
    for body in (b"", b"{", b"null", b"[]", b"[[]]", b'"x"', b"7", b"{}", b"\xff\xfe", b'{"data":[]}', b"[" * 5000):
        try:
            connector.receive(replace(hook, body=body))
        except ConnectorError:
            continue
        except Exception as error:  # noqa: BLE001 - any other error is the finding
            fail(f"receive raises {type(error).__name__} for the body {body[:12]!r}")


@behaviour(
    "Without its secret no hook is believed",
    guards="free stamps for everybody, as long as the secret is not set",
    fix="raise `NotConfigured` where the secret that proves hooks is missing",
)
async def unset_secret(trial: Trial) -> None:
    """Verify a hook where the stub's secret is not set, and demand that it is refused."""
    trial.require("receive")
    connector = await trial.hook_reader()
    hook = trial.stub.hook(trial.sell())
    trial.stub.forget_secret(connector)
    believed = "a hook is believed although there is no secret to prove it by"
    _demand_refused(trial, connector, hook, believed, (Forged, BadPayload, NotConfigured))
