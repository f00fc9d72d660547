"""Connections as a whole: edit, pause, resume and remove them, their hook addresses, and how scripts read them.

Owns the order of an edit's checks; the checks are `checks`', reading and sending `sync`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from connector_sdk.authorisation import Credentials, Grant
from connector_sdk.connector import HookAddress, Location, TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connectors.diagnostics import bundle
from connectors.domain.clock import moment
from connectors.domain.connection import UNWELL, Connection, Health
from connectors.domain.operation import MOVABLE, State
from connectors.domain.stamps import RuleVersion
from connectors.services.checks import ConnectionChecks, require_known_fields, scope_from, secret_field, title_from
from connectors.services.context import EMAIL, ServiceContext, SettingValues
from connectors.services.refusal import ENGLISH, Refusal, StillRefused
from connectors.services.results import ConnectionDetails, JsonObject
from connectors.sevenstamp.models import Me
from connectors.store import connections, inbox, ledger, queries
from connectors.store.connections.registry import ConnectionChange
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.sales import SaleRow
from connectors.sync import lifecycle
from connectors.sync.operator_settings import app_settings
from connectors.sync.planner import plan_redemptions, plan_sale, rule_for
from connectors.sync.renewals import oauth_of
from connectors.sync.tills import token_fields, without_tokens

log = logging.getLogger(__name__)

_LEAVING_SECONDS = 30.0

RuleChange = Callable[[TillAccount, StampRule], StampRule]
"""Makes a connection's new rule of its account and the rule in force."""


@dataclass(frozen=True, slots=True)
class _TillAccess:
    """What lets a connection in at its till, in the course of an edit, and what that opens."""

    settings: SettingValues | None = None
    """The settings to store; `None` where they stay."""
    account: TillAccount | None = None
    """The account as the till shows it now; `None` where it was not asked."""
    grant: Grant | None = None
    """What a new consent granted; `None` where there was none."""
    ends_grant: bool = False
    """Whether a token was pasted, in place of a consent."""


class ConnectionService:
    """Changes connections and shows them."""

    def __init__(self, context: ServiceContext, checks: ConnectionChecks) -> None:
        self._context = context
        self._checks = checks

    # --- reading ----------------------------------------------------------------------------------------------

    async def get(self, connection_id: str) -> Connection:
        """Read a connection. Raises `NotFound`, which names the known ones."""
        return await self._context.connection(connection_id)

    def settings_of(self, connection: Connection) -> dict[str, object]:
        """Decrypt a connection's settings: never to be shown."""
        return self._context.settings_of(connection)

    def access_of(self, connection: Connection) -> tuple[dict[str, object], Credentials | None]:
        """Return what lets a connection in at its till: its settings decrypted, and what a consent granted."""
        return self.settings_of(connection), self._context.tills.credentials_of(connection)

    async def current_rule(self, connection: Connection) -> StampRule:
        """Read the rule that is in force now."""
        return await self._context.current_rule(connection)

    async def require_known(self, connection_id: str) -> None:
        """Refuse a connection there never was; a removed one still has its journal and operations.

        Raises `NotFound`.
        """
        if not await self._context.store.read(lambda tx: connections.registry.by_ids(tx, [connection_id])):
            await self._context.connection(connection_id)

    async def list_all(self, business_id: str | None = None) -> list[Connection]:
        """Read all connections (of a business) that are not removed, oldest first."""
        return await self._context.store.read(lambda tx: connections.registry.list_all(tx, business_id))

    async def count_unsettled(self, connection_id: str) -> int:
        """Count the operations that are not settled yet."""
        return await self._context.store.read(lambda tx: queries.operations.count_unsettled(tx, connection_id))

    async def describe(self, connection: Connection) -> ConnectionDetails:
        """Return a connection as scripts read it."""
        # one read for all four: what scripts see is of one moment
        versions, hints_waiting, unsettled, plan = await self._context.store.read(
            lambda tx: (
                connections.rules.of_connection(tx, connection.id),
                inbox.hints.count_of(tx, connection.id),
                queries.operations.count_unsettled(tx, connection.id),
                connections.businesses.plan(tx, connection.business_id),
            )
        )
        return ConnectionDetails(
            id=connection.id,
            status=connection.health.value,
            since=_iso(connection.health_since),
            reason=connection.reason.id if connection.reason else None,
            connector=connection.connector,
            account=connection.account.id,
            account_name=connection.account.name,
            business=connection.business_id,
            title=connection.title,
            locations=list(connection.scope),
            rule=_rule_as_json(versions[-1].rule),
            checkpoint=_iso_or_none(connection.checkpoint_at),
            last_poll=_iso_or_none(connection.last_poll_at),
            last_hook=_iso_or_none(connection.last_hook_at),
            next_poll=_iso(connection.next_poll_at),
            hints_waiting=hints_waiting,
            operations_open=unsettled,
            hook_url=self.hook_url(connection),
            former_hook_until=_iso_or_none(connection.former_hook_until),
            consent_until=_iso_or_none(connection.expires_at),
            consent_troubled=connection.consent_ends_unrenewed(self._context.store.clock.now()),
            undecided_locations=[venue.id for venue in connection.undecided_locations()],
            plan_used=plan.used if plan else None,
            plan_allowed=plan.allowed if plan else None,
        )

    async def diagnostics(self, connection_id: str) -> bytes:
        """Return a file (zip) to send to support, redacted."""
        connection = await self._context.connection(connection_id)
        details = await self.describe(connection)
        return await bundle(self._context.store, connection, details.as_json(), ENGLISH)

    # --- edits ------------------------------------------------------------------------------------------------

    async def edit(
        self,
        connection_id: str,
        values: Mapping[str, object],
        *,
        key: str | None = None,
        rule: RuleChange | None = None,
        locations: Sequence[str] | None = None,
        title: str | None = None,
        poll_seconds: int | None = None,
        grant: Grant | None = None,
    ) -> Connection:
        """Change a connection, each part checked before it replaces the old. Raises `Refusal`.

        `values` are the settings that change, `grant` is what a new consent at the till brought.
        """
        connection = await self._context.connection(connection_id)
        # Everything is checked before anything is stored, so that a refusal leaves the connection as it was.
        access = await self._check_till(connection, values, grant)
        me = await self._check_key(connection, key)
        changed_rule = await self._check_rule(connection, rule, access)
        access = self._with_needed_settings(connection, changed_rule, access)
        account = access.account or connection.account
        change = ConnectionChange(
            title=title_from(title) if title is not None else None,
            scope=scope_from(account, locations) if locations is not None else None,
            settings=access.settings,
            account=access.account,
            sevenstamp_key=key,
            poll_seconds=poll_seconds,
            key_login=me.staff_login if me is not None else None,
            grant=access.grant,
            ends_grant=access.ends_grant,
            read_key=self._read_key(connection, access),
        )
        edited = await self._context.write(lambda tx: lifecycle.edit(tx, connection.id, change, changed_rule))
        if access.ends_grant:
            await self._revoke_unused(connection)
        return edited

    def _read_key(self, connection: Connection, access: _TillAccess) -> str:
        settings = access.settings or self._context.settings_of(connection)
        return self._context.tills.read_key_of(connection.connector, settings, access.account or connection.account)

    async def _check_till(
        self, connection: Connection, values: Mapping[str, object], grant: Grant | None
    ) -> _TillAccess:
        """Try changed settings, or a new grant, at the till. Raises `Refusal`, also for what opens another account."""
        if not values and grant is None:
            return _TillAccess()
        connector_class = self._context.connector_class(connection.connector)
        require_known_fields(connector_class, values)
        before = self._context.settings_of(connection)
        tokens = token_fields(connector_class)
        settings = {**before, **values}
        if grant is not None:  # what was pasted before does not stay beside it
            settings = without_tokens(connector_class, settings)
        pastes_token = any(values.get(name) and values.get(name) != before.get(name) for name in tokens)
        credentials = self._credentials(connection, grant, pastes_token=pastes_token)
        account = await self._checks.check_till(connection.connector, settings, before, credentials=credentials)
        await self._checks.check_still_reads(connection, before, settings)
        if account.id != connection.account.id:
            raise Refusal(
                "these settings open the account {theirs}, but this connection is joined to {ours}: "
                "add a connection for the other account instead",
                field=secret_field(connector_class),
                theirs=f"{account.name} ({account.id})",
                ours=f"{connection.account.name} ({connection.account.id})",
            )
        changed = settings if settings != before or values else None
        # a token that was a consent's before grants were kept has only its end here, which goes as well
        ends_grant = pastes_token and (connection.grant is not None or connection.expires_at is not None)
        return _TillAccess(changed, account, grant, ends_grant=ends_grant)

    def _credentials(self, connection: Connection, grant: Grant | None, *, pastes_token: bool) -> Credentials | None:
        """Return what lets a connection in after an edit; `None` where that is a token of its settings."""
        if grant is not None:
            return Credentials(grant)
        return None if pastes_token else self._context.tills.credentials_of(connection)

    async def _revoke_unused(self, connection: Connection) -> None:
        """Tell the till that a connection's grant is not used any more, unless another connection shares the account.

        What the till answers changes nothing here: it is told once, as a courtesy.
        """
        connector_class = self._context.tills.classes.get(connection.connector)
        oauth = oauth_of(connector_class) if connector_class is not None else None
        credentials = self._context.tills.credentials_of(connection)
        if connector_class is None or oauth is None or oauth.revoke is None or credentials is None:
            return
        # many tills end all of an account's tokens with one of them
        others = await self._context.store.read(
            lambda tx: connections.registry.of_account(tx, connection.connector, connection.account.id)
        )
        if any(other.id != connection.id and other.grant is not None for other in others):
            return
        try:
            transport = self._context.tills.transport(connection.connector)
            await oauth.revoke(app_settings(connector_class), credentials.grant, transport)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the connection ends all the same
            log.warning("connection %s: its consent could not be ended: %s", connection.id, type(error).__name__)

    async def _check_key(self, connection: Connection, key: str | None) -> Me | None:
        """Ask 7stamp whose a new key is. Raises `Refusal` for a key of another business."""
        if key is None:
            return None
        me = await self._checks.check_key(key)
        if me.business.id != connection.business_id:
            text = "this key is of another business, {theirs}: add a connection for that one instead"
            raise Refusal(text, field="key", theirs=me.business.name)
        return me

    async def _check_rule(
        self, connection: Connection, change: RuleChange | None, access: _TillAccess
    ) -> StampRule | None:
        """Make the new rule, its names of products resolved to ids. Raises `Refusal`."""
        if change is None:
            return None
        rule = change(connection.account, await self._context.current_rule(connection))
        settings = access.settings or self._context.settings_of(connection)
        credentials = self._credentials(connection, access.grant, pastes_token=access.ends_grant)
        return await self._checks.resolve_menu_names(
            connection.connector, settings, connection.account, rule, credentials
        )

    def _with_needed_settings(self, connection: Connection, rule: StampRule | None, access: _TillAccess) -> _TillAccess:
        """Add the settings without which the till names no categories, where the new rule is about categories."""
        if rule is None or not rule.categories:
            return access
        settings = access.settings or self._context.settings_of(connection)
        needed = self._context.connector_class(connection.connector).info.for_categories
        if needed.items() <= settings.items():
            return access
        return replace(access, settings={**settings, **needed})

    async def pause(self, connection_id: str) -> None:
        """Read nothing and send nothing until `resume`; hooks are still taken. Raises `NotFound`."""
        await self._context.connection(connection_id)
        await self._context.write(lambda tx: lifecycle.pause(tx, connection_id))

    async def resume(self, connection_id: str, *, leave_out: bool = False) -> None:
        """Work again after a pause; its receipts earn stamps unless they are to be left out. Raises `Refusal`."""

        # read and written in one transaction: pressed twice, the second finds that nothing is paused any more
        def work(tx: Transaction) -> bool:
            connection = connections.registry.get(tx, connection_id)
            if connection.health is not Health.paused:
                return False
            if leave_out:
                connections.registry.leave_out_pause(tx, connection)
                _leave_out(tx, connection, connection.health_since)
            connections.registry.set_health(tx, connection_id, Health.active, None)
            return True

        if not await self._context.write(work):
            raise Refusal("this connection is not paused")

    async def recheck(self, connection_id: str) -> None:
        """Ask till and 7stamp whether a connection that was refused works again; it does then.

        Raises `Refusal` with why it does not, and where nothing is wrong with it.
        """
        connection = await self._context.connection(connection_id)
        if self._context.rechecker is None:
            raise self._context.refusal_without_sevenstamp()
        if connection.health not in UNWELL:
            raise Refusal("nothing is wrong with this connection")
        reason = await self._context.rechecker.recheck(connection)
        if reason is not None:
            raise StillRefused(reason)

    async def remove(self, connection_id: str) -> None:
        """Remove a connection; its receipts, operations and journal stay. Raises `NotFound`.

        The till is told first: to post no more, and that its consent is not used any more. So is 7stamp, where this is
        a business's last connection.
        """
        connection = await self._context.connection(connection_id)
        await self._context.subscriber.unsubscribe(connection)
        await self._leave_till(connection)
        await self._revoke_unused(connection)
        if self._context.loyalty_subscriber is not None:
            await self._context.loyalty_subscriber.unsubscribe(connection_id)
        await self._context.write(lambda tx: lifecycle.remove(tx, connection_id))

    async def _leave_till(self, connection: Connection) -> None:
        """Have a connector take away what it has shown at the till; the connection ends all the same."""
        connector_class = self._context.tills.classes.get(connection.connector)
        if connector_class is None or not connector_class.can("leave"):
            return
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._context.tills.of(connection).leave()
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            log.warning("connection %s: what was shown at its till may stay: %s", connection.id, type(error).__name__)

    async def set_alert_email(
        self, connection_id: str, email: str, language: str, *, weekly: bool | None = None
    ) -> None:
        """Set whom to tell when a connection needs a person; nobody with an empty address. Raises `Refusal`.

        `weekly` says whether they are told of each week on its Monday, too; `None` leaves that as it is.
        """
        address = email.strip() or None
        if address is not None and not EMAIL.fullmatch(address):
            raise Refusal("this is not an email address: write it as anna@example.com", field="email")

        def work(tx: Transaction) -> None:
            former = connections.alerts.watch_of(tx, connection_id)
            if address != (former.email if former is not None else None):
                connections.alerts.set_email(tx, connection_id, address, language)
                ledger.journal.write(tx, connection_id, Message("connection.email"))
            was_weekly = former is not None and former.weekly
            if address is not None and weekly is not None and weekly != was_weekly:
                connections.alerts.set_weekly(tx, connection_id, weekly=weekly)
                ledger.journal.write(tx, connection_id, Message("connection.email_weekly"))

        await self._context.write(work)

    # --- venues -----------------------------------------------------------------------------------------------

    async def take_venue(self, connection_id: str, venue_id: str) -> None:
        """Have a venue's receipts give stamps here from now on. Raises `AlreadyConnected`, or `Refusal` for none."""
        connection = await self._context.connection(connection_id)
        self._require_undecided(connection, venue_id)
        await self._context.write(lambda tx: lifecycle.take_venue(tx, connection_id, venue_id))

    async def leave_venue(self, connection_id: str, venue_id: str) -> None:
        """Leave a venue to nobody here, and ask no more. Raises `Refusal` for one that nobody asked about."""
        connection = await self._context.connection(connection_id)
        venue = self._require_undecided(connection, venue_id)
        await self._context.write(lambda tx: lifecycle.leave_out_venue(tx, connection.id, venue))

    def _require_undecided(self, connection: Connection, venue_id: str) -> Location:
        for venue in connection.undecided_locations():
            if venue.id == venue_id:
                return venue
        raise Refusal("this place is not asked about any more")

    # --- hook addresses ---------------------------------------------------------------------------------------

    def hook_url(self, connection: Connection) -> str | None:
        """Return where the till is to post; `None` where it has no hooks."""
        # not `connector_class`, which refuses: a connection whose plugin is set aside is shown all the same
        connector_class = self._context.tills.classes.get(connection.connector)
        if connector_class is None or connector_class.info.hook_address is HookAddress.nobody:
            return None
        shared = self.shared_hook_url(connection.connector)
        if connector_class.info.hook_address is HookAddress.operator:
            return shared
        return f"{shared}/{self._context.store.vault.decrypt(connection.hook_token)}"

    def draft_hook_url(self, connector: str, token: str) -> str:
        """Return where a till posts that is being taught; it stays so once it is connected."""
        return f"{self.shared_hook_url(connector)}/{token}"

    def shared_hook_url(self, connector: str) -> str:
        """Return the one address of all accounts of a connector, for tills whose operator sets it."""
        return f"{self._context.public_url()}/hooks/tills/{connector}"

    async def renew_hook_address(self, connection_id: str) -> Connection:
        """Make another hook address; the one before lives a day longer.

        Raises `Refusal` where the connection has no address of its own.
        """
        connection = await self._context.connection(connection_id)
        hook_address = self._context.connector_class(connection.connector).info.hook_address
        if hook_address is not HookAddress.connection:
            raise Refusal("this connection has no address of its own to renew")
        renewed = await self._context.write(lambda tx: connections.registry.renew_hook_address(tx, connection.id))
        await self._context.subscriber.subscribe(renewed)
        return renewed

    # --- keys -------------------------------------------------------------------------------------------------

    async def with_refused_keys(self, business_id: str, key: str) -> list[Connection]:
        """Return the connections of a business whose key 7stamp refuses, and which this key could mend."""
        # by the key's hash: connections that have this very key already would not be mended by it
        used = self._context.store.vault.hash("7stamp key", key)
        return await self._context.store.read(lambda tx: queries.overviews.with_refused_keys(tx, business_id, used))

    async def replace_refused_keys(self, business_id: str, key: str) -> int:
        """Give those connections this key and return how many they are. Raises `Refusal`."""
        refused = await self.with_refused_keys(business_id, key)
        for connection in refused:
            await self.edit(connection.id, {}, key=key)
        return len(refused)


def _leave_out(tx: Transaction, connection: Connection, since: int) -> None:
    """Take back what was planned for receipts that arrived in a pause.

    Nothing of it was sent, so all of it can be cancelled.
    """
    batch = SaleBatch.load(tx, ledger.sales.ids_closed_since(tx, connection.id, since))
    for row in batch.oldest_first():
        if _is_left_out(batch, row):
            versions = connections.rules.of_connection(tx, row.rule_of or connection.id)
            _cancel_plan(batch, row, connection, versions)
    batch.flush()


def _is_left_out(batch: SaleBatch, row: SaleRow) -> bool:
    """Return whether nothing of a receipt is given: what a person gave by hand in the pause stays given."""
    unsent = MOVABLE | {State.cancelled}
    return bool(row.admitted and not row.claimed) and all(
        operation.state in unsent for operation in batch.operations[row.id]
    )


def _cancel_plan(batch: SaleBatch, row: SaleRow, connection: Connection, versions: Sequence[RuleVersion]) -> None:
    """Admit a receipt no longer, so that planning cancels its operations and redemptions."""
    row.admitted = 0
    batch.mark_changed(row)
    batch.end_search(row)
    rule = rule_for(row, versions).rule
    plan_sale(batch, row, connection, rule, Message("why.left_out"))
    plan_redemptions(batch, row, connection, rule, None)


def _rule_as_json(rule: StampRule) -> JsonObject:
    return rule.model_dump(mode="json", exclude_defaults=True) | {"kind": rule.kind}


def _iso(at: int) -> str:
    return moment(at).isoformat()


def _iso_or_none(at: int | None) -> str | None:
    return _iso(at) if at is not None else None
