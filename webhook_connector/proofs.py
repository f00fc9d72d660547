"""How requests prove themselves, by the cafe's settings; everything compared in constant time.

Owns which header is looked at; the arithmetic is `connector_sdk.signatures`'.
"""

from __future__ import annotations

import base64
import re

from connector_sdk.errors import Forged
from connector_sdk.hooks import HookRequest
from connector_sdk.signatures import BodyHmac, StandardWebhooks, equal
from webhook_connector.settings import Proof, WebhookSettings

_PING = re.compile(rb"(webhook_id=[0-9]{1,20})?")


def is_ping(hook: HookRequest) -> bool:
    """Whether it only asks if somebody is there: an empty body, or the form that WooCommerce sends first, unsigned."""
    return _PING.fullmatch(hook.body.strip()) is not None


def prove(hook: HookRequest, settings: WebhookSettings) -> None:
    """Raises `Forged`."""
    secret = settings.secret.get_secret_value() if settings.secret is not None else ""
    shown = hook.headers.get(settings.proof_header.lower(), "")
    match settings.proof:
        case Proof.address:
            return
        case Proof.hmac:
            BodyHmac(secret, settings.proof_encoding.value).verify(hook.body, shown)
        case Proof.standard:
            StandardWebhooks(secret).verify(hook.body, hook.headers)
        case Proof.header:
            _same(secret, shown)
        case Proof.basic:
            told = base64.b64encode(f"{settings.proof_user}:{secret}".encode()).decode()
            scheme, _, given = hook.headers.get("authorization", "").partition(" ")
            _same(told, given.strip() if scheme.lower() == "basic" else "")


def _same(ours: str, theirs: str) -> None:
    if not equal(ours, theirs):
        raise Forged("the secret does not match")
