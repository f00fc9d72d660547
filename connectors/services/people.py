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

_LONGEST_PHONE = 40


@dataclass(frozen=True, slots=True)
class PersonCount:
    """How much of a person there is (or was, once erased) in a business."""

    business: Business
    counts: Counts


class PeopleService:
    """Finds and erases customers."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def businesses(self, business_id: str | None) -> list[Business]:
        """Return all businesses, or the one of an id. Raises `Refusal` where there is none of that id."""
        businesses = await self._context.store.read(connections.businesses.list_all)
        if business_id is None:
            return businesses
        chosen = [business for business in businesses if business.id == business_id]
        if not chosen:
            raise Refusal(
                "there is no business {business}: `connectors connection show ID` names it", business=business_id
            )
        return chosen

    async def count_person(self, reference: Reference, business: Business, progress: ReportProgress) -> PersonCount:
        """Count what there is of whoever has this name in a business; changes nothing."""
        trace = await self._find(reference, business, progress)
        return PersonCount(business, trace.counts)

    async def forget_person(self, reference: Reference, business: Business, progress: ReportProgress) -> PersonCount:
        """Erase everything of whoever has this name in a business and count what was erased."""
        if self._context.lookups is not None:
            self._context.lookups.forget(business.id)
        trace = await self._find(reference, business, progress)
        if trace.counts:
            await self._erase(trace, progress)
            # What arrived while the first search went on was not in it. From the first erasing on nothing of theirs
            # is stored any more, so a second search finds all the rest.
            remainder = await self._find(reference, business, progress)
            if remainder.person.has_more_than(trace.person):
                await self._erase(remainder, progress)
        return PersonCount(business, trace.counts)

    async def _find(
        self, reference: Reference, business: Business, progress: ReportProgress
    ) -> person_search.FoundPerson:
        owners = self._draft_owners(business)
        return await person_search.find_person(
            self._context.store, business, reference, draft_owners=owners, report_progress=progress
        )

    async def _erase(self, trace: person_search.FoundPerson, progress: ReportProgress) -> None:
        await erasure.erase(self._context.store, trace.person, self._context.by, progress)

    def _draft_owners(self, business: Business) -> tuple[str, ...]:
        """Return whose drafts are looked through: the operator's only for the operator."""
        # a draft of the operator's may become any business's connection: a cafe must not look into it
        return (business.id, OPERATOR) if self._context.by in (None, OPERATOR) else (business.id,)


def reference_from(text: str, country: str | None) -> Reference:
    """Read what somebody typed as a name: a six-digit number, an email, or a phone of `country`. Raises `Refusal`."""
    reference = parse_reference(text, country)
    if reference is None:
        raise Refusal("write a phone with its country code, an email, or the six digits on the card", field="who")
    return reference


def parse_reference(text: str, country: str | None) -> Reference | None:
    """Read what somebody typed as `reference_from` does; return `None` where it is none of the three."""
    # A card's number first: six digits are no phone anywhere, but a parser of phones might make one of them.
    text = text.strip()
    digits = re.sub(r"[\s-]", "", text)
    if re.fullmatch(r"[0-9]{6}", digits):
        return Reference("number", digits)
    if EMAIL.fullmatch(text):
        return Reference("email", text.lower())
    phone = parse_phone(text[:_LONGEST_PHONE], country)
    return None if phone is None else Reference("phone", phone)
