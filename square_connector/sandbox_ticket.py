"""A ticket at the stand-in Square: what a customer takes, how it is paid, and the members of an order made of both.

Owns the arithmetic of lines, tenders and totals, as pure functions; orders that change are `sandbox_sales`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from square_connector.sandbox_catalogue import FLAT_WHITE, Catalogue
from square_connector.sandbox_values import JsonObject, money

CARD_TYPES = ("CARD", "SQUARE_GIFT_CARD")
_SOURCE_TYPES = {"SQUARE_GIFT_CARD": "CARD", "THIRD_PARTY_CARD": "EXTERNAL", "OTHER": "EXTERNAL"}
_PAYMENT_STATUSES = {"AUTHORIZED": "APPROVED", "CAPTURED": "COMPLETED", "VOIDED": "CANCELED", "FAILED": "FAILED"}
_TOTALS = ("total", "tax", "discount", "tip", "service_charge")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a variation of the catalogue, a custom amount or a gift card. Sums are in the smallest unit.

    `price` is that of one, the catalogue's where it is `None`; `quantity` may be a decimal where there is a `unit`
    (as in `METRIC_KILOGRAM`); `discount` and `tax` are those of the whole line.
    """

    variation: str | None = FLAT_WHITE
    quantity: str = "1"
    price: int | None = None
    unit: str | None = None
    discount: int = 0
    discount_name: str = "Neighbour"
    tax: int = 0
    item_type: str = "ITEM"
    name: str | None = None
    note: str | None = None

    @classmethod
    def custom_amount(cls, amount: int, *, note: str | None = None) -> Line:
        """Return a line of a sum that the cashier typed, of nothing in the catalogue."""
        return cls(variation=None, price=amount, item_type="CUSTOM_AMOUNT", name="Custom Amount", note=note)

    @classmethod
    def gift_card(cls, amount: int) -> Line:
        """Return a line of a gift card that is sold or loaded."""
        return cls(variation=None, price=amount, item_type="GIFT_CARD", name="Gift card")


@dataclass(frozen=True, slots=True)
class Tender:
    """One means of payment. Sums are in the smallest unit.

    `amount` is without the `tip`, and what is left to pay where it is `None`; `customer` is a customer's id that only
    this tender and its payment carry; `card_status` is one of AUTHORIZED, CAPTURED, VOIDED, FAILED.
    """

    type: str = "CARD"
    amount: int | None = None
    tip: int = 0
    customer: str | None = None
    card_status: str = "CAPTURED"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What is rung up at one location (an id; the main one where it is `None`).

    `customer` is the order's own customer; `source` names the application that made the order, and is empty for the
    till; without `versioned` the order has no `version`, as many that the till makes.
    """

    lines: Sequence[Line] = (Line(),)
    tenders: Sequence[Tender] = (Tender(),)
    location: str | None = None
    customer: str | None = None
    ticket_name: str | None = None
    source: str = ""
    versioned: bool = True


def write_lines(lines: Sequence[Line], catalogue: Catalogue, currency: str) -> JsonObject:
    """Return the members of an order that say what is bought: `line_items`, `discounts`, `taxes`."""
    items = [_write_line(number, line, catalogue, currency) for number, line in enumerate(lines, 1)]
    discounts = [
        _adjustment(f"disc-{number}", line.discount_name, line.discount, currency) | {"type": "FIXED_AMOUNT"}
        for number, line in enumerate(lines, 1)
        if line.discount
    ]
    taxes = [
        _adjustment(f"tax-{number}", "Sales tax", line.tax, currency) | {"type": "ADDITIVE"}
        for number, line in enumerate(lines, 1)
        if line.tax
    ]
    members = {"line_items": items, "discounts": discounts, "taxes": taxes}
    # what is empty is absent, as in Square's own answers
    return {name: entries for name, entries in members.items() if entries}


def _write_line(number: int, line: Line, catalogue: Catalogue, currency: str) -> JsonObject:
    price = _price_of(line, catalogue)
    gross = multiply(price, line.quantity)
    item: JsonObject = {"uid": f"li-{number}"}
    if line.variation is not None:
        item |= _name_variation(line.variation, catalogue)
    if line.name is not None:
        item["name"] = line.name
    item |= {
        "quantity": line.quantity,
        "base_price_money": money(price, currency),
        "variation_total_price_money": money(gross, currency),
        "gross_sales_money": money(gross, currency),
        "total_discount_money": money(line.discount, currency),
        "total_tax_money": money(line.tax, currency),
        "total_money": money(gross - line.discount + line.tax, currency),
        "total_service_charge_money": money(0, currency),
        "item_type": line.item_type,
    }
    return item | _optional_members(number, line, currency)


def _optional_members(number: int, line: Line, currency: str) -> JsonObject:
    members: JsonObject = {}
    if line.unit is not None:
        members["quantity_unit"] = {"measurement_unit": {"weight_unit": line.unit}, "precision": 3}
    if line.discount:
        members["applied_discounts"] = [_applied(f"ad-{number}", "discount", number, line.discount, currency)]
    if line.tax:
        members["applied_taxes"] = [_applied(f"at-{number}", "tax", number, line.tax, currency)]
    if line.note is not None:
        members["note"] = line.note
    return members


def _applied(uid: str, kind: str, number: int, amount: int, currency: str) -> JsonObject:
    applied_uid = f"disc-{number}" if kind == "discount" else f"tax-{number}"
    return {"uid": uid, f"{kind}_uid": applied_uid, "applied_money": money(amount, currency)}


def _adjustment(uid: str, name: str, amount: int, currency: str) -> JsonObject:
    return {"uid": uid, "name": name, "scope": "LINE_ITEM", "applied_money": money(amount, currency)}


def _price_of(line: Line, catalogue: Catalogue) -> int:
    """Return what one costs. Raises `KeyError` for a variation that the catalogue lacks, where no price is given."""
    if line.price is not None:
        return line.price
    return catalogue.variations[line.variation].price if line.variation is not None else 0


def _name_variation(variation_id: str, catalogue: Catalogue) -> JsonObject:
    members: JsonObject = {"catalog_object_id": variation_id, "catalog_version": catalogue.version}
    variation = catalogue.variations.get(variation_id)
    if variation is not None:
        members |= {"name": variation.item_name, "variation_name": variation.name}
    return members


def multiply(price: int, quantity: str) -> int:
    """Multiply a sum by a decimal quantity, rounded half to even."""
    return int((Decimal(price) * Decimal(quantity)).quantize(Decimal(1)))


def write_totals(order: JsonObject, currency: str) -> JsonObject:
    """Return the totals of an order, from its lines and the tips of its tenders; the total includes the tips."""
    items = order.get("line_items", [])
    sums = dict.fromkeys(_TOTALS, 0)
    sums["tip"] = sum(tip_of(tender) for tender in order.get("tenders", []))
    sums["tax"] = sum(item["total_tax_money"]["amount"] for item in items)
    sums["discount"] = sum(item["total_discount_money"]["amount"] for item in items)
    sums["total"] = sum(item["total_money"]["amount"] for item in items) + sums["tip"]
    paid = sum(tender["amount_money"]["amount"] for tender in order.get("tenders", []) if _holds_money(tender))
    totals: JsonObject = {
        ("total_money" if name == "total" else f"total_{name}_money"): money(amount, currency)
        for name, amount in sums.items()
    }
    return totals | {
        "net_amount_due_money": money(sums["total"] - paid, currency),
        "net_amounts": write_amounts(currency, **sums),
    }


def write_amounts(
    currency: str, *, total: int, tax: int = 0, discount: int = 0, tip: int = 0, service_charge: int = 0
) -> JsonObject:
    """Write the five sums of `net_amounts` and `return_amounts`."""
    sums = zip(_TOTALS, (total, tax, discount, tip, service_charge), strict=True)
    return {f"{name}_money": money(amount, currency) for name, amount in sums}


def tip_of(tender: JsonObject) -> int:
    """Return the tip of a tender or payment, in the smallest unit."""
    return int(tender.get("tip_money", {}).get("amount", 0))


def _holds_money(tender: JsonObject) -> bool:
    return tender.get("card_details", {}).get("status") not in ("VOIDED", "FAILED")


def write_tender(tender: Tender, tender_id: str, order: JsonObject, left: int, at: str) -> JsonObject:
    """Write a tender of an order of which `left` is still to be paid; `amount_money` includes the tip."""
    currency = order["total_money"]["currency"]
    amount = 0 if tender.type == "NO_SALE" else left if tender.amount is None else tender.amount
    written: JsonObject = {
        "id": tender_id,
        "location_id": order["location_id"],
        "transaction_id": order["id"],
        "created_at": at,
        "amount_money": money(amount + tender.tip, currency),
        "type": tender.type,
    }
    if tender.tip:
        written["tip_money"] = money(tender.tip, currency)
    if tender.customer is not None:
        written["customer_id"] = tender.customer
    if tender.type == "NO_SALE":
        return written  # nothing is paid, so that there is no payment
    return written | _details(tender, written["amount_money"]) | {"payment_id": tender_id}


def _details(tender: Tender, amount: JsonObject) -> JsonObject:
    if tender.type == "CASH":
        return {"cash_details": {"buyer_tendered_money": dict(amount), "change_back_money": amount | {"amount": 0}}}
    if tender.type not in CARD_TYPES:
        return {}
    gift = tender.type == "SQUARE_GIFT_CARD"
    card = {"card_brand": "SQUARE_GIFT_CARD" if gift else "VISA", "last_4": "0001" if gift else "0002"}
    entry = "KEYED" if gift else "CONTACTLESS"
    return {"card_details": {"status": tender.card_status, "card": card, "entry_method": entry}}


def write_payment(tender: JsonObject, at: str, *, product: str, state: str | None = None) -> JsonObject:
    """Write the payment of a tender; its `amount_money` excludes the tip, and `total_money` includes it."""
    whole, tip = tender["amount_money"], tip_of(tender)
    currency = whole["currency"]
    details = tender.get("card_details", {})
    payment: JsonObject = {
        "id": tender["id"],
        "created_at": at,
        "updated_at": at,
        "amount_money": money(whole["amount"] - tip, currency),
        "total_money": money(whole["amount"], currency),
        "approved_money": money(whole["amount"], currency),
        "status": state or _PAYMENT_STATUSES[details.get("status", "CAPTURED")],
        "source_type": _SOURCE_TYPES.get(tender["type"], tender["type"]),
        "location_id": tender["location_id"],
        "order_id": tender["transaction_id"],
        "application_details": {"square_product": product},
        "receipt_number": tender["id"],
        "version_token": "sandbox-version-1",
    }
    if tip:
        payment["tip_money"] = money(tip, currency)
    copied = ("customer_id", "card_details", "cash_details")
    return payment | {name: tender[name] for name in copied if name in tender}
