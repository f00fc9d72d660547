"""How pages are rendered and served: the templates, the static files beside them, and the headers that protect both.

Owns what every response has in common; the values of a page are the page's, the way to it is `routing`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from urllib.parse import quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from connector_sdk.authorisation import Consent
from connectors.runtime.host import Host

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webmanifest": "application/manifest+json",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages refer to, read once and served from memory."""

    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class StaticFiles:
    """The static files by name; `version` changes with their content and stands in their addresses."""

    files: Mapping[str, StaticFile]
    version: str

    def response(self, name: str) -> Response:
        """Respond with a file, which browsers may keep for a year, or with 404."""
        file = self.files.get(name)
        if file is None:
            return Response(status_code=404)
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return Response(file.body, media_type=file.media_type, headers=headers)


def load_static_files() -> StaticFiles:
    """Read the static files of the package."""
    folder = resources.files("connectors.web.console") / "static"
    files = {
        path.name: StaticFile(_MEDIA_TYPES[path.name.rpartition(".")[2]], _read_static(path))
        for path in folder.iterdir()
    }
    content = b"".join(file.body for _, file in sorted(files.items()))
    return StaticFiles(files, hashlib.sha256(content).hexdigest()[:12])


def _read_static(path: Traversable) -> bytes:
    """Read a file; of a style sheet without what browsers skip: every page waits for it."""
    content = path.read_bytes()
    if not path.name.endswith(".css"):
        return content
    first, *commented = content.split(b"/*")
    text = first + b"".join(part.partition(b"*/")[2] for part in commented)
    return b"\n".join(line for line in map(bytes.strip, text.splitlines()) if line)


@cache  # compiled once a process, however many consoles it has
def load_templates() -> Environment:
    """Return the templates of the console; they escape what they show, and fail on a name that no page gave them."""
    templates = Environment(
        loader=PackageLoader("connectors.web.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals["url"] = lambda text: quote(str(text), safe="")
    return templates


def form_action_sources(host: Host) -> str:
    """List the origins that forms may lead to, for the content security policy: this console and tills' consent pages.

    A browser applies `form-action` to redirects of a form's answer too, and a consent begins with such a redirect.
    """
    origins = {"'self'"}
    consent = Consent(host.services.consents.redirect_uri, "", "")
    for name in host.plugins.classes:
        if address := host.services.onboarding.authorise_url(name, consent):
            parts = urlsplit(address)
            origins.add(f"{parts.scheme}://{parts.netloc}")
    return " ".join(sorted(origins))


def set_security_headers(response: Response, form_action: str, *, https: bool, camera: bool = False) -> None:
    """Keep others from framing, sniffing, caching or scripting a page; `camera` is for one that scans cards."""
    headers = response.headers
    headers.setdefault("Cache-Control", "no-store")
    headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "manifest-src 'self'; "
        f"form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    )
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    # with `no-referrer` a browser sends `Origin: null` with a form, and the check of its origin would refuse it
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Permissions-Policy"] = f"camera=({'self' if camera else ''}), geolocation=(), microphone=()"
    if https:
        headers["Strict-Transport-Security"] = "max-age=31536000"
