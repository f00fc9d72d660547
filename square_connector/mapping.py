"""Square's order with its refunds as a `Sale`; pure functions of what was sent.

Owns what Square's fields mean; how they are read is `wire`'s, and which records belong to an order `reading`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from pydantic import ValidationError

from connector_sdk.connector import Location, MenuItem, TillAccount
from connector_sdk.errors import BadPayload
from connector_sdk.json_text import encode_json
from connector_sdk.money import Money
from connector_sdk.redeem_codes import find_redeem_codes
from connector_sdk.sale import Customer, Line, Sale, SaleStatus
from square_connector.reading import OrderRecords, customer_ids
from square_connector.settings import SquareSettings
from square_connector.wire import (
    JsonObject,
    money_in,
    object_in,
    objects_in,
    quantity_in,
    text_in,
    time_in,
)

_STATUS = {"OPEN": SaleStatus.open, "COMPLETED": SaleStatus.closed, "CANCELED": SaleStatus.voided}
_NOT_MONEY = frozenset({"SQUARE_GIFT_CARD", "NO_SALE"})
"""Kinds of tender that no money is paid with now: a gift card was paid for when it was sold or loaded."""
_NOT_PAID = frozenset({"AUTHORIZED", "VOIDED", "FAILED"})
"""States of a card's tender in which nothing has been paid."""
_GIFT_CARD_LINE = "GIFT_CARD"
_CURRENCY = re.compile(r"[A-Z]{3}")
_LONGEST_REMARK, _MOST_REMARKS = 2000, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[0-9]{6}")
_INSTANT_PROFILE = "INSTANT_PROFILE"
_CUSTOM = "CUSTOM_AMOUNT"


def sale_of(records: OrderRecords, settings: SquareSettings, categories: Mapping[str, str] | None = None) -> Sale:
    """Map an order; `categories` maps variation to category. Raises `BadPayload` with field, reason and body."""
    try:
        if records.wrong is not None:
            raise records.wrong
        return _map_order(records, settings, categories or {})
    except BadPayload as error:
        # the body is added here, once, so that what reads a single field need not know the order
        raise BadPayload(error.where, error.why, _body(records)) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "order"
        raise BadPayload(where, first["msg"], _body(records)) from None


def _body(records: OrderRecords) -> bytes:
    return encode_json({"order": records.order, "refunds": records.refunds, "returns": records.returns})


def _map_order(records: OrderRecords, settings: SquareSettings, categories: Mapping[str, str]) -> Sale:
    order = records.order
    currency = _currency(order)
    status = _status(order)
    paid = _paid(order, currency)
    remarks = _remarks(order) if settings.redeem_codes else []
    return Sale(
        receipt_id=text_in(order, "id"),
        version=_version(records),
        status=status,
        closed_at=None if status is SaleStatus.open else time_in(order, "closed_at") or time_in(order, "updated_at"),
        paid=paid,
        refunded=_refunded(records, paid),
        customer=_customer_reference(records),
        lines=_lines(records, categories),
        redeem_codes=find_redeem_codes(*remarks),
        remarks=tuple(remark[:_LONGEST_REMARK] for remark in remarks)[:_MOST_REMARKS],
        location_id=text_in(order, "location_id") or None,
        gift=paid.minor <= 0,
    )


def _currency(order: JsonObject) -> str:
    """Return the order's currency, which is its location's."""
    amounts = [object_in(order, "total_money"), *(object_in(tender, "amount_money") for tender in _tenders(order))]
    currency = next((text for amount in amounts if (text := text_in(amount, "currency"))), "")
    if not _CURRENCY.fullmatch(currency):
        raise BadPayload("total_money.currency", "is missing")
    return currency


def _status(order: JsonObject) -> SaleStatus:
    state = text_in(order, "state")
    if state not in _STATUS:
        raise BadPayload("state", f"is {state[:40] or 'missing'}, which Square does not document")
    # paid, and its lines are not there yet: a receipt is counted once they are
    if state == "COMPLETED" and not objects_in(order, "line_items") and _has_money(order):
        return SaleStatus.open
    return _STATUS[state]


def _has_money(order: JsonObject) -> bool:
    return any(text_in(tender, "type") != "NO_SALE" for tender in _tenders(order))


def _version(records: OrderRecords) -> int:
    """Return the latest change of anything that belongs to the sale, in microseconds.

    Not `version`: orders of the till itself may have none, and a refund that is completed, or a customer that Square
    fills in at the payment, need not raise it.
    """
    changed = [records.order, *records.refunds, *records.payments]
    times = [time for record in changed if (time := time_in(record, "updated_at")) is not None]
    if not times:
        raise BadPayload("updated_at", "is missing")
    return (max(times) - _EPOCH) // timedelta(microseconds=1)


# --- money ------------------------------------------------------------------------------------------------------------


def _tenders(order: JsonObject) -> list[JsonObject]:
    return objects_in(order, "tenders")


def _is_money(tender: JsonObject) -> bool:
    """Say whether money was paid with a tender."""
    card_status = text_in(object_in(tender, "card_details"), "status")
    return text_in(tender, "type") not in _NOT_MONEY and card_status not in _NOT_PAID


def _paid(order: JsonObject, currency: str) -> Money:
    """Sum what was paid in money for other things than gift cards, without tips."""
    minor = 0
    for at, tender in enumerate(_tenders(order)):
        if _is_money(tender):
            where = f"tenders.{at}."
            # here the amount includes the tip; in a payment of Square's it does not
            minor += money_in(tender, "amount_money", currency, where).minor
            minor -= money_in(tender, "tip_money", currency, where).minor
    for at, line in enumerate(objects_in(order, "line_items")):
        if text_in(line, "item_type") == _GIFT_CARD_LINE:  # paying in advance is no purchase yet
            minor -= money_in(line, "total_money", currency, f"line_items.{at}.").minor
    return Money(max(0, minor), currency)


def _refunded(records: OrderRecords, paid: Money) -> Money:
    """Sum the completed refunds of what was paid in money, without the tips that went back with them."""
    of_money = {text_in(tender, "id") for tender in _tenders(records.order) if _is_money(tender)}
    tips = {text_in(order, "id"): object_in(order, "return_amounts") for order in records.returns}
    minor, tips_counted = 0, set[str]()
    for refund in records.refunds:
        if text_in(refund, "status") != "COMPLETED" or text_in(refund, "payment_id") not in of_money:
            continue
        where = f"refunds.{text_in(refund, 'id')}."
        minor += money_in(refund, "amount_money", paid.currency, where).minor
        order_id = text_in(refund, "order_id")
        # one return may be paid back with several refunds: its tip is in them once
        if order_id in tips and order_id not in tips_counted:
            tips_counted.add(order_id)
            minor -= money_in(tips[order_id], "tip_money", paid.currency, f"{where}return_amounts.").minor
    for where, line in _returned_lines(records):
        if text_in(line, "item_type") == _GIFT_CARD_LINE:  # it was no purchase either when it was sold
            minor -= money_in(line, "total_money", paid.currency, f"{where}.").minor
    return Money(min(max(0, minor), paid.minor), paid.currency)


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines(records: OrderRecords, categories: Mapping[str, str]) -> tuple[Line, ...]:
    returned = _returned_quantities(records)
    return tuple(
        _line(line, f"line_items.{at}", returned, categories)
        for at, line in enumerate(objects_in(records.order, "line_items"))
        if text_in(line, "item_type") != _GIFT_CARD_LINE
    )


def _line(raw: JsonObject, where: str, returned: Mapping[str, Decimal], categories: Mapping[str, str]) -> Line:
    product_id = text_in(raw, "catalog_object_id") or _CUSTOM
    quantity = quantity_in(raw, where)
    total = object_in(raw, "total_money")
    return Line(
        product_id=product_id,
        category_id=categories.get(product_id),
        quantity=quantity,
        refunded_quantity=min(quantity, returned.get(text_in(raw, "uid"), Decimal(0))),
        gift=total.get("amount") == 0,  # discounted to nothing
    )


def _returned_quantities(records: OrderRecords) -> dict[str, Decimal]:
    """Map line to how much of it came back, by returns whose refunds are completed.

    A refund by amount alone, as the API makes them, names no line: the money is less, and the items count as kept.
    """
    quantities: dict[str, Decimal] = {}
    for where, line in _returned_lines(records):
        uid = text_in(line, "source_line_item_uid")
        quantities[uid] = quantities.get(uid, Decimal(0)) + quantity_in(line, where)
    return quantities


def _returned_lines(records: OrderRecords) -> Iterator[tuple[str, JsonObject]]:
    """Iterate over the lines that came back, each with where it stands, by returns whose refunds are completed."""
    completed = {text_in(refund, "order_id") for refund in records.refunds if text_in(refund, "status") == "COMPLETED"}
    for order in records.returns:
        if text_in(order, "id") not in completed:
            continue
        for part in objects_in(order, "returns"):
            if text_in(part, "source_order_id") != text_in(records.order, "id"):
                continue
            for at, line in enumerate(objects_in(part, "return_line_items")):
                yield f"returns.{text_in(order, 'id')}.return_line_items.{at}", line


# --- who, and codes ---------------------------------------------------------------------------------------------------


def _customer_reference(records: OrderRecords) -> Customer | None:
    """Name the customer by Square's own id; two who paid one order are nobody."""
    ids = customer_ids(records.order)
    if not ids:
        ids = {customer_id for payment in records.payments if (customer_id := text_in(payment, "customer_id"))}
    return Customer(till_id=ids.pop()) if len(ids) == 1 else None


def _remarks(order: JsonObject) -> list[str]:
    """Return what people typed into an order: notes, its name, the names of discounts."""
    lines, discounts = objects_in(order, "line_items"), objects_in(order, "discounts")
    texts = [
        text_in(order, "ticket_name"),
        *(text_in(discount, "name") for discount in discounts),
        *(text_in(line, "note") for line in lines),
    ]
    return [text for text in texts if text]


def customer_of(raw: JsonObject, settings: SquareSettings) -> Customer | None:
    """Map a customer; `None` for one that Square made of a payment card by itself, whose contact nobody gave."""
    if text_in(raw, "creation_source") == _INSTANT_PROFILE:
        return None
    reference = text_in(raw, "reference_id")
    try:
        return Customer(
            number=reference if settings.reference_ids and _NUMBER.fullmatch(reference) else None,
            phone=text_in(raw, "phone_number") or None,
            email=text_in(raw, "email_address") or None,
        )
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise BadPayload(f"customer.{where}", "cannot be understood") from None


# --- the account and its menu -----------------------------------------------------------------------------------------


def account_of(merchant: JsonObject, locations: Iterable[JsonObject]) -> TillAccount:
    """Map a seller with its open locations. Raises `BadPayload`, and `ValidationError`."""
    active = [location for location in locations if text_in(location, "status") == "ACTIVE"]
    main_id = text_in(merchant, "main_location_id")
    main = next((location for location in active if text_in(location, "id") == main_id), active[0] if active else {})
    return TillAccount(
        id=text_in(merchant, "id"),
        name=text_in(merchant, "business_name") or text_in(merchant, "id"),
        currency=text_in(merchant, "currency"),
        zone=text_in(main, "timezone"),
        country=text_in(merchant, "country") or None,
        locations=tuple(
            Location(
                id=text_in(location, "id"),
                name=text_in(location, "name") or "?",
                zone=text_in(location, "timezone") or None,
            )
            for location in active
        ),
    )


def menu_of(catalogue: Iterable[JsonObject]) -> list[MenuItem]:
    """Map the catalogue: a line of an order names a variation, so that each of them is a product.

    Raises `BadPayload`.
    """
    objects = list(catalogue)
    names = {
        text_in(category, "id"): text_in(object_in(category, "category_data"), "name")
        for category in objects
        if text_in(category, "type") == "CATEGORY"
    }
    items: list[MenuItem] = []
    for item in objects:
        if text_in(item, "type") != "ITEM":
            continue
        facts = object_in(item, "item_data")
        category_id = _category(facts)
        for variation in objects_in(facts, "variations"):
            items.append(
                MenuItem(
                    product_id=text_in(variation, "id"),
                    name=_product_name(facts, variation),
                    category_id=category_id,
                    category_name=names.get(category_id or ""),
                )
            )
    return items


def _category(facts: JsonObject) -> str | None:
    """Return an item's category: the one it is reported under, or else the first that it is in."""
    reporting = text_in(object_in(facts, "reporting_category"), "id")
    listed = [text_in(category, "id") for category in objects_in(facts, "categories")]
    return reporting or next((category_id for category_id in listed if category_id), None)


def _product_name(facts: JsonObject, variation: JsonObject) -> str:
    """Return what people call a variation: the item's name alone where it has only one."""
    name = text_in(facts, "name") or text_in(variation, "id")
    own = text_in(object_in(variation, "item_variation_data"), "name")
    return f"{name} · {own}" if own and len(objects_in(facts, "variations")) > 1 else name
