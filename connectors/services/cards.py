"""Cards and vouchers apart from receipts: issued, looked up and redeemed for a person or a program that asks.

Owns which of a business' keys asks, and the words of each refusal; what is sent when is `connectors.sync.vouchers`'.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass, replace

from connectors.domain.connection import Connection
from connectors.domain.operation import receipt_in
from connectors.domain.person import parse_phone
from connectors.domain.redeem_codes import reading
from connectors.domain.vouchers import RequestKind, RequestState, own_spelling, tidy_redeem_code
from connectors.services.context import EMAIL, ServiceContext
from connectors.services.refusal import Refusal
from connectors.sevenstamp.client import InvalidKey, Refused, SevenStampClient, SevenStampError
from connectors.sevenstamp.models import Card, Voucher
from connectors.store import connections, ledger
from connectors.store.errors import NotFound, QuotaMet
from connectors.store.ledger.voucher_requests import VoucherRequest
from connectors.sync.vouchers import Vouchers, WantedVoucher

_REDEEM_CODE = re.compile(r"[A-Za-z0-9_-]{3,64}")
_REASONS = {
    "already_redeemed": "this voucher was redeemed already",
    "voucher_expired": "this voucher has expired",
    "voucher_not_found": "7stamp knows no voucher of this code",
    "card_not_found": "7stamp knows no card of this id",
    "plan_limit": "the 7stamp plan has no card updates left this month",
    "invalid": "7stamp does not take this: is the redeem code new, and the template one of yours?",
    "invalid_key": "7stamp refuses the key of this business: give a new one in the settings of its connection",
    "no_answer": "7stamp did not answer for too long: nothing was done",
    "unknown": "nobody could tell whether this was done: look at the voucher",
}


@dataclass(frozen=True, slots=True)
class ShownVoucher:
    """A voucher as 7stamp knows it, and the receipt that redeemed it, where one did."""

    voucher: Voucher
    receipt: str | None


class CardService:
    """Issues and finds cards, and issues, shows and redeems vouchers."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def issue_card(self, business_id: str, *, phone: str | None, email: str | None) -> Card:
        """Issue a card to a customer, who gets the same one again. Raises `Refusal`."""
        connection = await self._asking(business_id)
        name = _name(phone, email, connection.account.country)
        try:
            return await self._client(connection).issue_card(**name)
        except SevenStampError as error:
            raise _refusal(error) from None

    async def find_card(self, business_id: str, *, phone: str | None, email: str | None, number: str | None) -> Card:
        """Find a customer's card by one name: the oldest that is active. Raises `Refusal`, `NotFound`."""
        connection = await self._asking(business_id)
        name = {"number": number} if number is not None else _name(phone, email, connection.account.country)
        try:
            cards = await self._client(connection).cards(**name)
        except SevenStampError as error:
            raise _refusal(error) from None
        active = [card for card in cards if card.active]
        if not active:
            raise NotFound("nobody of this name has a card")
        return active[0]

    async def issue_voucher(
        self, business_id: str, wanted: WantedVoucher, once: str | None = None, *, at: str | None = None
    ) -> VoucherRequest:
        """Issue a voucher; one without a clear answer is looked up, and never issued twice. Raises `Refusal`.

        Under the same `once` it is the same voucher. `at` is the connection at whose till that is.
        """
        if wanted.redeem_code is not None:
            wanted = replace(wanted, redeem_code=tidy_redeem_code(wanted.redeem_code))
        if (wanted.title is None) == (wanted.template_id is None):
            raise Refusal("give the voucher a title, or name a template", field="title")
        if wanted.redeem_code is not None and not _REDEEM_CODE.fullmatch(wanted.redeem_code):
            raise Refusal("a redeem code has 3 to 64 letters, digits, - and _", field="redeem_code")
        connection = await self._asking(business_id, at)
        return await self._finish(self._vouchers.issue(connection, wanted, self._context.by, once))

    async def redeem_voucher(
        self, business_id: str, redeem_code: str, once: str | None = None, *, at: str | None = None
    ) -> VoucherRequest:
        """Redeem a voucher; one without a clear answer is looked up, and never used twice.

        Under the same `once` it is the same redemption. `at` is the connection at whose till that is, and where it is
        counted; any of the business where nobody says. Raises `Refusal`, `NotFound`.
        """
        connection = await self._asking(business_id, at)
        code = _checked(redeem_code)
        return await self._finish(self._vouchers.redeem(connection, code, self._context.by, once))

    async def show_voucher(self, business_id: str, redeem_code: str) -> ShownVoucher:
        """Show a voucher as 7stamp knows it. Raises `Refusal`, `NotFound`."""
        client, typed = self._client(await self._asking(business_id)), _checked(redeem_code)
        # as it is typed first: two codes may read alike
        voucher = await _find_voucher(client, typed)
        if voucher is None and (meant := await self._meant_code(business_id, typed)) != typed:
            voucher = await _find_voucher(client, meant)
        if voucher is None:
            raise NotFound(_REASONS["voucher_not_found"])
        return ShownVoucher(voucher, receipt_in(voucher.redeemed_by_code))

    async def _meant_code(self, business_id: str, typed: str) -> str:
        """Return how a code is written that was typed without its dash, or with look-alikes, where that is sure."""
        reads = reading(typed)
        known = await self._context.store.read(lambda tx: ledger.voucher_states.with_readings(tx, business_id, [reads]))
        codes = known.get(reads) or [own_spelling(typed)]
        return codes[0] if len(codes) == 1 else typed

    async def _finish(self, begun: Awaitable[VoucherRequest]) -> VoucherRequest:
        """Return a request that is not refused. Raises `Refusal` or `NotFound` for one that is."""
        try:
            request = await begun
        except QuotaMet as error:
            raise Refusal("{number} vouchers wait for 7stamp already: try again later", number=error.most) from None
        if request.state not in (RequestState.refused, RequestState.given_up):
            return request
        if request.reason == "voucher_not_found":
            raise NotFound(_REASONS[request.reason])
        if request.reason == "already_redeemed" and request.kind is RequestKind.redeem:
            shown = await self.show_voucher(request.business_id, request.redeem_code)
            if shown.voucher.redeemed_at is not None and shown.receipt is not None:
                raise Refusal(
                    "this voucher was redeemed already, on {day} with receipt {receipt}",
                    day=shown.voucher.redeemed_at.date(),
                    receipt=shown.receipt,
                )
        raise Refusal(_REASONS.get(request.reason or "", _REASONS["invalid"]))

    async def _asking(self, business_id: str, preferred: str | None = None) -> Connection:
        """Return the connection whose key asks: one that works, where there is one. Raises `Refusal`."""
        self._context.require_sevenstamp()
        asking = await self._context.store.read(lambda tx: connections.registry.asking(tx, business_id, preferred))
        if asking is None:
            raise Refusal("connect a till first: its 7stamp key is asked")
        return asking

    def _client(self, connection: Connection) -> SevenStampClient:
        return self._context.sevenstamp.with_key(self._context.store.vault.decrypt(connection.sevenstamp_key))

    @property
    def _vouchers(self) -> Vouchers:
        if self._context.vouchers is None:
            raise self._context.refusal_without_sevenstamp()
        return self._context.vouchers


def _name(phone: str | None, email: str | None, country: str | None) -> dict[str, str]:
    """Return the one name of a customer that was given. Raises `Refusal`."""
    if (phone is None) == (email is None):
        raise Refusal("give a phone or an email, and not both", field="phone")
    if phone is not None:
        parsed = parse_phone(phone, country)
        if parsed is None:
            raise Refusal("this is no phone number: write it with its country, as +34600111222", field="phone")
        return {"phone": parsed}
    if not EMAIL.fullmatch(str(email)):
        raise Refusal("this is no email address", field="email")
    return {"email": str(email)}


async def _find_voucher(client: SevenStampClient, redeem_code: str) -> Voucher | None:
    """Ask 7stamp for a voucher; `None` where it knows none of this code. Raises `Refusal`."""
    try:
        return await client.voucher(redeem_code)
    except Refused as error:
        if error.code == "voucher_not_found":
            return None
        raise _refusal(error) from None
    except SevenStampError as error:
        raise _refusal(error) from None


def _checked(redeem_code: str) -> str:
    code = tidy_redeem_code(redeem_code)
    if not _REDEEM_CODE.fullmatch(code):
        raise NotFound(_REASONS["voucher_not_found"])
    return code


def _refusal(error: SevenStampError) -> Refusal:
    if isinstance(error, InvalidKey):
        return Refusal(_REASONS["invalid_key"])
    if isinstance(error, Refused):
        return Refusal(_REASONS.get(error.code, _REASONS["invalid"]))
    return Refusal("7stamp cannot be asked right now; nothing has changed. Try again.")
