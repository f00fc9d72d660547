"""WebAuthn as the relying party does it: challenges, and the checks of what browsers answer.

Owns when an answer counts; rows are `connectors.store.access.passkeys`', formats and signatures the `webauthn`
package's. That package is imported where it is used, and runs beside the event loop: loading it takes a quarter of a
second.
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
from connectors.store.access.sessions import OPERATOR, Principal, Session
from connectors.web.console.key_rechecks import KeyRechecks, KeyStatus
from connectors.web.console.sign_in_limits import AttemptDelays, RateLimits, network_of

log = logging.getLogger(__name__)

CHALLENGE_FOR = 300 * SECOND
"""How long a browser may take to answer, in microseconds."""
MAX_ANSWER_BYTES = 16 * 1024
"""How many bytes a browser's answer may have: an id of 1 KiB, a key, and a statement that we did not ask for."""
_DISPLAY_NAME = "7stamp connectors"
_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE = 1.0, 20  # of one network

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
    name = _relying_party_name(parts.scheme, (parts.hostname or "").rstrip("."))
    if name is None:
        return None
    try:
        name = name.encode("idna").decode()
        port = parts.port
    except ValueError:
        return None
    # browsers leave a scheme's usual port out of an origin, and compare it as a text
    is_usual_port = port is None or port == {"https": 443, "http": 80}.get(parts.scheme)
    return Site(name, f"{parts.scheme}://{name}" if is_usual_port else f"{parts.scheme}://{name}:{port}")


def _relying_party_name(scheme: str, host: str) -> str | None:
    """Return the name that passkeys are for, or `None` where browsers make none."""
    address = _parse_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return "localhost"
    if scheme != "https" or address is not None or not host:
        return None
    return host


def _parse_address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class RelyingParty:
    """Asks browsers for passkeys, and checks what they answer."""

    def __init__(self, host: Host, key_rechecks: KeyRechecks) -> None:
        self._host = host
        self._store = host.store
        self._key_rechecks = key_rechecks
        self._delays = AttemptDelays(host.store, "passkey")
        self._networks = RateLimits(_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE)

    @property
    def site(self) -> Site | None:
        """The site that passkeys are for, by the address that the operator set; never by a header."""
        return site_of(self._host.public_url)

    def _require_site(self) -> Site:
        site = self.site
        if site is None:
            raise Refusal("Passkeys need https and an address with a name: CONNECTORS_PUBLIC_URL says it.")
        return site

    # --- challenges ---------------------------------------------------------------------------------------------

    # A challenge carries its own end and a keyed hash over what it is for, so that asking for one writes nothing: a
    # million requests cost a million hashes. A row is written once a challenge is answered rightly: it is used up then.

    def _make_challenge(self, purpose: str) -> bytes:
        """Return a challenge for a purpose: a nonce, when it expires, and the signature of both and the purpose."""
        nonce, expires_at = secrets.token_urlsafe(16), self._store.clock.now() + CHALLENGE_FOR
        return f"{nonce}.{expires_at}.{self._sign(purpose, nonce, str(expires_at))}".encode()

    def _sign(self, purpose: str, nonce: str, expires_at: str) -> str:
        return self._store.vault.hash("passkey challenge", purpose, nonce, expires_at)

    def _check_challenge(self, purpose: str, answered: bytes) -> Challenge:
        """Return the challenge that was answered. Raises `Refusal` where it is not ours, for another purpose or old."""
        text = answered.decode("ascii", "replace")
        nonce, _, rest = text.partition(".")
        expires_at, _, signature = rest.partition(".")
        # the signature first: only then the rest is known to be a number that we wrote
        if not hmac.compare_digest(signature.encode(), self._sign(purpose, nonce, expires_at).encode()):
            raise Refusal("this passkey answered a question that was not asked here: try again")
        if int(expires_at) <= self._store.clock.now():
            raise Refusal("that took longer than five minutes: try again")
        return Challenge(text, int(expires_at))

    # --- adding -------------------------------------------------------------------------------------------------

    async def creation_options(self, session: Session, csrf_token: str) -> str:
        """Return what a browser needs to make a passkey for whoever is signed in, as JSON.

        Raises `Refusal` where passkeys do not work here, or there are too many.
        """
        site, principal = self._require_site(), session.principal
        passkeys = await self._store.read(lambda tx: access.passkeys.of_owner(tx, principal.business_id))
        if len(passkeys) >= access.passkeys.MOST:
            raise Refusal("You have {count} passkeys already. Remove one first.", count=len(passkeys))
        handle = self._user_handle(principal)
        # an authenticator that has one of these for the same account makes no second one
        existing = [passkey.credential for passkey in passkeys if passkey.credential.user_handle == handle]
        challenge = self._make_challenge(_adding(session, csrf_token))
        return await asyncio.to_thread(_creation_options, site, principal, handle, challenge, existing)

    async def register(self, session: Session, csrf_token: str, answer: str, label: str) -> None:
        """Check and store the passkey that a browser made. Raises `Refusal`."""
        site = self._require_site()
        handle = self._user_handle(session.principal)
        answered = await _run_check(lambda: _registration_challenge(answer))
        challenge = self._check_challenge(_adding(session, csrf_token), answered)
        credential = await _run_check(lambda: _verify_registration(site, answered, answer, handle))
        label = "".join(sign for sign in label if sign.isprintable()).strip() or session.device
        outcome = await self._store.write(
            lambda tx: access.passkeys.add(
                tx, credential, session.principal, challenge, label=label, device=session.device
            )
        )
        if outcome is not Outcome.done:
            raise Refusal(_NOT_ADDED[outcome])

    def _user_handle(self, principal: Principal) -> str:
        """Return the account that a passkey is for: an authenticator has one passkey for each account, the newest."""
        return self._store.vault.hash("passkey user", principal.business_id or OPERATOR, principal.login)

    # --- signing in ---------------------------------------------------------------------------------------------

    async def request_options(self, csrf_token: str) -> str:
        """Return what a browser needs to sign in with any passkey of this installation, as JSON. Raises `Refusal`."""
        site, challenge = self._require_site(), self._make_challenge(_signing_in(csrf_token))
        return await asyncio.to_thread(_request_options, site, challenge)

    async def authenticate(self, address: str, csrf_token: str, answer: str) -> Passkey:
        """Return the passkey that a browser signed with. Raises `Refusal`, `TooManyAttempts`.

        The order is from what is cheap to what is costly and lasting: the limits, the passkey that the answer names,
        the challenge, the signature, and only then the row that uses the challenge up, and the question to 7stamp.
        """
        self._networks.take(network_of(address))
        await self._delays.count(address)
        site = self._require_site()
        assertion = await _run_check(lambda: _parse_assertion(answer))
        passkey = await self._find_passkey(assertion.credential_id)
        challenge = self._check_challenge(_signing_in(csrf_token), assertion.challenge)
        sign_count = await _run_check(lambda: _verify_assertion(site, assertion, answer, passkey.credential))
        outcome = await self._store.write(lambda tx: access.passkeys.use(tx, passkey.id, sign_count, challenge))
        if outcome is not Outcome.done:
            raise Refusal(_NOT_USED[outcome])
        await self._require_accepted_key(passkey)
        await self._delays.reset(address)
        return passkey

    async def _find_passkey(self, credential_id: str) -> Passkey:
        """Return the passkey with this credential. Raises `Refusal` where there is none, or it may be a copy."""
        passkey = await self._store.read(lambda tx: access.passkeys.of_credential(tx, credential_id))
        if passkey is None:
            raise Refusal(_NOT_USED[Outcome.gone])
        if passkey.refused_at is not None:
            raise Refusal(_NOT_USED[Outcome.copied])
        return passkey

    async def _require_accepted_key(self, passkey: Passkey) -> None:
        """See that 7stamp accepts the key that a business's passkey stands on. Raises `Refusal`."""
        if passkey.principal.business_id is None:
            return
        status = await self._key_status(passkey)
        if status is KeyStatus.unknown:
            raise Refusal("7stamp cannot be asked about the key of this passkey right now: try again in a minute")
        if status is KeyStatus.refused:
            raise Refusal(
                "7stamp refuses the key of this passkey: sign in with a key that works, and the passkey works again"
            )

    async def _key_status(self, passkey: Passkey) -> KeyStatus:
        key, key_hash = passkey.principal.key, passkey.key_hash
        if not key or not key_hash:  # 7stamp refused its key before, and the key was dropped
            return KeyStatus.refused
        return await self._key_rechecks.recheck(key, key_hash, passkey.principal.business_id)


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


# the CSRF token is bound to the browser: so a challenge is answered by the browser that asked for it


def _adding(session: Session, csrf_token: str) -> str:
    """Return the purpose of a challenge for adding a passkey, in this browser and session."""
    return f"add {session.id_hash} {csrf_token}"


def _signing_in(csrf_token: str) -> str:
    """Return the purpose of a challenge for signing in, in this browser."""
    return f"sign in {csrf_token}"


# --- what the `webauthn` package does, in a thread ------------------------------------------------------------------


async def _run_check(check: Callable[[], T]) -> T:
    """Run a check of a stranger's bytes beside the event loop. Raises `Refusal` where it fails."""
    try:
        return await asyncio.to_thread(check)
    except Exception as error:  # noqa: BLE001 - parsers of what anybody sends raise anything
        log.info("a passkey was refused: %s", type(error).__name__)
        raise Refusal("this passkey's answer is not right: try again, or sign in another way") from None


def _creation_options(
    site: Site, principal: Principal, handle: str, challenge: bytes, existing: Sequence[Credential]
) -> str:
    from webauthn import generate_registration_options, options_to_json
    from webauthn.helpers import base64url_to_bytes
    from webauthn.helpers.structs import (
        AuthenticatorSelectionCriteria,
        AuthenticatorTransport,
        PublicKeyCredentialDescriptor,
        ResidentKeyRequirement,
        UserVerificationRequirement,
    )

    excluded = [
        PublicKeyCredentialDescriptor(
            id=base64url_to_bytes(credential.credential_id),
            transports=[AuthenticatorTransport(transport) for transport in credential.transports],
        )
        for credential in existing
    ]
    return options_to_json(
        generate_registration_options(
            rp_id=site.rp_id,
            rp_name=_DISPLAY_NAME,
            user_id=handle.encode(),
            user_name=_user_name(principal),
            challenge=challenge,
            timeout=CHALLENGE_FOR // 1000,  # milliseconds
            # resident: found without typing a name first; verified: the device asks for a finger, a face or its PIN
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=excluded,
        )
    )


def _user_name(principal: Principal) -> str:
    """Return the name under which a device lists the passkey."""
    if principal.business_id is None:
        return principal.login
    return f"{principal.business_name} ({principal.login})"


def _challenge_of(client_data: bytes) -> bytes:
    """Return the challenge that an answer is to. Raises `ValueError` where a page in a frame of another site asked."""
    from webauthn.helpers import parse_client_data_json

    collected = parse_client_data_json(client_data)
    if collected.cross_origin:
        raise ValueError("a page in a frame asked")
    return collected.challenge


def _registration_challenge(answer: str) -> bytes:
    from webauthn.helpers import parse_registration_credential_json

    return _challenge_of(parse_registration_credential_json(answer).response.client_data_json)


def _verify_registration(site: Site, challenge: bytes, answer: str, handle: str) -> Credential:
    """Verify a registration whose challenge is ours; return the credential that it makes."""
    from webauthn import verify_registration_response
    from webauthn.helpers import bytes_to_base64url, parse_registration_credential_json

    parsed = parse_registration_credential_json(answer)
    verified = verify_registration_response(
        credential=parsed,
        expected_challenge=challenge,
        expected_rp_id=site.rp_id,
        expected_origin=site.origin,
        require_user_verification=True,
    )
    return Credential(
        credential_id=bytes_to_base64url(verified.credential_id),
        user_handle=handle,
        public_key=bytes_to_base64url(verified.credential_public_key),
        sign_count=verified.sign_count,
        transports=[transport.value for transport in parsed.response.transports or ()],
    )


def _request_options(site: Site, challenge: bytes) -> str:
    from webauthn import generate_authentication_options, options_to_json
    from webauthn.helpers.structs import UserVerificationRequirement

    return options_to_json(
        generate_authentication_options(
            rp_id=site.rp_id,
            challenge=challenge,
            timeout=CHALLENGE_FOR // 1000,  # milliseconds
            user_verification=UserVerificationRequirement.REQUIRED,
        )
    )


@dataclass(frozen=True, slots=True)
class _Assertion:
    """The claims of an answer, before any of them is proven."""

    credential_id: str
    challenge: bytes
    user_handle: str


def _parse_assertion(answer: str) -> _Assertion:
    from webauthn.helpers import bytes_to_base64url, parse_authentication_credential_json

    parsed = parse_authentication_credential_json(answer)
    challenge = _challenge_of(parsed.response.client_data_json)
    handle = (parsed.response.user_handle or b"").decode("ascii")
    return _Assertion(bytes_to_base64url(parsed.raw_id), challenge, handle)


def _verify_assertion(site: Site, assertion: _Assertion, answer: str, credential: Credential) -> int:
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
        # 0 turns off the package's own comparison: the store compares and writes in one transaction
        credential_current_sign_count=0,
        require_user_verification=True,
    ).new_sign_count
