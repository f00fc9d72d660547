"""Forgetting a customer on request: for the operator in every business, for a cafe in its own."""

from __future__ import annotations

import re
from dataclasses import dataclass

from connectors.desk.ground import EMAIL, Ground
from connectors.desk.refusal import Refusal
from connectors.domain.connection import Business
from connectors.domain.person import Reference, international
from connectors.store import connections
from connectors.store.sessions import OPERATOR
from connectors.sync import forgetting
from connectors.sync.forgetting import Counts, Told


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What of a person there is (or was, once erased) in a business."""

    business: Business
    counts: Counts


class Forgetting(Ground):
    """Finding everything of a person, and erasing it."""

    async def businesses(self, business_id: str | None) -> list[Business]:
        """All businesses, or the one of that id. Raises `Refusal`."""
        everyone = await self._store.read(connections.every_business)
        found = [one for one in everyone if business_id in (None, one.id)]
        if business_id is not None and not found:
            raise Refusal(
                "there is no business {business}: `connectors connection show ID` names it", business=business_id
            )
        return found

    async def count_person(self, given: Reference, business: Business, told: Told) -> Forgotten:
        """How much of whoever has this name there is in a business; changes nothing."""
        found = await forgetting.find(self._store, business, given, draft_owners=self._owners(business), told=told)
        return Forgotten(business, found.counts)

    async def forget_person(self, given: Reference, business: Business, told: Told) -> Forgotten:
        """Erase everything of whoever has this name in a business; what was erased."""
        owners = self._owners(business)
        found = await forgetting.find(self._store, business, given, draft_owners=owners, told=told)
        if found.counts:
            await forgetting.erase(self._store, found.person, self._by, told)
            # what arrived while it was looked for; from the first erasing on, nothing of theirs is stored any more
            late = await forgetting.find(self._store, business, given, draft_owners=owners, told=told)
            if late.person.has_more_than(found.person):
                await forgetting.erase(self._store, late.person, self._by, told)
        return Forgotten(business, found.counts)

    def _owners(self, business: Business) -> tuple[str, ...]:
        """Whose drafts are looked through: the operator's are the operator's alone."""
        return (business.id, OPERATOR) if self._by in (None, OPERATOR) else (business.id,)


def read_name(text: str, country: str | None) -> Reference:
    """What somebody typed, as a name: a six-digit number, an email, or a phone. Raises `Refusal`."""
    text = text.strip()
    digits = re.sub(r"[\s-]", "", text[:40])
    if re.fullmatch(r"[0-9]{6}", digits, re.ASCII):
        return Reference("number", digits)
    if EMAIL.fullmatch(text):
        return Reference("email", text.lower())
    phone = international(text[:40], country)
    if phone is None:
        raise Refusal("write a phone with its country code, an email, or the six digits on the card", field="who")
    return Reference("phone", phone)
