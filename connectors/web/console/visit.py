"""One request to the console: who sent it, in which language, with which form, and the ways to answer it.

Owns what handlers may ask and return; `routing` decides before it whether a handler may run at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from connector_sdk.connector import Connector, ConnectorInfo
from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.isolation.runner import RemoteTeaching
from connectors.runtime.host import Host
from connectors.services import Refusal, Services
from connectors.store import queries
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Principal, Session, StaffRole
from connectors.store.engine import Transaction
from connectors.store.errors import StoreError
from connectors.store.queries.overviews import Overview
from connectors.web.console.localization import Localizer, zone_of
from connectors.web.console.posted_form import PostedForm
from connectors.web.console.sign_in_limits import TooManyAttempts, network_of
from connectors.web.console.state import Console

_NOTICE_COOKIE = "notice"
_NOTICE_LIFETIME = 60  # seconds
_MAX_NOTICE = 4000


class PageNotFound(Exception):
    """There is no such page, or none that this person may know of."""


class _Notice(NamedTuple):
    """A sentence that the next page shows, and its kind: `good`, `bad`, or nothing where there is no notice."""

    text: str
    kind: str
    secret: str = ""
    """A secret that the page shows this once; empty where there is none."""


@dataclass
class Visit:
    """One request with its session, in the language of whoever sent it."""

    console: Console
    request: Request
    session: Session | None
    """The session that the request belongs to; `None` where nobody is signed in."""
    localizer: Localizer
    form: PostedForm
    csrf_token: str
    """What forms of this browser carry in their field `proof`."""

    # --- who asks, and for what ---------------------------------------------------------------------------------

    @property
    def host(self) -> Host:
        """The host whose console this is."""
        return self.console.host

    @property
    def path_params(self) -> Mapping[str, str]:
        """The parts of the path that the route names, such as `connection`."""
        return self.request.path_params

    @property
    def signed_in_session(self) -> Session:
        """The session of whoever is signed in. Raises `RuntimeError` in a handler for anyone, which must not ask."""
        if self.session is None:
            raise RuntimeError("a handler for anyone asks who is signed in")
        return self.session

    @property
    def principal(self) -> Principal:
        """The business or operator that is signed in; handlers for anyone must not ask."""
        return self.signed_in_session.principal

    @property
    def owner_id(self) -> str:
        """Whom drafts and streams of this session belong to: the business by its id, or `operator`."""
        return self.principal.business_id or OPERATOR

    @property
    def services(self) -> Services:
        """The services, which journal changes with the login of whoever is signed in."""
        return self.host.services.by(self.principal.login)

    @property
    def services_of_nobody(self) -> Services:
        """The services for whoever is not signed in: what they change is journalled without a name."""
        return self.host.services

    # `Any`: a connector is generic in its settings, and this works with every one
    def teaching(self, connector_class: type[Connector[Any]]) -> RemoteTeaching | None:
        """Return how a connector is taught, in the isolation of this owner; `None` where it cannot be taught."""
        return self.host.runner.teaching(connector_class, tenant=self.owner_id)

    def info_of(self, connection: Connection) -> ConnectorInfo | None:
        """Return what the connector of a connection says of itself; `None` where it is not installed any more."""
        connector_class = self.host.plugins.classes.get(connection.connector)
        return connector_class.info if connector_class is not None else None

    def has_history(self, connection: Connection) -> bool:
        """Return whether the till of a connection can be read back in time; one that only sends cannot."""
        connector_class = self.host.plugins.classes.get(connection.connector)
        return connector_class is not None and connector_class.can("poll")

    async def load_overview(self) -> Overview:
        """Load the connection that the path names. Raises `PageNotFound` where it is not the signed-in owner's.

        From then on times are shown in the venue's zone.
        """
        connection_id = self.path_params["connection"]
        overview = await self.host.store.read(lambda tx: queries.overviews.overview(tx, connection_id))
        # the operator, who has no business id, sees the connections of all
        if overview is None or self.principal.business_id not in (None, overview.connection.business_id):
            raise PageNotFound
        if self.signed_in_session.operator and "part" not in self.request.query_params:
            self.console.security_events.count_operator_visit(
                self.request, overview.connection.business_id, overview.connection.id
            )
        self.localizer = self.localizer.in_zone(zone_of(overview.connection.account.zone))
        return overview

    def may(self, role: str) -> bool:
        """Tell whether whoever is signed in may do what needs a role of a business: `counter`, `manager`, `owner`."""
        return self.session is not None and self.principal.role.may_act_as(StaffRole(role))

    def limit_card_search(self) -> None:
        """Count a look-up of a customer's card. Raises `TooManyAttempts` where this session makes too many."""
        self.console.card_searches.take(self.signed_in_session.id_hash)

    def limit_plan_check(self) -> None:
        """Count a question to 7stamp about a plan. Raises `TooManyAttempts` where this business asks too often."""
        self.console.plan_checks.take(self.owner_id)

    def limit_recheck(self) -> None:
        """Count a try of a refused connection. Raises `TooManyAttempts` where this business makes too many."""
        self.console.rechecks.take(self.owner_id)

    def limit_messages(self) -> None:
        """Count a message that somebody sends to a phone. Raises `TooManyAttempts` where there are too many."""
        self.console.messages.take(self.owner_id)

    def record_event(self, tx: Transaction, kind: EventKind, message: Message) -> None:
        """Record in the security log, in a transaction, what the business or operator that is signed in has done."""
        business_id = self.principal.business_id
        self.console.security_events.record(tx, self.request, kind, message, business_id=business_id)

    # --- answers ------------------------------------------------------------------------------------------------

    def render(self, template: str, status: int = 200, **values: object) -> Response:
        """Render a page from its template, with the values that the page gives it."""
        notice = self._read_notice()
        html = self.console.templates.get_template(template).render(
            _=self.localizer.text,
            ngettext=self.localizer.count,
            localizer=self.localizer,
            session=self.session,
            may=self.may,
            csrf_token=self.csrf_token,
            notice=notice.text,
            notice_kind=notice.kind,
            shown_secret=notice.secret,
            current_path=self.request.url.path,
            info_of=self.info_of,
            version=self.console.static_files.version,
            passkey_site=self.console.passkeys.site,
            **values,
        )
        response = HTMLResponse(html.encode("utf-8", "replace"), status)
        if notice.text:
            self.console.cookies.delete(self.request, response, _NOTICE_COOKIE)
        return response

    def redirect(self, path: str, notice: Message | None = None, kind: str = "good", *, secret: str = "") -> Response:
        """Redirect to another page of the console, which shows the notice, and a secret this once."""
        response = RedirectResponse(path, 303)
        if notice is not None:
            # a secret is for one page and one session: another tab that is opened meanwhile neither shows nor spends it
            bound_to = [urlsplit(path).path, self.signed_in_session.id_hash] if secret else []
            # encrypted, so that nobody else can word what a page of ours says, or read a secret
            encrypted = self.host.store.vault.encrypt(json.dumps([kind, notice.stored(), secret, bound_to]))
            self.console.cookies.set(self.request, response, _NOTICE_COOKIE, encrypted, _NOTICE_LIFETIME)
        return response

    def _read_notice(self) -> _Notice:
        """Read the notice that the page before left; a part of a page that is fetched by itself shows none."""
        encrypted = self.console.cookies.read(self.request, _NOTICE_COOKIE, _MAX_NOTICE)
        if not encrypted or self.request.query_params.get("part"):
            return _Notice("", "")
        try:
            kind, stored, secret, bound_to = json.loads(self.host.store.vault.decrypt(encrypted))
            here = [self.request.url.path, self.session.id_hash if self.session is not None else ""]
            if bound_to and bound_to != here:
                return _Notice("", "")
            return _Notice(self.localizer.sentence(Message.restored(stored)), kind, secret)
        except (StoreError, ValueError):
            return _Notice("", "")

    async def save_form(self, page: str, values: Mapping[str, list[str]]) -> str:
        """Save what was typed for a page, secrets too, and return the name it is saved under; "" where it is not."""
        network = network_of(self.console.clients.address(self.request))
        return await self.console.saved_forms.save(page, values, network)

    def explain(self, error: Refusal | TooManyAttempts) -> str:
        """Return why something is refused, as a sentence in the reader's language."""
        if isinstance(error, Refusal):
            return self.localizer.sentence(error.message)
        return self.localizer.count(
            "Too many tries: wait {count} second, then try again.",
            "Too many tries: wait {count} seconds, then try again.",
            error.seconds,
        )
