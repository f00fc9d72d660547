"""Square's OAuth: its consent page, and the trade of codes and refresh tokens.

Owns the addresses and the names in the answers; state, PKCE's verifier, storage and the times of renewal are the
host's. With an application secret it is Square's code flow, whose refresh token stays the same; without one PKCE, whose
refresh tokens are good once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from connector_sdk import token_endpoint
from connector_sdk.authorisation import Consent, Grant, Returned
from connector_sdk.errors import Ambiguous, NotConfigured
from connector_sdk.token_endpoint import TokenAnswer
from square_connector.settings import SquareApp
from square_connector.wire import SCOPES, SQUARE_VERSION


def authorise_url(app: SquareApp, consent: Consent) -> str:
    """Return the address of Square's consent page. Raises `NotConfigured`."""
    query = {
        "client_id": _application_id(app),
        "scope": " ".join(SCOPES),
        "state": consent.state,
        "redirect_uri": consent.redirect_uri,
    }
    if not app.is_squares_sandbox:
        query["session"] = "false"  # the owner signs in, whoever is signed in at Square in this browser
    if app.application_secret is None:
        query["code_challenge"] = consent.code_challenge
    return f"{app.origin}/oauth2/authorize?{urlencode(query)}"


async def exchange(app: SquareApp, returned: Returned, transport: httpx.AsyncBaseTransport) -> Grant:
    """Trade a code for tokens. Raises `NotConfigured`, `NotAuthorised` or `TillUnavailable`."""
    body = {
        "client_id": _application_id(app),
        "grant_type": "authorization_code",
        "code": returned.query.get("code", ""),
        "redirect_uri": returned.redirect_uri,
        # one of the two: Square's guides do not say what becomes of both together
        **(_secret(app) or {"code_verifier": returned.code_verifier}),
    }
    return _grant(app, await _post(app, "token", body, transport))


async def refresh(app: SquareApp, grant: Grant, transport: httpx.AsyncBaseTransport) -> Grant:
    """Trade a refresh token for newer tokens. Raises as `exchange` does."""
    body = {
        "client_id": _application_id(app),
        "grant_type": "refresh_token",
        "refresh_token": grant.secret("refresh_token"),
        **_secret(app),
    }
    return _grant(app, await _post(app, "token", body, transport))


async def revoke(app: SquareApp, grant: Grant, transport: httpx.AsyncBaseTransport) -> None:
    """End all tokens of the seller for this application. Raises as `exchange` does."""
    secret = _secret(app).get("client_secret")
    if secret is None:
        return  # without the secret Square cannot be told: its owner ends the access in the dashboard
    body = {"client_id": _application_id(app), "access_token": grant.secret("access_token")}
    headers = {"Authorization": f"Client {secret}"}
    answer = await token_endpoint.post(
        transport, f"{app.origin}/oauth2/revoke", body=body, headers={**_version(), **headers}
    )
    if answer.status >= 400:
        raise _refusal(answer)


async def _post(app: SquareApp, path: str, body: Mapping[str, str], transport: httpx.AsyncBaseTransport) -> TokenAnswer:
    answer = await token_endpoint.post(transport, f"{app.origin}/oauth2/{path}", body=body, headers=_version())
    if answer.status >= 400:
        raise _refusal(answer)
    return answer


def _version() -> Mapping[str, str]:
    return {"Square-Version": SQUARE_VERSION}


def _application_id(app: SquareApp) -> str:
    if not app.application_id:
        raise NotConfigured("SQUARE_APPLICATION_ID")
    return app.application_id


def _secret(app: SquareApp) -> dict[str, str]:
    if app.application_secret is None:
        return {}
    return {"client_secret": app.application_secret.get_secret_value()}


def _grant(app: SquareApp, answer: TokenAnswer) -> Grant:
    """Read the tokens of an answer. Raises `Ambiguous` where it is none: the code or token may be used up."""
    secrets = {name: SecretStr(answer.member(name)) for name in ("access_token", "refresh_token")}
    try:
        expires_at = datetime.fromisoformat(answer.member("expires_at"))
    except ValueError:
        raise Ambiguous("Square's answer has no time at which the token ends") from None
    if expires_at.tzinfo is None:
        raise Ambiguous("Square's answer has no time at which the token ends")
    # without the application's secret each refresh token is good once
    return Grant(secrets, expires_at, single_use=app.application_secret is None)


def _refusal(answer: TokenAnswer) -> Exception:
    """Return the error of an answer that refuses, with Square's own reason."""
    errors = answer.members.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    detail = TokenAnswer(answer.status, {**answer.members, "reason": first.get("detail") or first.get("code")})
    return detail.refusal("reason", "message")
