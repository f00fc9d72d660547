"""Onboarding: connect a till account to a 7stamp key, with the consent of the till where it asks for one.

Owns the order of the checks before a connection is stored; the checks themselves are `checks`'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from connector_sdk.authorisation import Consent, Credentials, Grant, Returned
from connector_sdk.connector import ConnectorInfo, TillAccount
from connector_sdk.errors import ConnectorError, NotAuthorised, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.rule import StampRule
from connectors.domain.connection import Business, Connection
from connectors.plugins import ConnectorClass
from connectors.services.checks import ConnectionChecks, require_known_fields, scope_from, title_from
from connectors.services.context import ServiceContext, SettingValues
from connectors.services.refusal import Refusal
from connectors.sevenstamp.models import Me, Usage
from connectors.store import connections, inbox
from connectors.store.connections.registry import NewConnection
from connectors.store.engine import Transaction
from connectors.store.errors import QuotaMet
from connectors.sync import lifecycle
from connectors.sync.operator_settings import app_settings
from connectors.sync.plans import record_usage
from connectors.sync.renewals import oauth_of


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What a new connection may have beside settings, key and rule."""

    locations: Sequence[str] = ()
    """Ids or names of the locations it covers; empty for all."""
    title: str | None = None
    """What people call it; the till's and the account's names where there is none."""
    poll_seconds: int | None = None
    grant: Grant | None = None
    """What the till's consent page granted."""
    hook_token: str | None = None
    """The token of an address that the till was given before."""
    sample: HookRequest | None = None
    """The request that the connector was taught by."""


_NO_OPTIONS = ConnectOptions()


class OnboardingService:
    """Connects till accounts."""

    def __init__(self, context: ServiceContext, checks: ConnectionChecks) -> None:
        self._context = context
        self._checks = checks

    async def connect(
        self,
        name: str,
        values: Mapping[str, object],
        key: str,
        rule: Callable[[TillAccount], StampRule],
        options: ConnectOptions = _NO_OPTIONS,
    ) -> Connection:
        """Check everything with the till and with 7stamp, then store the connection. Raises `Refusal`.

        `rule` makes the stamp rule for the account that the settings turn out to open.
        """
        connector_class = self._context.connector_class(name)
        # Settings first, then the key, then what depends on the account: a person mends one thing after the other.
        require_known_fields(connector_class, values)
        settings = self._checks.with_generated_defaults(name, values)
        credentials = Credentials(options.grant) if options.grant is not None else None
        account = await self._checks.check_till(name, settings, credentials=credentials)
        me = await self._checks.check_key(key)
        chosen = await self._checks.resolve_menu_names(name, settings, account, rule(account), credentials)
        settings = {**settings, **_needed_by(connector_class, chosen)}
        new = NewConnection(
            connector=name,
            account=account,
            business=_business_of(me),
            title=title_from(options.title or _usual_title(connector_class.info, account)),
            scope=scope_from(account, options.locations),
            settings=settings,
            sevenstamp_key=key,
            poll_seconds=options.poll_seconds,
            key_login=me.staff_login,
            grant=options.grant,
            read_key=self._context.tills.read_key_of(name, settings, account),
            hook_token=options.hook_token,
        )
        connection = await self._store(new, me.operations, chosen, options.sample)
        await self._context.subscriber.subscribe(connection)
        if self._context.loyalty_subscriber is not None:
            await self._context.loyalty_subscriber.subscribe(connection.business_id, connection.id)
        return connection

    async def _store(self, new: NewConnection, usage: Usage, rule: StampRule, sample: HookRequest | None) -> Connection:
        """Store a checked connection with the request it was taught by. Raises `Refusal` beyond the quota."""

        def work(tx: Transaction) -> Connection:
            connection = lifecycle.add(tx, new, rule)
            record_usage(tx, new.business, usage)
            if sample is not None:
                inbox.captured.keep(tx, connection.id, sample, most=1)
            return connection

        # one transaction: a request that arrives right after finds the connection and its sample, or neither
        try:
            return await self._context.write(work)
        except QuotaMet as error:
            raise Refusal(
                "a business has at most {number} tills here: disconnect one first, or ask the operator for more",
                number=error.most,
            ) from None

    def authorise_url(self, name: str, consent: Consent) -> str | None:
        """Return the till's page that asks for consent.

        `None` where the till has no such page, or the operator no application there.
        """
        connector_class = self._context.connector_class(name)
        oauth = oauth_of(connector_class)
        if oauth is None:
            return None
        # An operator without an application at the till has none to send people to: they paste a token instead.
        try:
            return oauth.authorise_url(app_settings(connector_class), consent)
        except NotConfigured:
            return None

    async def exchange_consent(self, name: str, returned: Returned) -> Grant:
        """Trade what a browser brought back from a till's consent page for a grant. Raises `Refusal`."""
        connector_class = self._context.connector_class(name)
        title, oauth = connector_class.info.title, oauth_of(connector_class)
        if oauth is None:
            raise Refusal("{title} has no sign-in of its own", title=title)
        try:
            transport = self._context.tills.transport(name)
            grant = await oauth.exchange(app_settings(connector_class), returned, transport)
        except NotAuthorised as error:
            raise Refusal("{title} did not let us in: {why}", title=title, why=str(error)) from None
        except ConnectorError as error:
            text = "{title} cannot be reached right now. Nothing was changed; try again. ({error})"
            raise Refusal(text, title=title, error=str(error)) from None
        # its age counts from now, however long the rest of the form takes
        return connections.stored_grants.completed(grant, self._context.store.clock.now())


def _usual_title(info: ConnectorInfo, account: TillAccount) -> str:
    return account.name if info.named_by_account else f"{info.title} · {account.name}"


def _business_of(me: Me) -> Business:
    business = me.business
    return Business(
        business.id, business.name, business.country, business.currency, business.timezone, business.language
    )


def _needed_by(connector_class: ConnectorClass, rule: StampRule) -> SettingValues:
    """Return the settings without which the till does not say what a rule by category needs."""
    return connector_class.info.for_categories if rule.categories else {}
