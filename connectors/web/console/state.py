"""The console of one host: everything that its pages share while the process runs.

Owns how these parts are put together; each part owns what it does, and `visit` gives them to a request's handler.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from jinja2 import Environment

from connectors.runtime.host import Host
from connectors.services import PersonCount, SyncResult
from connectors.web.console.auth import Auth
from connectors.web.console.claim_limits import ClaimLimits
from connectors.web.console.clients import Clients
from connectors.web.console.concurrency_limit import ConcurrencyLimit
from connectors.web.console.cookies import Cookies
from connectors.web.console.credential_checks import CredentialChecks
from connectors.web.console.csrf import CsrfTokens
from connectors.web.console.import_progress import Imports
from connectors.web.console.key_rechecks import KeyRechecks
from connectors.web.console.known_browsers import KnownBrowsers
from connectors.web.console.numbers_cache import NumbersCache
from connectors.web.console.relying_party import RelyingParty
from connectors.web.console.rendering import StaticFiles, form_action_sources, load_static_files, load_templates
from connectors.web.console.saved_forms import SavedForms
from connectors.web.console.security_events import SecurityEvents
from connectors.web.console.sign_in_limits import RateLimits
from connectors.web.console.till_cache import TillCache
from connectors.web.console.uploads import Uploads

_CARD_SEARCHES_PER_SECOND, _CARD_SEARCHES_AT_ONCE = 0.5, 20
_PLAN_CHECKS_PER_SECOND, _PLAN_CHECKS_AT_ONCE = 0.1, 5
_HISTORY_READS_PER_SECOND, _HISTORY_READS_AT_ONCE = 0.02, 6
_RECHECKS_PER_SECOND, _RECHECKS_AT_ONCE = 0.1, 10
_MESSAGES_PER_SECOND, _MESSAGES_AT_ONCE = 0.05, 10


@dataclass
class Console:
    """What all pages of a host's console share."""

    host: Host
    clients: Clients
    cookies: Cookies
    csrf: CsrfTokens
    credentials: CredentialChecks
    auth: Auth
    passkeys: RelyingParty
    security_events: SecurityEvents
    templates: Environment
    static_files: StaticFiles
    form_action: str
    """Where forms may lead, as the content security policy lists it."""
    saved_forms: SavedForms
    uploads: Uploads
    """Files whose columns are being named."""
    imports: Imports
    till_cache: TillCache = field(default_factory=TillCache)
    numbers: NumbersCache = field(default_factory=NumbersCache)
    concurrency: ConcurrencyLimit = field(default_factory=ConcurrencyLimit)
    """Requests that are being answered, by who asked."""
    card_searches: RateLimits = field(
        default_factory=lambda: RateLimits(_CARD_SEARCHES_PER_SECOND, _CARD_SEARCHES_AT_ONCE)
    )
    """Look-ups of customers' cards, by session."""
    claims: ClaimLimits = field(default_factory=ClaimLimits)
    """Receipts that strangers claim."""
    plan_checks: RateLimits = field(default_factory=lambda: RateLimits(_PLAN_CHECKS_PER_SECOND, _PLAN_CHECKS_AT_ONCE))
    """Questions to 7stamp about plans, by business."""
    history_reads: RateLimits = field(
        default_factory=lambda: RateLimits(_HISTORY_READS_PER_SECOND, _HISTORY_READS_AT_ONCE)
    )
    """Tills whose history is counted or taken in, by business."""
    rechecks: RateLimits = field(default_factory=lambda: RateLimits(_RECHECKS_PER_SECOND, _RECHECKS_AT_ONCE))
    """Refused connections that are tried again at till and 7stamp, by business."""
    messages: RateLimits = field(default_factory=lambda: RateLimits(_MESSAGES_PER_SECOND, _MESSAGES_AT_ONCE))
    """Messages to phones that somebody asks for, by business."""
    open_streams: Counter[str] = field(default_factory=Counter)
    """How many live streams are open, by session, by business and in all."""
    sync_tasks: dict[str, asyncio.Task[SyncResult]] = field(default_factory=dict)
    """Syncs that are under way, by connection."""
    import_tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Imports that this host does."""
    erasure_tasks: dict[str, asyncio.Task[PersonCount]] = field(default_factory=dict)
    """Customers that are being looked for or erased, by business."""


def build_console(host: Host) -> Console:
    """Build the console of a host that is open."""
    clients = Clients(host)
    cookies = Cookies(clients)
    csrf = CsrfTokens(host, cookies)
    known_browsers = KnownBrowsers(host.store, cookies, csrf)
    security_events = SecurityEvents(host, clients)
    key_rechecks = KeyRechecks(host)
    return Console(
        host=host,
        clients=clients,
        cookies=cookies,
        csrf=csrf,
        credentials=CredentialChecks(host, clients, known_browsers, security_events),
        auth=Auth(host, cookies, known_browsers, key_rechecks, security_events),
        passkeys=RelyingParty(host, key_rechecks),
        security_events=security_events,
        templates=load_templates(),
        static_files=load_static_files(),
        form_action=form_action_sources(host),
        saved_forms=SavedForms(host.store),
        uploads=Uploads(host.store),
        imports=Imports(host.store),
    )
