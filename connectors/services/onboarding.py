"""Onboarding: connect a till account to a 7stamp key, with the consent of the till where it asks for one.

Owns the order of the checks before a connection is stored; the checks themselves are `checks`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from connector_sdk.connector import OAuth, TillAccount
from connector_sdk.errors import ConnectorError, NotAuthorised, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.rule import StampRule
from connectors.domain.clock import SECOND
from connectors.domain.connection import Business, Connection
from connectors.services.checks import ConnectionChecks, require_known_fields, scope_from, title_from
from connectors.services.context import ServiceContext
from connectors.services.refusal import Refusal
from connectors.store import inbox
from connectors.store.connections.registry import NewConnection
from connectors.store.engine import Transaction
from connectors.store.errors import QuotaMet
from connectors.sync import lifecycle
from connectors.sync.tills import app_settings


class OnboardingService:
    """TODO."""

    def __init__(self, context: ServiceContext, checks: ConnectionChecks) -> None:
        self._context = context
        self._checks = checks

    async def connect(
        self,
        name: str,
        values: Mapping[str, str],
        key: str,
        rule: Callable[[TillAccount], StampRule],
        *,
        locations: Sequence[str] = (),
        title: str | None = None,
        poll_seconds: int | None = None,
        expires_at: int | None = None,
        hook_token: str | None = None,
        sample: HookRequest | None = None,
    ) -> Connection:
        """Check everything with the till and with 7stamp, then store the connection. Raises `Refusal`.

        `hook_token` is that of an address which the till was given before, `sample` the request that it was taught by.
        """
        found = self._context.connector_class(name)
        require_known_fields(found, values)
        values = self._checks.with_generated_defaults(name, values)
        account = await self._checks.check_till(name, values)
        me = await self._checks.check_key(key)
        business = me.business
        chosen = await self._checks.resolve_menu_names(name, values, account, rule(account))
        new = NewConnection(
            connector=name,
            account=account,
            business=Business(
                business.id, business.name, business.country, business.currency, business.timezone, business.language
            ),
            title=title_from(title or f"{found.info.title} · {account.name}"),
            scope=scope_from(account, locations),
            settings={**values, **(found.info.for_categories if chosen.categories else {})},
            sevenstamp_key=key,
            poll_seconds=poll_seconds,
            key_login=me.staff_login,
            expires_at=expires_at,
            hook_token=hook_token,
        )

        def work(tx: Transaction) -> Connection:
            made = lifecycle.add(tx, new, chosen)
            if sample is not None:
                inbox.captured.keep(tx, made.id, sample, most=1)
            return made

        try:
            return await self._context.write(work)
        except QuotaMet as error:
            raise Refusal(
                "a business has at most {number} tills here: disconnect one first, or ask the operator for more",
                number=error.most,
            ) from None

    def authorise_url(self, name: str, redirect_uri: str) -> str | None:
        """Where a browser goes to let us in; `None` where the till has no such page, or the operator no application."""
        oauth = self._oauth(name)
        if oauth is None:
            return None
        try:
            return oauth.authorise_url(app_settings(self._context.connector_class(name)), redirect_uri)
        except NotConfigured:
            return None

    def _oauth(self, name: str) -> OAuth | None:
        return next((one for one in self._context.connector_class(name).authorisation if isinstance(one, OAuth)), None)

    async def exchange_consent(
        self, name: str, returned: Mapping[str, str], redirect_uri: str
    ) -> tuple[dict[str, str], int | None]:
        """What a consent was traded for: settings, and when they end (UTC microseconds). Raises `Refusal`."""
        found, oauth = self._context.connector_class(name), self._oauth(name)
        if oauth is None:
            raise Refusal("{title} has no sign-in of its own", title=found.info.title)
        try:
            settings = await oauth.exchange(app_settings(found), returned, redirect_uri)
        except NotAuthorised as error:
            raise Refusal("{title} did not let us in: {why}", title=found.info.title, why=str(error)) from None
        except ConnectorError as error:
            text = "{title} cannot be asked right now: {error}. Nothing was stored; try again."
            raise Refusal(text, title=found.info.title, error=str(error)) from None
        ends = self._context.store.clock.now() + int(oauth.lives.total_seconds()) * SECOND if oauth.lives else None
        return {field: secret.get_secret_value() for field, secret in settings.items()}, ends
