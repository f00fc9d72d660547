"""The 7stamp plan of a business: what is used of it, for a person or a program that asks.

Owns what is refused; when the host asks by itself is `connectors.domain.plan`'.
"""

from __future__ import annotations

from connectors.domain.plan import Plan
from connectors.services.context import ServiceContext
from connectors.services.refusal import Refusal
from connectors.sevenstamp.client import SevenStampError
from connectors.store import connections
from connectors.sync.plans import check_plan


class PlanService:
    """Reads and asks about the plans of businesses."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def of_business(self, business_id: str) -> Plan | None:
        """Return the plan as 7stamp last said it, with our operations since; `None` where it is not known."""
        return await self._context.store.read(lambda tx: connections.businesses.plan(tx, business_id))

    async def check(self, business_id: str) -> Plan:
        """Ask 7stamp now, and let what waits for the plan go out where it has room. Raises `Refusal`."""
        check = await self._context.store.read(lambda tx: connections.businesses.plan_check_of(tx, business_id))
        if check is None:
            raise Refusal("no connection of this business could ask 7stamp")
        try:
            return await check_plan(self._context.store, self._context.sevenstamp, check)
        except SevenStampError:
            raise Refusal("7stamp cannot be asked right now; nothing has changed. Try again.") from None
