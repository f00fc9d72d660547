"""Keeping a connection: pausing, resuming, removing it, whom to tell of it, and what it looks like from outside."""

from __future__ import annotations

from typing import Any

from connector_sdk.connector import HookAddress
from connector_sdk.messages import Message
from connectors.desk.ground import EMAIL, Ground
from connectors.desk.refusal import ENGLISH, Refusal
from connectors.diagnostics import bundle
from connectors.domain.clock import moment
from connectors.domain.connection import Connection, Health
from connectors.domain.operation import MOVABLE, State
from connectors.store import connections, hints, journal, ledger, watches
from connectors.store.engine import Transaction
from connectors.store.ledger import Page
from connectors.sync.planner import plan_redemptions, plan_sale, rule_for


class Keeping(Ground):
    """A connection as a whole."""

    async def ever(self, connection_id: str) -> None:
        """Refuse a connection there never was; a removed one still has its journal and operations."""
        if not await self._store.read(lambda tx: connections.of_ids(tx, [connection_id])):
            await self.get(connection_id)

    async def everyone(self) -> list[Connection]:
        return await self._store.read(connections.everyone)

    async def pause(self, connection_id: str) -> None:
        await self.get(connection_id)
        await self._write(lambda tx: connections.set_health(tx, connection_id, Health.paused, None))

    async def resume(self, connection_id: str, *, leave_out: bool = False) -> None:
        """Work again after a pause; its receipts earn stamps unless they are to be left out. Raises `Refusal`."""

        def work(tx: Transaction) -> bool:
            one = connections.get(tx, connection_id)
            if one.health is not Health.paused:
                return False
            if leave_out:
                connections.leave_out_pause(tx, one)
                _leave_out(tx, one, one.health_since)
            connections.set_health(tx, connection_id, Health.active, None)
            return True

        if not await self._write(work):
            raise Refusal("this connection is not paused")

    async def remove(self, connection_id: str) -> None:
        def work(tx: Transaction) -> None:
            connections.remove(tx, connection_id)
            watches.set_email(tx, connection_id, None, "")

        await self._write(work)

    async def tell_by_email(self, connection_id: str, email: str, language: str) -> None:
        """Whom to tell when a connection needs a person; nobody with an empty address. Raises `Refusal`."""
        email = email.strip()
        if email and not EMAIL.fullmatch(email):
            raise Refusal("this is not an email address: write it as anna@example.com", field="email")

        def work(tx: Transaction) -> None:
            if watches.email(tx, connection_id) != (email or None):
                watches.set_email(tx, connection_id, email or None, language)
                journal.note(tx, connection_id, Message("connection.email"))

        await self._write(work)

    async def unsettled(self, connection_id: str) -> int:
        return await self._store.read(lambda tx: ledger.unsettled(tx, connection_id))

    def hook_url(self, one: Connection) -> str | None:
        """Where the till is to post; `None` where it has no hooks."""
        found = self._tills.classes.get(one.connector)
        if found is None or found.info.hook_address is HookAddress.nobody:
            return None
        shared = self.shared_hook_url(one.connector)
        if found.info.hook_address is HookAddress.operator:
            return shared
        return f"{shared}/{self._store.vault.decrypt(one.hook_token)}"

    def draft_hook_url(self, connector: str, token: str) -> str:
        """Where a till posts that is being taught; it stays so once it is connected."""
        return f"{self.shared_hook_url(connector)}/{token}"

    async def renew_address(self, connection_id: str) -> Connection:
        """Another hook address; the one before lives a day longer. Raises `Refusal` where it has none of its own."""
        one = await self.get(connection_id)
        if self.connector(one.connector).info.hook_address is not HookAddress.connection:
            raise Refusal("this connection has no address of its own to renew")
        return await self._write(lambda tx: connections.renew_address(tx, one.id))

    def shared_hook_url(self, connector: str) -> str:
        """The one address of all accounts of a connector, for tills whose operator sets it."""
        return f"{self._public_url()}/hooks/tills/{connector}"

    async def shown(self, one: Connection) -> dict[str, Any]:
        """A connection as scripts read it."""
        rules, waiting, open_ = await self._store.read(
            lambda tx: (connections.rules(tx, one.id), hints.waiting(tx, one.id), ledger.unsettled(tx, one.id))
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
        one = await self.get(connection_id)
        return await bundle(self._store, one, await self.shown(one), ENGLISH)


def _leave_out(tx: Transaction, one: Connection, since: int) -> None:
    """What arrived in the pause by itself was planned already: nothing of it was sent, so all of it cancels."""
    page = Page.load(tx, ledger.sales_closed_since(tx, one.id, since))
    for row in page.oldest_first():
        # what a person gave by hand in the pause is given
        if (
            row.admitted
            and not row.claimed
            and all(o.state in MOVABLE | {State.cancelled} for o in page.operations[row.id])
        ):
            row.admitted = 0
            page.changed(row)
            page.identified(row)
            rule = rule_for(row, connections.rules(tx, row.rule_of or one.id)).rule
            plan_sale(page, row, one, rule, Message("why.left_out"))
            plan_redemptions(page, row, one, ())
    page.flush()


def _iso(at: int | None) -> str | None:
    return moment(at).isoformat() if at is not None else None
