"""People: find and erase a customer, for the operator in every business, for a cafe in its own.

Owns who may look where; finding and erasing are `connectors.sync.erasure`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.domain.connection import Business
from connectors.domain.person import Reference, parse_phone
from connectors.services.context import EMAIL, ServiceContext
from connectors.services.refusal import Refusal
from connectors.store import connections
from connectors.store.access.sessions import OPERATOR
from connectors.sync import erasure, person_search
from connectors.sync.person_search import Counts, ReportProgress


@dataclass(frozen=True, slots=True)
class PersonCount:
    """What of a person there is (or was, once erased) in a business."""

    business: Business
    counts: Counts


class PeopleService:
    """TODO."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def businesses(self, business_id: str | None) -> list[Business]:
        """All businesses, or the one of that id. Raises `Refusal`."""
        everyone = await self._context.store.read(connections.businesses.list_all)
        found = [one for one in everyone if business_id in (None, one.id)]
        if business_id is not None and not found:
            raise Refusal(
                "there is no business {business}: `connectors connection show ID` names it", business=business_id
            )
        return found

    async def count_person(self, given: Reference, business: Business, told: ReportProgress) -> PersonCount:
        """How much of whoever has this name there is in a business; changes nothing."""
        found = await person_search.find_person(
            self._context.store, business, given, draft_owners=self._owners(business), report_progress=told
        )
        return PersonCount(business, found.counts)

    async def forget_person(self, given: Reference, business: Business, told: ReportProgress) -> PersonCount:
        """Erase everything of whoever has this name in a business; what was erased."""
        owners = self._owners(business)
        found = await person_search.find_person(
            self._context.store, business, given, draft_owners=owners, report_progress=told
        )
        if found.counts:
            await erasure.erase(self._context.store, found.person, self._context.by, told)
            # what arrived while it was looked for; from the first erasing on, nothing of theirs is stored any more
            late = await person_search.find_person(
                self._context.store, business, given, draft_owners=owners, report_progress=told
            )
            if late.person.has_more_than(found.person):
                await erasure.erase(self._context.store, late.person, self._context.by, told)
        return PersonCount(business, found.counts)

    def _owners(self, business: Business) -> tuple[str, ...]:
        """Whose drafts are looked through: the operator's are the operator's alone."""
        return (business.id, OPERATOR) if self._context.by in (None, OPERATOR) else (business.id,)


def reference_from(text: str, country: str | None) -> Reference:
    """What somebody typed, as a name: a six-digit number, an email, or a phone. Raises `Refusal`."""
    text = text.strip()
    digits = re.sub(r"[\s-]", "", text[:40])
    if re.fullmatch(r"[0-9]{6}", digits, re.ASCII):
        return Reference("number", digits)
    if EMAIL.fullmatch(text):
        return Reference("email", text.lower())
    phone = parse_phone(text[:40], country)
    if phone is None:
        raise Refusal("write a phone with its country code, an email, or the six digits on the card", field="who")
    return Reference("phone", phone)
