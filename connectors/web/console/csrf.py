"""Protection against forged forms (CSRF): the token in every form, bound to a cookie of this browser.

Owns the token and the cookie that it is made from; `routing` refuses forms without it.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from connectors.domain.clock import SECOND
from connectors.runtime.host import Host
from connectors.web.console.cookies import REMEMBERED_FOR, Cookies

_BROWSER_COOKIE = "visitor"


@dataclass(frozen=True, slots=True)
class BrowserId:
    """The random id by which one browser is known, signed in or not; `is_new` where it has no cookie of it yet."""

    id: str
    is_new: bool


class CsrfTokens:
    """Makes and checks the tokens of forms.

    The token depends on a cookie that outlives sessions: so a form is still known as ours when its session has ended,
    and what was typed can be saved while its sender signs in again.
    """

    def __init__(self, host: Host, cookies: Cookies) -> None:
        self._host = host
        self._cookies = cookies

    def identify_browser(self, request: HTTPConnection) -> BrowserId:
        """Return the id that the browser has, or a new one that `set_browser_cookie` must give it."""
        browser_id = self.browser_id(request)
        return BrowserId(browser_id or secrets.token_urlsafe(18), is_new=not browser_id)

    def browser_id(self, request: HTTPConnection) -> str:
        """Return the id that the browser has; an empty text where it has none."""
        return self._cookies.read(request, _BROWSER_COOKIE)

    def set_browser_cookie(self, request: HTTPConnection, response: Response, browser_id: str) -> None:
        """Give a browser its id."""
        self._cookies.set(request, response, _BROWSER_COOKIE, browser_id, REMEMBERED_FOR // SECOND)

    def token(self, browser_id: str) -> str:
        """Return the token that forms of a browser carry: a keyed hash, which its id cannot be read from."""
        return self._host.store.vault.hash("form", browser_id)

    def is_valid(self, request: HTTPConnection, token: str) -> bool:
        """Tell whether a form came from a page of ours in this browser: by its headers and by its token."""
        if not self._is_same_origin(request):
            return False
        browser_id = self.browser_id(request)
        return bool(browser_id) and hmac.compare_digest(token.encode(), self.token(browser_id).encode())

    def _is_same_origin(self, request: HTTPConnection) -> bool:
        """Tell whether no header says that the form is from another site.

        Browsers send `Sec-Fetch-Site` by https only, but always `Origin` with a form. Without either the token decides.
        """
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = request.headers.get("origin", "")
        own_hosts = (request.url.netloc, urlsplit(self._host.public_url).netloc)
        return not origin or origin.rpartition("://")[2] in own_hosts
