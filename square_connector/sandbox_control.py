"""What a person or script may tell the stand-in Square to do: commands with values, posted as JSON.

Owns the names of the commands and of their values; what each does is `sandbox_seller`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from square_connector.sandbox_application import SquareApplication
from square_connector.sandbox_seller import RefundTerms, Seller
from square_connector.sandbox_ticket import Line, Tender, Ticket
from square_connector.sandbox_webhooks import Subscription

Values = Mapping[str, object]
_USUAL_SALE = 1250  # in the smallest unit


@dataclass(frozen=True, slots=True)
class Controls:
    """What commands change: one seller, the application that it granted access, and the application's webhooks."""

    seller: Seller
    application: SquareApplication
    subscription: Subscription


def run_command(controls: Controls, command: str, values: Values) -> object:
    """Do a command. Raises `KeyError`, `TypeError` or `ValueError`."""
    if command not in _COMMANDS:
        raise ValueError(f"there is no {command!r}; known: {', '.join(_COMMANDS)}")
    return _COMMANDS[command](controls, values)


def _sell(controls: Controls, values: Values) -> object:
    return {"receipt_id": controls.seller.sell(_ticket(controls, values))}


def _pay_ahead(controls: Controls, values: Values) -> object:
    return {"receipt_id": controls.seller.pay_ahead(_ticket(controls, values))}


def _ticket(controls: Controls, values: Values) -> Ticket:
    """Return a ticket of one flat white: `paid`, `tip`, `phone`, `location`, `tender`, `ticket_name`."""
    phone = _optional_text(values, "phone")
    return Ticket(
        lines=[Line(price=_whole(values, "paid", _USUAL_SALE))],
        tenders=[Tender(_optional_text(values, "tender") or "CARD", tip=_whole(values, "tip", 0))],
        location=_optional_text(values, "location"),
        customer=controls.seller.customer_of(phone) if phone else None,
        ticket_name=_optional_text(values, "ticket_name"),
    )


def _complete(controls: Controls, values: Values) -> object:
    controls.seller.complete(_receipt(values))
    return {"receipt_id": _receipt(values)}


def _cancel(controls: Controls, values: Values) -> object:
    controls.seller.cancel(_receipt(values))
    return {"receipt_id": _receipt(values)}


def _correct(controls: Controls, values: Values) -> object:
    controls.seller.correct(_receipt(values), _whole(values, "paid", None))
    return {"receipt_id": _receipt(values)}


def _refund(controls: Controls, values: Values) -> object:
    """Refund an `amount`, of which `tip` was a tip, or everything; `status` may be PENDING."""
    seller, order = controls.seller, _receipt(values)
    if "amount" not in values:
        refunded = seller.refund_everything(order)
    else:
        terms = RefundTerms(tip=_whole(values, "tip", 0), status=_optional_text(values, "status") or "COMPLETED")
        refunded = seller.refund_amount(order, _whole(values, "amount", None), terms)
    return {"receipt_id": order, "return_order": refunded.return_order, "refunds": list(refunded.refunds)}


def _finish_refund(controls: Controls, values: Values) -> object:
    refund = str(values["refund_id"])
    controls.seller.finish_refund(refund, _optional_text(values, "status") or "COMPLETED")
    return {"refund_id": refund}


def _revoke(controls: Controls, _values: Values) -> object:
    controls.application.revoke_seller(controls.seller.merchant_id)
    return {"merchant_id": controls.seller.merchant_id}


def _set_hooks(controls: Controls, values: Values) -> object:
    """Post webhooks to `url`, signed over `notification_url` where one is given."""
    subscription = controls.subscription
    subscription.delivery_url = _optional_text(values, "url")
    subscription.notification_url = _optional_text(values, "notification_url") or subscription.notification_url
    return {"url": subscription.delivery_url, "notification_url": subscription.notification_url}


def _duplicate(controls: Controls, values: Values) -> object:
    controls.subscription.duplicates_next = _whole(values, "times", 1)
    return {"times": controls.subscription.duplicates_next}


def _list_receipts(controls: Controls, _values: Values) -> object:
    return list(controls.seller.orders.values())


_COMMANDS: Mapping[str, Callable[[Controls, Values], object]] = {
    "sell": _sell,
    "pay_ahead": _pay_ahead,
    "complete": _complete,
    "cancel": _cancel,
    "correct": _correct,
    "refund": _refund,
    "finish_refund": _finish_refund,
    "revoke": _revoke,
    "hooks": _set_hooks,
    "duplicate": _duplicate,
    "receipts": _list_receipts,
}


def _receipt(values: Values) -> str:
    return str(values["receipt_id"])


def _whole(values: Values, name: str, otherwise: int | None) -> int:
    """Read a whole number of a command. Raises `KeyError`, `TypeError` or `ValueError`."""
    value = values[name] if otherwise is None else values.get(name, otherwise)
    if not isinstance(value, int | float | str):
        raise TypeError(f"{name} is no number")
    return int(value)


def _optional_text(values: Values, name: str) -> str | None:
    """Read a text of a command. Raises `TypeError`."""
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value
