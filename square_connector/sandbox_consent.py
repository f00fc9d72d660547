"""The consent page of the stand-in Square, on which a seller allows or denies what the application asks for.

Owns the page and where the browser goes from it; codes and tokens are `sandbox_application`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from square_connector.sandbox_application import SquareApplication
from square_connector.sandbox_values import SquareError

_CARRIED = ("client_id", "scope", "state", "redirect_uri", "code_challenge", "session")


def show_consent(application: SquareApplication, query: Mapping[str, str]) -> Response:
    """Show the page with the scopes that are asked for; 400 for an unknown application or another address."""
    try:
        consent = application.read_consent(query)
    except SquareError as error:
        return _refuse(error)
    scopes = "".join(f"<li>{escape(scope)}</li>" for scope in consent.scopes)
    hidden = "".join(
        f'<input type="hidden" name="{name}" value="{escape(query[name])}">' for name in _CARRIED if name in query
    )
    page = (
        '<!doctype html><html lang="en"><title>Square sandbox</title><h1>Let this application read your account?</h1>'
        f'<ul>{scopes}</ul><form action="/oauth2/authorize/answer">{hidden}{_sellers(application)}'
        '<button name="answer" value="allow">Allow</button> <button name="answer" value="deny">Deny</button>'
        "</form></html>"
    )
    return Response(page.encode(), headers={"content-type": "text/html; charset=utf-8"})


def _sellers(application: SquareApplication) -> str:
    """Return the choice of a seller."""
    options = "".join(
        f'<option value="{escape(merchant_id)}">{escape(seller.name)}</option>'
        for merchant_id, seller in application.sellers.items()
    )
    return f'<p><label>Seller <select name="seller">{options}</select></label></p>'


def answer_consent(application: SquareApplication, query: Mapping[str, str]) -> Response:
    """Send the browser back with a code or a refusal; without a choice, the first seller allows."""
    try:
        consent = application.read_consent(query)
    except SquareError as error:
        return _refuse(error)
    merchant_id = query.get("seller", next(iter(application.sellers)))
    if query.get("answer") != "allow":
        answer = {"error": "access_denied", "error_description": "user_denied"}
    elif merchant_id in application.sellers:
        answer = {"code": application.allow(consent, merchant_id), "response_type": "code"}
    else:
        return Response(b"there is no such seller", 400, media_type="text/plain")
    if consent.state is not None:
        answer["state"] = consent.state
    separator = "&" if "?" in consent.redirect_uri else "?"
    return RedirectResponse(f"{consent.redirect_uri}{separator}{urlencode(answer)}", 302)


def _refuse(error: SquareError) -> Response:
    return Response(str(error).encode(), error.status, media_type="text/plain")
