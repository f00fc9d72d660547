"""The sandbox as the conformance suite drives it.

Owns the translation between the suite's sales and Square's orders; the orders themselves are `sandbox_seller`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NoReturn
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import BaseModel, SecretStr

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, SoldLine, TillStub
from square_connector import sandbox as square
from square_connector.connector import SquareConnector
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_catalogue import CROISSANT, ESPRESSO, FLAT_WHITE
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_ticket import Line, Tender, Ticket
from square_connector.sandbox_webhooks import SignedHook, sign_body
from square_connector.settings import SquareApp

_FAILURES: Mapping[Fault, square.Failure] = {
    Fault.unavailable: square.UNAVAILABLE,
    Fault.rate_limited: square.RATE_LIMITED,
    Fault.garbage: square.GARBAGE,
    Fault.refused: square.UNAUTHORIZED,
}
_ADDRESS = "https://host.test/hooks/tills/square"


class SquareStub(TillStub):
    """One seller of the sandbox, called without a network."""

    connector = SquareConnector
    zone = "Europe/Dublin"
    page_size = 3
    customers = (Customer(phone="+353861112201"), Customer(phone="+353861112202", email="anna@example.com"))
    products = (FLAT_WHITE, CROISSANT)
    unknown_receipt = "nobodysOrder"
    unknown_customer = "NOBODY"
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "void": "a closed order of Square's is final: it is refunded, and only an open one is cancelled",
        "old_hook": "Square's signature has no time",
        "joint_hook": "each of Square's hooks is about one payment, refund or order",
    }

    def __init__(self) -> None:
        self.currency = "EUR"
        self._open(self.currency)

    def _open(self, currency: str) -> None:
        places = (Place("First", self.zone, currency, "IE"), Place("Second", self.zone, currency, "IE"))
        self._seller = Seller(places=places, page_size=self.page_size or 1)
        self._sandbox = SquareSandbox(self._seller)
        self._sandbox.post_to(_ADDRESS)

    def trade_in(self, currency: str) -> None:
        """Open the seller anew, in another currency."""
        self.currency = currency
        self._open(currency)

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the account."""
        return self._sandbox.settings()

    def wrong_settings(self) -> Mapping[str, str]:
        """Return a token that opens nothing."""
        return {"access_token": "of-somebody-else"}

    def app(self) -> SquareApp:
        """Return the operator's settings, with what the sandbox signs with."""
        return SquareApp(
            api_url="http://square.test",
            application_id=square.APPLICATION_ID,
            application_secret=SecretStr(square.SECRET),
            signature_key=SecretStr(square.SIGNATURE_KEY),
        )

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that ends in the sandbox."""
        return httpx.ASGITransport(app=self._sandbox.application())

    # --- consent ----------------------------------------------------------------------------------------------

    def consent(self, url: str) -> Mapping[str, str]:
        """Press Allow on the consent page."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        application = self._sandbox.square_application
        consent = application.read_consent(query)
        code = application.allow(consent, self._seller.merchant_id)
        return {"code": code, "response_type": "code", "state": consent.state or ""}

    def expire_access(self) -> None:
        """End every access token now."""
        application = self._sandbox.square_application
        for token in application.access_tokens.values():
            token.expires_at = application.now() - timedelta(seconds=1)

    def revoke_access(self) -> None:
        """End every token of the seller, as its owner does in the dashboard."""
        self._sandbox.square_application.revoke_seller(self._seller.merchant_id)

    # --- what a cashier does ----------------------------------------------------------------------------------

    def sell(self, sold: Sold) -> str:
        """Sell as a cashier does, at the sale's own moment; return the order's id."""
        if sold.by_points is not None:
            self._cannot_pay_by_points()
        with self._seller.clock_at(sold.at):
            ticket = self._ticket(sold)
            return self._seller.open(ticket) if sold.open else self._seller.sell(ticket)

    def _cannot_pay_by_points(self) -> NoReturn:
        self._cannot("points: Square's rewards are discounts, which are no part of what is paid")

    def _ticket(self, sold: Sold) -> Ticket:
        extra = sold.by_gift_card.minor if sold.by_gift_card else 0
        lines = _lines(sold.lines, sold.paid.minor + extra, sold.redeem_code)
        if sold.gift_card_bought is not None:
            lines.append(Line.gift_card(sold.gift_card_bought.minor))
        tenders = [Tender(tip=sold.tip.minor if sold.tip else 0)]
        if sold.by_gift_card is not None:
            tenders.insert(0, Tender("SQUARE_GIFT_CARD", amount=sold.by_gift_card.minor))
        return Ticket(
            lines, [] if sold.open else tenders, location=sold.location_id, customer=self._customer(sold.customer)
        )

    def _customer(self, customer: Customer | None) -> str | None:
        return self._seller.customer_of(customer.phone, customer.email) if customer else None

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Give an order another sum."""
        self._seller.correct(receipt_id, paid.minor)

    def attach(self, receipt_id: str, customer: Customer) -> None:
        """Attach a customer to the order's payment, where Square fills it in."""
        payment = str(self._seller.payments_of(receipt_id)[0]["id"])
        self._seller.attach_customer_to_payment(payment, self._seller.customer_of(customer.phone, customer.email))

    def refund(self, receipt_id: str, amount: Money | None = None, at: datetime | None = None) -> None:
        """Refund an amount, or every line and the tip."""
        with self._seller.clock_at(at or self._seller.now()):
            if amount is None:
                self._seller.refund_everything(receipt_id)
            else:
                self._seller.refund_amount(receipt_id, amount.minor)

    def return_line(self, receipt_id: str, line: SoldLine) -> None:
        """Take some of a line back."""
        order = self._seller.answered_order(receipt_id) or {}
        uid = next(str(sold["uid"]) for sold in order["line_items"] if sold.get("catalog_object_id") == line.product_id)
        self._seller.refund_lines(receipt_id, {uid: str(line.quantity)})

    def open_venue(self, name: str, zone: str) -> str:
        """Open a location."""
        return self._seller.open_location(Place(name, zone, self.currency, "IE"))

    # --- what goes wrong --------------------------------------------------------------------------------------

    def spoil(self, receipt_id: str) -> None:
        """Make an order's sum a word."""
        self._seller.spoil(receipt_id)

    def spoil_refund(self, receipt_id: str) -> None:
        """Make the sum of an order's refunds a word."""
        payments = {payment["id"] for payment in self._seller.payments_of(receipt_id)}
        for refund in self._seller.refunds.values():
            if refund.get("payment_id") in payments:
                refund["amount_money"] = {"amount": "twelve", "currency": self.currency}

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Make the next answers fail."""
        self._sandbox.fail_next[:] = [_FAILURES[fault]] * times

    # --- hooks ------------------------------------------------------------------------------------------------

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the hook about an order's first payment."""
        return _posted(self._sandbox.hook(receipt_id))

    def refund_hook(self, receipt_id: str) -> HookRequest:
        """Return the newest hook about a refund."""
        hooks = [hook for hook in self._sandbox.take_hooks() if b'"type":"refund.' in hook.body.replace(b" ", b"")]
        return _posted(hooks[-1])

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return the same hook, signed with a guessed key."""
        headers = {**hook.headers, "x-square-hmacsha256-signature": sign_body(hook.body, "guessed", hook.url)}
        return HookRequest(hook.method, headers, {}, hook.body, hook.url)

    def forget_secret(self, connector: Connector[BaseModel]) -> None:
        """Take the subscription's signature key away."""
        connector.app = connector.app.model_copy(update={"signature_key": None})


def _posted(hook: SignedHook) -> HookRequest:
    headers = {name.lower(): value for name, value in hook.headers.items()}
    return HookRequest("POST", headers, {}, hook.body, _ADDRESS)


def _lines(lines: tuple[SoldLine, ...], total: int, note: str | None) -> list[Line]:
    """Write lines whose prices add up to a total: all but the first cost one unit."""
    sold = lines or (SoldLine(ESPRESSO),)
    first, *others = sold
    rest = total - sum(int(line.quantity) for line in others)
    price = -(-rest // int(first.quantity))
    # what does not divide is taken off as a discount
    discount = price * int(first.quantity) - rest
    return [
        Line(first.product_id, _text(first.quantity), price=price, discount=discount, note=note),
        *(Line(line.product_id, _text(line.quantity), price=1) for line in others),
    ]


def _text(quantity: Decimal) -> str:
    return f"{quantity.normalize():f}"
