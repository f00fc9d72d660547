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
    """Say whether it only asks if somebody is there: an empty body, or the unsigned form that WooCommerce sends first.

    Nothing is kept of a ping, so that it needs no proof.
    """
    return _PING.fullmatch(hook.body.strip()) is not None


def prove(hook: HookRequest, settings: WebhookSettings) -> None:
    """Verify a request by the connection's own proof. Raises `Forged`."""
    secret = settings.secret.get_secret_value() if settings.secret is not None else ""
    # names of headers come in small letters; one that is missing is empty, and equals no secret
    header = hook.headers.get(settings.proof_header.lower(), "")
    match settings.proof:
        case Proof.address:
            return  # whoever knows the address is believed, as the form says
        case Proof.hmac:
            BodyHmac(secret, settings.proof_encoding.value).verify(hook.body, header)
        case Proof.standard:
            StandardWebhooks(secret).verify(hook.body, hook.headers)
        case Proof.header:
            _require_equal(secret, header)
        case Proof.basic:
            _require_equal(_basic_credentials(settings.proof_user, secret), _sent_credentials(hook))


def _basic_credentials(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def _sent_credentials(hook: HookRequest) -> str:
    """Return what a request sends for basic authentication; empty where it uses another scheme."""
    scheme, _, credentials = hook.headers.get("authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "basic" else ""


def _require_equal(ours: str, theirs: str) -> None:
    if not equal(ours, theirs):
        raise Forged("the secret does not match")
