"""The application at the stand-in Square: its sellers, the consent they give, and the tokens that come of it.

Owns OAuth as the wire document says it, without HTTP; a seller's own records are `sandbox_seller`'s.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from square_connector.sandbox_records import Event
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_values import Clock, JsonObject, bad_request, refused, utc_now, write_time

APPLICATION_ID = "sandbox-sq0idb-application"
SECRET = "sandbox-sq0csb-secret"  # noqa: S105 - of the sandbox only
SCOPES = ("ORDERS_READ", "PAYMENTS_READ", "CUSTOMERS_READ", "MERCHANT_PROFILE_READ", "ITEMS_READ")
CODE_LIVES = timedelta(minutes=5)
ACCESS_TOKEN_LIVES = timedelta(days=30)
SHORT_ACCESS_TOKEN_LIVES = timedelta(hours=24)
REFRESH_TOKEN_LIVES = timedelta(days=90)
_SCOPES_OF_EVENTS = {
    "order": "ORDERS_READ",
    "payment": "PAYMENTS_READ",
    "refund": "PAYMENTS_READ",
    "customer": "CUSTOMERS_READ",
    "location": "MERCHANT_PROFILE_READ",
}


@dataclass(slots=True)
class Grant:
    """The access that one seller granted once; ends by `revoked`. Made with PKCE where `pkce` is set."""

    seller: Seller
    scopes: tuple[str, ...]
    pkce: bool = False
    revoked: bool = False


@dataclass(slots=True)
class AccessToken:
    """A token that reads until it expires or is revoked."""

    text: str
    grant: Grant
    expires_at: datetime
    revoked: bool = False


@dataclass(slots=True)
class RefreshToken:
    """A token that is traded for access tokens; one of PKCE is good once, and ends (`expires_at`)."""

    grant: Grant
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """What the application asks a seller for: the query of the consent page, checked."""

    scopes: tuple[str, ...]
    redirect_uri: str
    state: str | None = None
    code_challenge: str | None = None
    names_address: bool = True
    """Whether the query itself named the address, so that the trade of the code must name it again."""


@dataclass(frozen=True, slots=True)
class _Code:
    seller: Seller
    consent: Consent
    expires_at: datetime


class SquareApplication:
    """One application with its sellers. `redirect_uri` is the registered one; where it is `None`, any is taken."""

    def __init__(self, *sellers: Seller, now: Clock = utc_now, redirect_uri: str | None = None) -> None:
        self.sellers = {seller.merchant_id: seller for seller in sellers}
        self.now = now
        self.redirect_uri = redirect_uri
        self.grants: list[Grant] = []
        self.access_tokens: dict[str, AccessToken] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self._codes: dict[str, _Code] = {}

    # --- consent ----------------------------------------------------------------------------------------------

    def read_consent(self, query: Mapping[str, str]) -> Consent:
        """Read the query of the consent page. Raises `SquareError` for another application or address."""
        if query.get("client_id") != APPLICATION_ID:
            raise bad_request("There is no such application.", "client_id")
        redirect_uri = query.get("redirect_uri")
        address = redirect_uri or self.redirect_uri
        if address is None or self.redirect_uri not in (None, address) or not address.startswith("http"):
            raise bad_request("This is not the registered redirect URL.", "redirect_uri")
        return Consent(
            scopes=tuple(query.get("scope", "").split()),
            redirect_uri=address,
            state=query.get("state"),
            code_challenge=query.get("code_challenge"),
            names_address=redirect_uri is not None,
        )

    def allow(self, consent: Consent, merchant_id: str) -> str:
        """Let a seller allow what is asked; return the code."""
        code = f"sandbox-code-{secrets.token_hex(16)}"
        self._codes[code] = _Code(self.sellers[merchant_id], consent, self.now() + CODE_LIVES)
        return code

    # --- tokens -----------------------------------------------------------------------------------------------

    def trade(self, form: Mapping[str, object]) -> JsonObject:
        """Answer `POST /oauth2/token`. Raises `SquareError`."""
        if form.get("client_id") != APPLICATION_ID:
            raise refused("UNAUTHORIZED", "There is no such application.")
        match form.get("grant_type"):
            case "authorization_code":
                return self._trade_code(form)
            case "refresh_token":
                return self._refresh(form)
        raise bad_request("grant_type is authorization_code or refresh_token.", "grant_type")

    def _trade_code(self, form: Mapping[str, object]) -> JsonObject:
        text = _required(form, "code")
        code = self._codes.get(text)
        if code is None or code.expires_at < self.now():
            raise refused("UNAUTHORIZED", "The code is unknown, used or expired.")
        pkce = code.consent.code_challenge is not None
        if not pkce or "client_secret" in form:
            _check_secret(form)
        # from here on it counts as used: a wrong verifier is not to be tried again
        del self._codes[text]
        if pkce and _challenge(_required(form, "code_verifier")) != code.consent.code_challenge:
            raise refused("UNAUTHORIZED", "The code verifier is not the challenge's.")
        if code.consent.names_address and form.get("redirect_uri") != code.consent.redirect_uri:
            raise refused("UNAUTHORIZED", "The redirect URL is not the one that the code was given to.")
        grant = self._add_grant(code.seller, code.consent.scopes, pkce=pkce)
        return self._give_tokens(grant, self._new_refresh_token(grant), short_lived=form.get("short_lived") is True)

    def _refresh(self, form: Mapping[str, object]) -> JsonObject:
        text = _required(form, "refresh_token")
        token = self.refresh_tokens.get(text)
        if token is None or token.grant.revoked or self._has_ended(token):
            raise refused("UNAUTHORIZED", "The refresh token is unknown, used, expired or revoked.")
        if token.grant.pkce:
            # good once: the answer brings the next
            del self.refresh_tokens[text]
            text = self._new_refresh_token(token.grant)
        else:
            _check_secret(form)
        return self._give_tokens(token.grant, text, short_lived=form.get("short_lived") is True)

    def _add_grant(self, seller: Seller, scopes: tuple[str, ...], *, pkce: bool = False) -> Grant:
        grant = Grant(seller, scopes, pkce)
        self.grants.append(grant)
        return grant

    def _has_ended(self, token: RefreshToken) -> bool:
        return token.expires_at is not None and token.expires_at < self.now()

    def _new_refresh_token(self, grant: Grant) -> str:
        text = f"sandbox-refresh-{secrets.token_hex(16)}"
        self.refresh_tokens[text] = RefreshToken(grant, self.now() + REFRESH_TOKEN_LIVES if grant.pkce else None)
        return text

    def _give_tokens(self, grant: Grant, refresh_token: str, *, short_lived: bool) -> JsonObject:
        expires_at = self.now() + (SHORT_ACCESS_TOKEN_LIVES if short_lived else ACCESS_TOKEN_LIVES)
        token = AccessToken(f"sandbox-access-{secrets.token_hex(16)}", grant, expires_at)
        self.access_tokens[token.text] = token
        answer: JsonObject = {
            "access_token": token.text,
            "token_type": "bearer",
            "expires_at": write_time(expires_at, 0),
            "merchant_id": grant.seller.merchant_id,
            "refresh_token": refresh_token,
            "short_lived": short_lived,
        }
        ends = self.refresh_tokens[refresh_token].expires_at
        return answer if ends is None else answer | {"refresh_token_expires_at": write_time(ends, 0)}

    def grant(self, merchant_id: str, scopes: Sequence[str] = SCOPES) -> JsonObject:
        """Grant access without a browser; return the answer that `POST /oauth2/token` gives in the code flow."""
        grant = self._add_grant(self.sellers[merchant_id], tuple(scopes))
        return self._give_tokens(grant, self._new_refresh_token(grant), short_lived=False)

    def authenticate(self, authorization: str) -> AccessToken:
        """Return the token of an `Authorization` header. Raises `SquareError` for one that opens nothing."""
        token = self.access_tokens.get(authorization.removeprefix("Bearer "))
        if token is None:
            raise refused("UNAUTHORIZED", "This request could not be authorized.")
        if token.revoked or token.grant.revoked:
            raise refused("ACCESS_TOKEN_REVOKED", "The access token has been revoked.")
        if token.expires_at <= self.now():
            raise refused("ACCESS_TOKEN_EXPIRED", "The access token has expired.")
        return token

    def status(self, authorization: str) -> JsonObject:
        """Answer `POST /oauth2/token/status`. Raises `SquareError`."""
        token = self.authenticate(authorization)
        return {
            "scopes": list(token.grant.scopes),
            "expires_at": write_time(token.expires_at, 0),
            "client_id": APPLICATION_ID,
            "merchant_id": token.grant.seller.merchant_id,
        }

    # --- revocation -------------------------------------------------------------------------------------------

    def revoke(self, authorization: str, form: Mapping[str, object]) -> JsonObject:
        """Answer `POST /oauth2/revoke`. Raises `SquareError`."""
        if authorization != f"Client {SECRET}" or form.get("client_id") != APPLICATION_ID:
            raise refused("UNAUTHORIZED", "The application is not the one with this secret.")
        tokens = self._tokens_named(form)
        if form.get("revoke_only_access_token") is True:
            for token in tokens:
                token.revoked = True
        else:
            self.revoke_seller(tokens[0].grant.seller.merchant_id, "APPLICATION")
        return {"success": True}

    def _tokens_named(self, form: Mapping[str, object]) -> list[AccessToken]:
        """Return the live tokens of the seller or the one token that a form names. Raises `SquareError`."""
        merchant_id, text = form.get("merchant_id"), form.get("access_token")
        if merchant_id is None and text is None:
            raise bad_request("Name merchant_id or access_token.", code="MISSING_REQUIRED_PARAMETER")
        tokens = [
            token
            for token in self.access_tokens.values()
            if text in (None, token.text) and merchant_id in (None, token.grant.seller.merchant_id)
        ]
        if not tokens:
            raise refused("UNAUTHORIZED", "No token of this application is named.")
        return tokens

    def revoke_seller(self, merchant_id: str, revoker_type: str = "MERCHANT") -> None:
        """End every token of a seller, as MERCHANT, APPLICATION or SQUARE does; an event says so."""
        for grant in self.grants:
            if grant.seller.merchant_id == merchant_id:
                grant.revoked = True
        self.sellers[merchant_id].note_revocation(revoker_type)

    # --- webhooks ---------------------------------------------------------------------------------------------

    def may_receive(self, event: Event) -> bool:
        """Return whether the event's seller granted the scope without which its webhook does not come."""
        scope = _SCOPES_OF_EVENTS.get(event.type.partition(".")[0])
        if scope is None:
            return True  # a revocation needs none
        return any(
            scope in grant.scopes and not grant.revoked and grant.seller.merchant_id == event.merchant_id
            for grant in self.grants
        )


def _required(form: Mapping[str, object], name: str) -> str:
    """Return a text that a form must hold. Raises `SquareError`."""
    value = form.get(name)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{name} is missing.", name, "MISSING_REQUIRED_PARAMETER")
    return value


def _check_secret(form: Mapping[str, object]) -> None:
    """Raise `SquareError` unless a form holds the application's secret."""
    if form.get("client_secret") != SECRET:
        raise refused("UNAUTHORIZED", "The application's secret is wrong.")


def _challenge(verifier: str) -> str:
    """Return the S256 challenge of a PKCE verifier."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
