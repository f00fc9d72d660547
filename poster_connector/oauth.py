"""Poster's OAuth: where the browser goes, and what its return is traded for (`wire/poster.md`, "OAuth").

Owns the two addresses and the shapes of their answers; state, storage and the browser are the host's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from connector_sdk.errors import NotAuthorised, NotConfigured, TillUnavailable
from connector_sdk.http import exchange as call
from connector_sdk.http import production_transport
from poster_connector.settings import PosterApp

TOKEN_LIVES = timedelta(days=730)
_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}")
_CODE = re.compile(r"[!-~]{1,512}")
_DEADLINE = 15.0


def authorise_url(app: PosterApp, redirect_uri: str) -> str:
    """Poster's consent page. Raises `NotConfigured`."""
    query = {"application_id": _application(app)[0], "redirect_uri": redirect_uri, "response_type": "code"}
    return f"{app.api_url.rstrip('/')}/auth?{urlencode(query)}"


async def exchange(app: PosterApp, returned: Mapping[str, str], redirect_uri: str) -> Mapping[str, SecretStr]:
    """Trade a code for a token. Raises `NotConfigured`, `NotAuthorised` with the reason, or `TillUnavailable`."""
    number, secret = _application(app)
    account, code = returned.get("account", ""), returned.get("code", "")
    if not _ACCOUNT.fullmatch(account):  # it becomes part of an address
        raise NotAuthorised("the account that Poster named is none")
    if not _CODE.fullmatch(code):
        raise NotAuthorised("Poster sent no code")
    form = {
        "application_id": number,
        "application_secret": secret,
        "grant_type": "authorization_code",
        "redirect_uri": redirect_uri,
        "code": code,
    }
    transport = production_transport(1)
    url = f"{app.origin_of(account)}/api/v2/auth/access_token"
    try:
        reply = await call(transport, "POST", url, deadline=_DEADLINE, data=form)
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        raise TillUnavailable(f"Poster did not answer ({type(error).__name__})") from None
    finally:
        await transport.aclose()
    return {"access_token": SecretStr(_token(reply.content))}


def _application(app: PosterApp) -> tuple[str, str]:
    if not app.application_id:
        raise NotConfigured("POSTER_APPLICATION_ID")
    secret = app.secret()
    if not secret:
        raise NotConfigured("POSTER_APPLICATION_SECRET")
    return app.application_id, secret


def _token(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise TillUnavailable("Poster's answer is not JSON") from None
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if isinstance(token, str) and token:
        number = str(answer.get("account_number") or "")
        return token if ":" in token or not number else f"{number}:{token}"
    reason = str(answer.get("error_message") or answer.get("message") or "") if isinstance(answer, dict) else ""
    raise NotAuthorised(reason[:200] or "Poster gave no token")
