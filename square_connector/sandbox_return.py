"""Returns at the stand-in Square: the members of the order that every refund makes.

Owns the arithmetic of lines that go back, as pure functions; the records that change with a refund are
`sandbox_seller`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from square_connector.sandbox_ticket import multiply, write_amounts
from square_connector.sandbox_values import JsonObject, money

_COPIED = ("catalog_object_id", "catalog_version", "name", "variation_name", "quantity_unit")


def left_quantities(order: JsonObject, returns: Sequence[JsonObject]) -> dict[str, Decimal]:
    """Map the uid of each line of an order to how much of it no return names yet."""
    left = {item["uid"]: Decimal(item["quantity"]) for item in order.get("line_items", [])}
    for item in (item for entry in returns for item in entry["return_line_items"]):
        uid = item.get("source_line_item_uid")
        if uid in left:
            left[uid] -= Decimal(item["quantity"])
    return left


def write_returned_lines(order: JsonObject, quantities: Mapping[str, str]) -> list[JsonObject]:
    """Write the lines of an order that go back, by uid and quantity. Raises `ValueError` for a line it has not."""
    items = {item["uid"]: item for item in order.get("line_items", [])}
    unknown = quantities.keys() - items.keys()
    if unknown:
        raise ValueError(f"order {order['id']} has no line {', '.join(sorted(unknown))}")
    return [
        _write_returned_line(f"rli-{number}", items[uid], quantity)
        for number, (uid, quantity) in enumerate(quantities.items(), 1)
    ]


def _write_returned_line(uid: str, item: JsonObject, quantity: str) -> JsonObject:
    currency = item["total_money"]["currency"]
    share = Decimal(quantity) / Decimal(item["quantity"])
    gross = multiply(item["base_price_money"]["amount"], quantity)
    discount, tax = (
        int((Decimal(item[name]["amount"]) * share).quantize(Decimal(1)))
        for name in ("total_discount_money", "total_tax_money")
    )
    return {
        "uid": uid,
        "source_line_item_uid": item["uid"],
        **{name: item[name] for name in _COPIED if name in item},
        "quantity": quantity,
        "item_type": item["item_type"],
        "base_price_money": item["base_price_money"],
        **_write_sums(gross, discount, tax, currency),
    }


def write_custom_amount(amount: int, currency: str) -> list[JsonObject]:
    """Write the one line of a refund by amount, which says nothing of what went back."""
    return [
        {
            "uid": "rli-1",
            "name": "Custom Amount",
            "quantity": "1",
            "item_type": "CUSTOM_AMOUNT",
            "base_price_money": money(amount, currency),
            **_write_sums(amount, 0, 0, currency),
        }
    ]


def _write_sums(gross: int, discount: int, tax: int, currency: str) -> JsonObject:
    return {
        "variation_total_price_money": money(gross, currency),
        "gross_return_money": money(gross, currency),
        "total_discount_money": money(discount, currency),
        "total_tax_money": money(tax, currency),
        "total_money": money(gross - discount + tax, currency),
    }


def sum_of(lines: Sequence[JsonObject], name: str = "total_money") -> int:
    """Sum one of the sums of lines, in the smallest unit."""
    return sum(line[name]["amount"] for line in lines)


def write_return(source: str | None, lines: list[JsonObject], total: int, tip: int, currency: str) -> JsonObject:
    """Return the members `returns`, `return_amounts` and `net_amounts` of a return order.

    `total` includes the `tip`; without a `source` order the return is unlinked.
    """
    tax, discount = sum_of(lines, "total_tax_money"), sum_of(lines, "total_discount_money")
    amounts = write_amounts(currency, total=total, tax=tax, discount=discount, tip=tip)
    entry: JsonObject = {"uid": "ret-1"}
    if source is not None:
        entry["source_order_id"] = source
    entry |= {"return_line_items": lines, "return_amounts": amounts}
    return {
        "returns": [entry],
        "return_amounts": amounts,
        "net_amounts": write_amounts(currency, total=-total, tax=-tax, discount=-discount, tip=-tip),
    }


def zero_totals(currency: str) -> JsonObject:
    """Return the totals of a return order that has them: all are 0."""
    names = ("total_money", "total_tax_money", "total_discount_money", "total_tip_money", "total_service_charge_money")
    return {name: money(0, currency) for name in names}
