"""Poster's OAuth: the address the browser goes to, and the trade of its code for a token.

Owns the two addresses and the shapes of their answers; state, storage and the browser are the host's.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from connector_sdk import token_endpoint
from connector_sdk.authorisation import Consent, Grant, Returned
from connector_sdk.errors import NotAuthorised, NotConfigured
from poster_connector.settings import PosterApp
from poster_connector.wire import JsonObject

_ACCOUNT = re.compile(r"[a-z0-9-]{1,63}")
_CODE = re.compile(r"[!-~]{1,512}")
_LONGEST_REASON = 200


class _Application(NamedTuple):
    """What proves the operator's application to Poster."""

    number: str
    secret: str


def authorise_url(app: PosterApp, consent: Consent) -> str:
    """Return the address of Poster's consent page. Raises `NotConfigured`."""
    query = {
        "application_id": _application(app).number,
        "redirect_uri": _redirect_uri(consent.redirect_uri, consent.state),
        "response_type": "code",
    }
    return f"{app.api_url.rstrip('/')}/auth?{urlencode(query)}"


def _redirect_uri(address: str, state: str) -> str:
    """Return where the browser comes back: Poster documents no `state`, so that the address carries it."""
    return f"{address}?{urlencode({'state': state})}"


async def exchange(app: PosterApp, returned: Returned, transport: httpx.AsyncBaseTransport) -> Grant:
    """Trade a code for a token, which does not end.

    Raises `NotConfigured`, `NotAuthorised` with the reason, or `TillUnavailable`.
    """
    application = _application(app)
    account, code = returned.query.get("account", ""), returned.query.get("code", "")
    if not _ACCOUNT.fullmatch(account):  # it becomes part of an address
        raise NotAuthorised("the account that Poster named is none")
    if not _CODE.fullmatch(code):
        raise NotAuthorised("Poster sent no code")
    form = {
        "application_id": application.number,
        "application_secret": application.secret,
        "grant_type": "authorization_code",
        # Poster compares it, letter by letter, with the one that the browser was sent away with
        "redirect_uri": _redirect_uri(returned.redirect_uri, returned.query.get("state", "")),
        "code": code,
    }
    answer = await token_endpoint.post(transport, f"{app.origin_of(account)}/api/v2/auth/access_token", form=form)
    return Grant({"access_token": SecretStr(_read_token(answer.members))})


def _application(app: PosterApp) -> _Application:
    if not app.application_id:
        raise NotConfigured("POSTER_APPLICATION_ID")
    secret = app.secret()
    if not secret:
        raise NotConfigured("POSTER_APPLICATION_SECRET")
    return _Application(app.application_id, secret)


def _read_token(members: JsonObject) -> str:
    """Read the token of an answer. Raises `NotAuthorised` with Poster's reason."""
    token = members.get("access_token")
    if isinstance(token, str) and token:
        number = str(members.get("account_number") or "")
        # the token comes bare and is used as number:secret, as the one from the admin is written
        return token if ":" in token or not number else f"{number}:{token}"
    raise NotAuthorised(_reason(members) or "Poster gave no token")


def _reason(members: JsonObject) -> str:
    """Return why Poster refused, which it says in one of two fields; empty where it says nothing."""
    return str(members.get("error_message") or members.get("message") or "")[:_LONGEST_REASON]
