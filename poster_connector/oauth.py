"""Poster's OAuth: the address the browser goes to, and the trade of its code for a token.

Owns the two addresses and the shapes of their answers; state, storage and the browser are the host's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from connector_sdk.errors import NotAuthorised, NotConfigured, TillUnavailable
from connector_sdk.http import exchange as call
from connector_sdk.http import production_transport
from poster_connector.settings import PosterApp
from poster_connector.wire import JsonObject

TOKEN_LIVES = timedelta(days=730)
_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}")
_CODE = re.compile(r"[!-~]{1,512}")
_DEADLINE = 15.0  # seconds
_LONGEST_REASON = 200


class _Application(NamedTuple):
    """What proves the operator's application to Poster."""

    number: str
    secret: str


def authorise_url(app: PosterApp, redirect_uri: str) -> str:
    """Return the address of Poster's consent page. Raises `NotConfigured`."""
    query = {"application_id": _application(app).number, "redirect_uri": redirect_uri, "response_type": "code"}
    return f"{app.api_url.rstrip('/')}/auth?{urlencode(query)}"


async def exchange(app: PosterApp, returned: Mapping[str, str], redirect_uri: str) -> Mapping[str, SecretStr]:
    """Trade a code for a token. Raises `NotConfigured`, `NotAuthorised` with the reason, or `TillUnavailable`."""
    application = _application(app)
    account, code = returned.get("account", ""), returned.get("code", "")
    if not _ACCOUNT.fullmatch(account):  # it becomes part of an address
        raise NotAuthorised("the account that Poster named is none")
    if not _CODE.fullmatch(code):
        raise NotAuthorised("Poster sent no code")
    form = {
        "application_id": application.number,
        "application_secret": application.secret,
        "grant_type": "authorization_code",
        "redirect_uri": redirect_uri,
        "code": code,
    }
    body = await _post(f"{app.origin_of(account)}/api/v2/auth/access_token", form)
    return {"access_token": SecretStr(_read_token(body))}


async def _post(url: str, form: Mapping[str, str]) -> bytes:
    """Post a form, once: a code is good for one trade only. Raises `TillUnavailable`."""
    # a transport of its own: the address is that of an account, and nothing is asked there twice
    transport = production_transport(1)
    try:
        reply = await call(transport, "POST", url, deadline=_DEADLINE, data=form)
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        # its type only: the text of an error may hold the address, and the form holds secrets
        raise TillUnavailable(f"Poster did not answer ({type(error).__name__})") from None
    finally:
        await transport.aclose()
    return reply.content


def _application(app: PosterApp) -> _Application:
    if not app.application_id:
        raise NotConfigured("POSTER_APPLICATION_ID")
    secret = app.secret()
    if not secret:
        raise NotConfigured("POSTER_APPLICATION_SECRET")
    return _Application(app.application_id, secret)


def _read_token(body: bytes) -> str:
    """Read the token of an answer. Raises `NotAuthorised` with Poster's reason, or `TillUnavailable`."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise TillUnavailable("Poster's answer is not JSON") from None
    members: JsonObject = answer if isinstance(answer, dict) else {}
    token = members.get("access_token")
    if isinstance(token, str) and token:
        number = str(members.get("account_number") or "")
        # the token comes bare and is used as number:secret, as the one from the admin is written
        return token if ":" in token or not number else f"{number}:{token}"
    raise NotAuthorised(_reason(members) or "Poster gave no token")


def _reason(answer: JsonObject) -> str:
    """Return why Poster refused, which it says in one of two fields; empty where it says nothing."""
    return str(answer.get("error_message") or answer.get("message") or "")[:_LONGEST_REASON]
