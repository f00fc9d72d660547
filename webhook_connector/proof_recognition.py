"""Recognises how a request seems to prove itself, and whether it does so by unfinished settings.

Owns which headers look like a proof; verifying one for good is `proofs`'.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime

from pydantic import SecretStr

from connector_sdk.errors import Forged, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.signatures import StandardWebhooks, equal
from connector_sdk.teaching import Values
from webhook_connector import proofs
from webhook_connector.lenient_settings import lenient_settings
from webhook_connector.settings import Proof, WebhookSettings

_SIGNED = re.compile(r"(?i)sign|hmac|digest")
_SHOWN = re.compile(r"(?i)token|secret|api-?key|auth")
_DIGEST = 32  # bytes of SHA-256
_HEX = re.compile(r"(?i)(sha256=)?[0-9a-f]{64}")
_STANDARD = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})
_OTHER_SECRET = Message(
    "the request that you chose does not prove itself with this; if you changed it since, send another sale and choose "
    "that one"
)


def recognise_proof(request: HookRequest) -> dict[str, str]:
    """Return settings that fit how this request seems to prove itself; none where nothing is seen.

    What can be seen for sure comes first: a header with "auth" in its name may hold anything.
    """
    headers = request.headers
    if headers.keys() >= _STANDARD:
        return {"proof": Proof.standard.value}
    scheme, _, credentials = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        return {"proof": Proof.basic.value, "proof_user": _user_in(credentials)}
    # a signature is told by its length, for many headers have such names
    for name, value in headers.items():
        if _SIGNED.search(name) and (encoding := _encoding_of(value)):
            return {"proof": Proof.hmac.value, "proof_header": name, "proof_encoding": encoding}
    for name in headers:
        if _SHOWN.search(name) and name != "authorization":
            return {"proof": Proof.header.value, "proof_header": name}
    return {}


def _user_in(credentials: str) -> str:
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[0]
    except ValueError:
        return ""


def _encoding_of(signature: str) -> str:
    """Return how a text writes as many bytes as a signature has; empty where it is none."""
    if _HEX.fullmatch(signature):
        return "hex"
    try:
        digest = base64.b64decode(signature.removeprefix("sha256="), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return "base64" if len(digest) == _DIGEST else ""


def explain_unproven(values: Values, request: HookRequest) -> Message | None:
    """Say what stands against a request's proof by these settings, its age aside; `None` for one that was pasted."""
    settings, headers = lenient_settings(values), request.headers
    # a pasted request has no headers, and nothing can stand against it
    if not headers or settings.proof is Proof.address:
        return None
    header = _header_of(settings)
    if header and not headers.get(header):
        text = "the request that you chose has no header {header}: choose another proof, or let your till send it"
        return Message(text, {"header": header})
    return None if _is_proven(settings, values.get("secret", ""), request) else _OTHER_SECRET


def _header_of(settings: WebhookSettings) -> str:
    """Return the header that a proof needs, in small letters."""
    match settings.proof:
        case Proof.standard:
            return "webhook-signature"
        case Proof.basic:
            return "authorization"
    return settings.proof_header.lower()


def _is_proven(settings: WebhookSettings, secret: str, request: HookRequest) -> bool:
    try:
        if settings.proof is Proof.standard:
            return _has_standard_signature(secret, request)
        proofs.prove(request, settings.model_copy(update={"secret": SecretStr(secret)}))
    # a secret that is no key and a time beyond the calendar prove as little as a wrong signature
    except (Forged, NotConfigured, ValueError, OverflowError, OSError):
        return False
    return True


def _has_standard_signature(secret: str, request: HookRequest) -> bool:
    """Sign the request as of its own time: the scheme's own check would refuse one that is some minutes old."""
    headers = request.headers
    at = datetime.fromtimestamp(int(headers.get("webhook-timestamp", "")), UTC)
    signed = StandardWebhooks(secret).sign(request.body, headers.get("webhook-id", ""), at)
    return any(equal(signed["webhook-signature"], signature) for signature in headers["webhook-signature"].split())
