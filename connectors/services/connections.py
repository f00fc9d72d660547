"""Connections as a whole: edit, pause, resume and remove them, their hook addresses, and how scripts read them.

Owns the checks of an edit; reading and sending are `sync`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connector_sdk.connector import HookAddress, TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connectors.diagnostics import bundle
from connectors.domain.clock import moment
from connectors.domain.connection import Connection, Health
from connectors.domain.operation import MOVABLE, State
from connectors.services.checks import ConnectionChecks, require_known_fields, scope_from, secret_field, title_from
from connectors.services.context import EMAIL, ServiceContext
from connectors.services.refusal import ENGLISH, Refusal
from connectors.store import connections, inbox, ledger, queries
from connectors.store.connections.registry import ConnectionChange
from connectors.store.engine import Transaction
from connectors.store.ledger.batch import SaleBatch
from connectors.sync import lifecycle
from connectors.sync.planner import plan_redemptions, plan_sale, rule_for


class ConnectionService:
    """TODO."""

    def __init__(self, context: ServiceContext, checks: ConnectionChecks) -> None:
        self._context = context
        self._checks = checks

    async def get(self, connection_id: str) -> Connection:
        """Read a connection. Raises `NotFound`, which names the known ones."""
        return await self._context.connection(connection_id)

    def settings_of(self, connection: Connection) -> dict[str, Any]:
        """Decrypt a connection's settings: never to be shown."""
        return self._context.settings_of(connection)

    async def current_rule(self, connection: Connection) -> StampRule:
        """Read the rule that is in force now."""
        return await self._context.current_rule(connection)

    async def require_known(self, connection_id: str) -> None:
        """Refuse a connection there never was; a removed one still has its journal and operations."""
        if not await self._context.store.read(lambda tx: connections.registry.by_ids(tx, [connection_id])):
            await self._context.connection(connection_id)

    async def list_all(self) -> list[Connection]:
        return await self._context.store.read(connections.registry.list_all)

    async def edit(
        self,
        connection_id: str,
        values: Mapping[str, str],
        *,
        key: str | None = None,
        rule: Callable[[TillAccount, StampRule], StampRule] | None = None,
        locations: Sequence[str] | None = None,
        title: str | None = None,
        poll_seconds: int | None = None,
        expires_at: int | None = None,
    ) -> Connection:
        """Change a connection, each part checked before it replaces the old. Raises `Refusal`."""
        kept = await self._context.connection(connection_id)
        settings: dict[str, Any] | None = None
        account: TillAccount | None = None
        if values:
            require_known_fields(self._context.connector_class(kept.connector), values)
            before = self._context.settings_of(kept)
            settings = {**before, **values}
            account = await self._checks.check_till(kept.connector, settings, before)
            await self._checks.check_still_reads(kept, before, settings)
            if account.id != kept.account.id:
                raise Refusal(
                    "these settings open the account {theirs}, but this connection is joined to {ours}: "
                    "add a connection for the other account instead",
                    field=secret_field(self._context.connector_class(kept.connector)),
                    theirs=f"{account.name} ({account.id})",
                    ours=f"{kept.account.name} ({kept.account.id})",
                )
            secret = secret_field(self._context.connector_class(kept.connector))
            if secret is None or before.get(secret) == settings.get(secret):
                expires_at = kept.expires_at
        login: str | None = None
        if key is not None:
            me = await self._checks.check_key(key)
            login = me.staff_login
            if me.business.id != kept.business_id:
                text = "this key is of another business, {theirs}: add a connection for that one instead"
                raise Refusal(text, field="key", theirs=me.business.name)
        current = await self._context.current_rule(kept)
        changed = rule(kept.account, current) if rule else None
        if changed is not None:
            opens = settings or self._context.settings_of(kept)
            changed = await self._checks.resolve_menu_names(kept.connector, opens, kept.account, changed)
            needed = self._context.connector_class(kept.connector).info.for_categories
            if changed.categories and not needed.items() <= opens.items():
                settings = {**opens, **needed}
                expires_at = expires_at or kept.expires_at
        change = ConnectionChange(
            title=title_from(title) if title is not None else None,
            scope=scope_from(account or kept.account, locations) if locations is not None else None,
            settings=settings,
            account=account,
            sevenstamp_key=key,
            poll_seconds=poll_seconds,
            key_login=login,
            expires_at=expires_at,
        )
        return await self._context.write(lambda tx: lifecycle.edit(tx, kept.id, change, changed))

    async def pause(self, connection_id: str) -> None:
        await self._context.connection(connection_id)
        await self._context.write(lambda tx: connections.registry.set_health(tx, connection_id, Health.paused, None))

    async def resume(self, connection_id: str, *, leave_out: bool = False) -> None:
        """Work again after a pause; its receipts earn stamps unless they are to be left out. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            one = connections.registry.get(tx, connection_id)
            if one.health is not Health.paused:
                return False
            if leave_out:
                connections.registry.leave_out_pause(tx, one)
                _leave_out(tx, one, one.health_since)
            connections.registry.set_health(tx, connection_id, Health.active, None)
            return True

        if not await self._context.write(work):
            raise Refusal("this connection is not paused")

    async def remove(self, connection_id: str) -> None:
        def work(tx: Transaction) -> None:
            lifecycle.remove(tx, connection_id)
            connections.alerts.set_email(tx, connection_id, None, "")

        await self._context.write(work)

    async def set_alert_email(self, connection_id: str, email: str, language: str) -> None:
        """Whom to tell when a connection needs a person; nobody with an empty address. Raises `Refusal`."""
        email = email.strip()
        if email and not EMAIL.fullmatch(email):
            raise Refusal("this is not an email address: write it as anna@example.com", field="email")

        def work(tx: Transaction) -> None:
            if connections.alerts.email_of(tx, connection_id) != (email or None):
                connections.alerts.set_email(tx, connection_id, email or None, language)
                ledger.journal.write(tx, connection_id, Message("connection.email"))

        await self._context.write(work)

    async def count_unsettled(self, connection_id: str) -> int:
        return await self._context.store.read(lambda tx: queries.operations.count_unsettled(tx, connection_id))

    def hook_url(self, one: Connection) -> str | None:
        """Where the till is to post; `None` where it has no hooks."""
        found = self._context.tills.classes.get(one.connector)
        if found is None or found.info.hook_address is HookAddress.nobody:
            return None
        shared = self.shared_hook_url(one.connector)
        if found.info.hook_address is HookAddress.operator:
            return shared
        return f"{shared}/{self._context.store.vault.decrypt(one.hook_token)}"

    def draft_hook_url(self, connector: str, token: str) -> str:
        """Where a till posts that is being taught; it stays so once it is connected."""
        return f"{self.shared_hook_url(connector)}/{token}"

    async def renew_hook_address(self, connection_id: str) -> Connection:
        """Another hook address; the one before lives a day longer. Raises `Refusal` where it has none of its own."""
        one = await self._context.connection(connection_id)
        if self._context.connector_class(one.connector).info.hook_address is not HookAddress.connection:
            raise Refusal("this connection has no address of its own to renew")
        return await self._context.write(lambda tx: connections.registry.renew_hook_address(tx, one.id))

    def shared_hook_url(self, connector: str) -> str:
        """The one address of all accounts of a connector, for tills whose operator sets it."""
        return f"{self._context.public_url()}/hooks/tills/{connector}"

    async def as_json(self, one: Connection) -> dict[str, Any]:
        """A connection as scripts read it."""
        rules, waiting, open_ = await self._context.store.read(
            lambda tx: (
                connections.rules.of_connection(tx, one.id),
                inbox.hints.count_of(tx, one.id),
                queries.operations.count_unsettled(tx, one.id),
            )
        )
        return {
            "id": one.id,
            "status": one.health.value,
            "since": _iso(one.health_since),
            "reason": one.reason.id if one.reason else None,
            "connector": one.connector,
            "account": one.account.id,
            "account_name": one.account.name,
            "business": one.business_id,
            "title": one.title,
            "locations": list(one.scope),
            "rule": rules[-1].rule.model_dump(mode="json", exclude_defaults=True) | {"kind": rules[-1].rule.kind},
            "checkpoint": _iso(one.checkpoint_at),
            "last_poll": _iso(one.last_poll_at),
            "last_hook": _iso(one.last_hook_at),
            "next_poll": _iso(one.next_poll_at),
            "hints_waiting": waiting,
            "operations_open": open_,
            "hook_url": self.hook_url(one),
            "former_hook_until": _iso(one.former_hook_until),
        }

    async def diagnostics(self, connection_id: str) -> bytes:
        """A file (zip) to send to support, redacted."""
        one = await self._context.connection(connection_id)
        return await bundle(self._context.store, one, await self.as_json(one), ENGLISH)

    async def with_refused_keys(self, business_id: str, key: str) -> list[Connection]:
        """The connections of a business whose key 7stamp refuses, and which this one could mend."""
        used = self._context.store.vault.hash("7stamp key", key)
        return await self._context.store.read(lambda tx: queries.overviews.with_refused_keys(tx, business_id, used))

    async def replace_refused_keys(self, business_id: str, key: str) -> int:
        """Give those connections this key; how many."""
        dead = await self.with_refused_keys(business_id, key)
        for one in dead:
            await self.edit(one.id, {}, key=key)
        return len(dead)


def _leave_out(tx: Transaction, one: Connection, since: int) -> None:
    """What arrived in the pause by itself was planned already: nothing of it was sent, so all of it cancels."""
    page = SaleBatch.load(tx, ledger.sales.ids_closed_since(tx, one.id, since))
    for row in page.oldest_first():
        # what a person gave by hand in the pause is given
        if (
            row.admitted
            and not row.claimed
            and all(o.state in MOVABLE | {State.cancelled} for o in page.operations[row.id])
        ):
            row.admitted = 0
            page.mark_changed(row)
            page.end_search(row)
            rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or one.id)).rule
            plan_sale(page, row, one, rule, Message("why.left_out"))
            plan_redemptions(page, row, one, ())
    page.flush()


def _iso(at: int | None) -> str | None:
    return moment(at).isoformat() if at is not None else None
