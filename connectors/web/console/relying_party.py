"""WebAuthn as the relying party does it: challenges, and the checks of what browsers answer.

Owns when an answer counts; rows are `connectors.store.passkeys`', formats and signatures the `webauthn` package's. That
package is imported where it is used, and runs beside the event loop: loading it takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from connectors.domain.clock import SECOND
from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.passkeys import Challenge, Credential, Outcome, Passkey
from connectors.store.access.sessions import OPERATOR, Session, Visitor
from connectors.web.console.attempts import Bounds, Delays, network_of
from connectors.web.console.gate import Gate

log = logging.getLogger(__name__)

CHALLENGE_FOR = 300 * SECOND
MOST_ANSWER = 16 * 1024
"""How many bytes a browser's answer may have: an id of 1 KiB, a key, and a statement that we did not ask for."""
_NAME = "7stamp connectors"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Site:
    """Where passkeys of this installation work: the relying party's id, and the origin of its pages."""

    rp_id: str
    origin: str


def site_of(public_url: str) -> Site | None:
    """Return the site of an address; `None` where browsers make no passkeys: without https, or without a name.

    A host on loopback is `localhost` to browsers, which count it as secure.
    """
    parts = urlsplit(public_url)
    name = (parts.hostname or "").rstrip(".")
    if _loopback(name):
        name = "localhost"
    elif parts.scheme != "https" or _address(name) is not None or not name:
        return None
    try:
        name = name.encode("idna").decode()
        port = parts.port
    except ValueError:
        return None
    usual = port is None or port == {"https": 443, "http": 80}.get(parts.scheme)
    return Site(name, f"{parts.scheme}://{name}" if usual else f"{parts.scheme}://{name}:{port}")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _loopback(name: str) -> bool:
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


class RelyingParty:
    """Asks browsers for passkeys, and takes what they answer."""

    def __init__(self, host: Host, gate: Gate) -> None:
        self._host, self._gate = host, gate
        self._store = host.store
        self._delays = Delays()
        self._networks = Bounds(1.0, 20)

    @property
    def site(self) -> Site | None:
        """Where passkeys work, by the address that the operator set; never by a header."""
        return site_of(self._host.public_url)

    def _site(self) -> Site:
        if self.site is None:
            raise Refusal("Passkeys need https and an address with a name: CONNECTORS_PUBLIC_URL says it.")
        return self.site

    # --- challenges ---------------------------------------------------------------------------------------------

    # A challenge carries its own end and a keyed hash over what it is for, so that asking for one writes nothing: a
    # million requests cost a million hashes. A row is written once a challenge is answered rightly: it is used up then.

    def _challenge(self, purpose: str) -> bytes:
        nonce, until = secrets.token_urlsafe(16), self._store.clock.now() + CHALLENGE_FOR
        return f"{nonce}.{until}.{self._sign(purpose, nonce, str(until))}".encode()

    def _sign(self, purpose: str, nonce: str, until: str) -> str:
        return self._store.vault.hash("passkey challenge", purpose, nonce, until)

    def _own(self, purpose: str, answered: bytes) -> Challenge:
        """The challenge that was answered, if it is ours, for this and not too old. Raises `Refusal`."""
        text = answered.decode("ascii", "replace")
        nonce, _, rest = text.partition(".")
        until, _, signature = rest.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(purpose, nonce, until).encode()):
            raise Refusal("this passkey answered a question that was not asked here: try again")
        if int(until) <= self._store.clock.now():
            raise Refusal("that took longer than five minutes: try again")
        return Challenge(text, int(until))

    # --- adding -------------------------------------------------------------------------------------------------

    async def creation_options(self, session: Session, proof: str) -> str:
        """Return what a browser needs to make a passkey for this session's visitor, as JSON."""
        site, visitor = self._site(), session.visitor
        mine = await self._store.read(lambda tx: access.passkeys.of_owner(tx, visitor.business_id))
        if len(mine) >= access.passkeys.MOST:
            raise Refusal("You have {count} passkeys already. Remove one first.", count=len(mine))
        handle = self._user_handle(visitor)
        there = [one.credential for one in mine if one.credential.user_handle == handle]
        challenge = self._challenge(_adding(session, proof))
        return await asyncio.to_thread(_creation_options, site, visitor, handle, challenge, there)

    async def register(self, session: Session, proof: str, answer: str, label: str) -> None:
        """Keep the passkey that a browser made. Raises `Refusal`."""
        site = self._site()
        handle = self._user_handle(session.visitor)
        answered = await _checked(lambda: _challenge_of_registration(answer))
        challenge = self._own(_adding(session, proof), answered)
        credential = await _checked(lambda: _registered(site, answered, answer, handle))
        label = "".join(sign for sign in label if sign.isprintable()).strip() or session.device
        outcome = await self._store.write(
            lambda tx: access.passkeys.add(
                tx, credential, session.visitor, challenge, label=label, device=session.device
            )
        )
        if outcome is not Outcome.done:
            raise Refusal(_NOT_ADDED[outcome])

    def _user_handle(self, visitor: Visitor) -> str:
        """The account that a passkey is for: an authenticator keeps one for each account, the newest."""
        return self._store.vault.hash("passkey user", visitor.business_id or OPERATOR, visitor.login)

    # --- signing in ---------------------------------------------------------------------------------------------

    async def request_options(self, proof: str) -> str:
        """Return what a browser needs to sign in with any passkey of this installation, as JSON."""
        site, challenge = self._site(), self._challenge(_signing_in(proof))
        return await asyncio.to_thread(_request_options, site, challenge)

    async def authenticate(self, address: str, proof: str, answer: str) -> Passkey:
        """Return the passkey that a browser signed with. Raises `Refusal`, `TooMany`."""
        self._networks.take(network_of(address))
        self._delays.try_(address)
        site = self._site()
        assertion = await _checked(lambda: _assertion(answer))
        passkey = await self._store.read(lambda tx: access.passkeys.of_credential(tx, assertion.credential_id))
        if passkey is None:
            raise Refusal(_NOT_USED[Outcome.gone])
        if passkey.refused_at is not None:
            raise Refusal(_NOT_USED[Outcome.copied])
        challenge = self._own(_signing_in(proof), assertion.challenge)
        found = passkey
        sign_count = await _checked(lambda: _sign_count(site, assertion, answer, found.credential))
        outcome = await self._store.write(lambda tx: access.passkeys.use(tx, found.id, sign_count, challenge))
        if outcome is not Outcome.done:
            raise Refusal(_NOT_USED[outcome])
        await self._vouch(passkey)
        self._delays.right(address)
        return passkey

    async def _vouch(self, passkey: Passkey) -> None:
        """See that 7stamp takes the key that a cafe's passkey stands on. Raises `Refusal`."""
        if passkey.visitor.business_id is None:
            return
        key, key_hash = passkey.visitor.key, passkey.key_hash
        vouched = await self._gate.vouched(key, key_hash, passkey.visitor.business_id) if key and key_hash else False
        if vouched is None:
            raise Refusal("7stamp cannot be asked about the key of this passkey right now: try again in a minute")
        if not vouched:
            raise Refusal(
                "7stamp refuses the key of this passkey: sign in with a key that works, and the passkey works again"
            )


_NOT_ADDED = {
    Outcome.replayed: "this answer was used already: try again",
    Outcome.known: "this passkey is here already",
    Outcome.too_many: "there are too many passkeys already: remove one first",
}
_NOT_USED = {
    Outcome.replayed: "this answer was used already: try again",
    Outcome.copied: "this passkey may have been copied, because its count of uses went back: it opens nothing any "
    "more. Sign in another way, remove it and add a new one",
    Outcome.gone: "this passkey is not known here, or was removed: sign in another way, and delete it from your device",
}


def _adding(session: Session, proof: str) -> str:
    """What a challenge is for: adding, in this browser and session."""
    return f"add {session.id_hash} {proof}"


def _signing_in(proof: str) -> str:
    """What a challenge is for: signing in, in this browser."""
    return f"sign in {proof}"


# --- what the `webauthn` package does, in a thread ---------------------------------------------------------------


async def _checked(check: Callable[[], T]) -> T:
    """Run a check of a stranger's bytes beside the event loop. Raises `Refusal` where it does not hold."""
    try:
        return await asyncio.to_thread(check)
    except Exception as error:  # noqa: BLE001 - parsers of what anybody sends raise anything
        log.info("a passkey was refused: %s", type(error).__name__)
        raise Refusal("this passkey's answer is not right: try again, or sign in another way") from None


def _creation_options(site: Site, visitor: Visitor, handle: str, challenge: bytes, there: Sequence[Credential]) -> str:
    from webauthn import generate_registration_options, options_to_json
    from webauthn.helpers import base64url_to_bytes
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        AuthenticatorTransport,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    name = visitor.login if visitor.business_id is None else f"{visitor.business_name} ({visitor.login})"
    return options_to_json(
        generate_registration_options(
            rp_id=site.rp_id,
            rp_name=_NAME,
            user_id=handle.encode(),
            user_name=name,
            challenge=challenge,
            timeout=CHALLENGE_FOR // 1000,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[
                PublicKeyCredentialDescriptor(
                    id=base64url_to_bytes(one.credential_id),
                    transports=[AuthenticatorTransport(transport) for transport in one.transports],
                )
                for one in there
            ],
        )
    )


def _answered_challenge(client_data: bytes) -> bytes:
    """The challenge that an answer is to, which must have been asked for by a page of its own, in no frame."""
    from webauthn.helpers import parse_client_data_json

    said = parse_client_data_json(client_data)
    if said.cross_origin:
        raise ValueError("a page in a frame asked")
    return said.challenge


def _challenge_of_registration(answer: str) -> bytes:
    from webauthn.helpers import parse_registration_credential_json

    return _answered_challenge(parse_registration_credential_json(answer).response.client_data_json)


def _registered(site: Site, challenge: bytes, answer: str, handle: str) -> Credential:
    from webauthn import verify_registration_response
    from webauthn.helpers import bytes_to_base64url, parse_registration_credential_json

    parsed = parse_registration_credential_json(answer)
    made = verify_registration_response(
        credential=parsed,
        expected_challenge=challenge,
        expected_rp_id=site.rp_id,
        expected_origin=site.origin,
        require_user_verification=True,
    )
    return Credential(
        credential_id=bytes_to_base64url(made.credential_id),
        user_handle=handle,
        public_key=bytes_to_base64url(made.credential_public_key),
        sign_count=made.sign_count,
        transports=[one.value for one in parsed.response.transports or ()],
    )


def _request_options(site: Site, challenge: bytes) -> str:
    from webauthn import generate_authentication_options, options_to_json
    from webauthn.helpers.structs import UserVerificationRequirement

    return options_to_json(
        generate_authentication_options(
            rp_id=site.rp_id,
            challenge=challenge,
            timeout=CHALLENGE_FOR // 1000,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    )


@dataclass(frozen=True, slots=True)
class _Assertion:
    """What an answer claims, before anything of it is proven."""

    credential_id: str
    challenge: bytes
    user_handle: str


def _assertion(answer: str) -> _Assertion:
    from webauthn.helpers import bytes_to_base64url, parse_authentication_credential_json

    parsed = parse_authentication_credential_json(answer)
    challenge = _answered_challenge(parsed.response.client_data_json)
    handle = (parsed.response.user_handle or b"").decode("ascii")
    return _Assertion(bytes_to_base64url(parsed.raw_id), challenge, handle)


def _sign_count(site: Site, assertion: _Assertion, answer: str, credential: Credential) -> int:
    """Verify an assertion whose challenge is ours; return the authenticator's count, which the store compares."""
    from webauthn import verify_authentication_response
    from webauthn.helpers import base64url_to_bytes

    if assertion.user_handle != credential.user_handle:
        raise ValueError("the passkey is another account's")
    return verify_authentication_response(
        credential=answer,
        expected_challenge=assertion.challenge,
        expected_rp_id=site.rp_id,
        expected_origin=site.origin,
        credential_public_key=base64url_to_bytes(credential.public_key),
        credential_current_sign_count=0,
        require_user_verification=True,
    ).new_sign_count
