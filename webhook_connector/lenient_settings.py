"""Settings of which anything may be missing or wrong, as they are while a till is taught.

Owns what stands in for what makes no sense, and what of a sale cannot be read yet. Settings that are to be kept are
`settings`' own.
"""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.teaching import Values
from webhook_connector.settings import Proof, WebhookSettings

_NEEDED = ("receipt_id", "paid", "closed_at")
_NEVER_TAKEN = ("secret", "till_id")  # neither is needed to read a request


def lenient_settings(values: Values) -> WebhookSettings:
    """Make settings of whatever of these makes sense by itself, and of what is usual for the rest."""
    fields, chosen = WebhookSettings.model_fields, _usual_values()
    for name, value in values.items():
        if name in fields and name not in _NEVER_TAKEN:
            chosen[name] = _validated(fields[name], value, chosen[name])
    chosen["currency"] = _known_currency(chosen["currency"])
    chosen["zone"] = _known_zone(chosen["zone"], "UTC")
    chosen["dates_zone"] = _known_zone(chosen["dates_zone"], "")
    # without validation: as a whole, these settings would be refused
    construct: Callable[..., WebhookSettings] = WebhookSettings.model_construct
    return construct(**chosen)


def _usual_values() -> dict[str, object]:
    """Return a value for every setting: its default, or one that stands in where the cafe must say something."""
    usual: dict[str, object] = {"till_name": "?", "currency": "EUR", "zone": "UTC", "proof": Proof.address}
    for name, info in WebhookSettings.model_fields.items():
        if name not in usual:
            usual[name] = "" if info.is_required() else info.get_default(call_default_factory=True)
    return usual


def _validated(info: FieldInfo, value: str, otherwise: object) -> object:
    """Return a value as its field has it, or the other one where it makes no sense there."""
    try:
        # pydantic types an annotation more narrowly than it gives one
        return TypeAdapter[object](info.annotation).validate_python(value)  # type: ignore[arg-type]
    except ValidationError:
        return otherwise


def _known_currency(currency: object) -> object:
    try:
        Money.zero(str(currency))
    except ValueError:
        return "EUR"
    return currency


def _known_zone(zone: object, otherwise: str) -> object:
    try:
        return zone if zone and ZoneInfo(str(zone)) else otherwise
    except (KeyError, ValueError, OSError):
        return otherwise


def find_missing(settings: WebhookSettings) -> dict[str, Message]:
    """Say, by setting, what no sale can be read without."""
    missing = {
        f"map_{field}": Message("nothing says yet where it is")
        for field in _NEEDED
        if not getattr(settings, f"map_{field}")
    }
    if not (settings.map_phone or settings.map_email or settings.map_number):
        missing["map_phone"] = Message("say where the customer's phone, email or number is: stamps need somebody")
    return missing
