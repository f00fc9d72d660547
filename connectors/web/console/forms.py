"""Forms made from models: a connector's settings as fields, and a stamp rule as the choices a cafe has.

Owns reading what was typed and saying beside which field it is wrong; what settings mean is the connector's.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from connector_sdk.connector import FIRST, TAUGHT, Connector, Token, marked
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Refunds, StampRule, UnknownCustomer
from connectors.sync.field_errors import field_error, reason_of
from connectors.web.console.frame import Form
from connectors.web.console.searching import amount


@dataclass(frozen=True, slots=True)
class Field:
    """One input: `kind` is secret, flag, choice or text; a secret's value is never in it, only its last four signs."""

    name: str
    title: str
    help: str
    kind: str
    value: str
    needed: bool
    first: bool
    """Whether it is among what lets us in at all; the others are for later."""
    taught: bool = False
    """Whether it says where something is in what the till sends."""
    choices: tuple[tuple[str, str], ...] = ()
    """What can be chosen, and its words."""
    kept: str = ""


def fields_of(found: type[Connector[Any]], values: Mapping[str, Any]) -> list[Field]:
    """The inputs of a connector's settings, holding `values`."""
    lets_in = {one.field: one.where_to_find for one in found.authorisation if isinstance(one, Token)}
    made: list[Field] = []
    for name, info in found.settings_model.model_fields.items():
        kind, choices = _kind(info.annotation)
        usual = "" if info.is_required() or info.default_factory is not None else info.get_default()
        value = values.get(name, usual)
        text = "" if value is None else str(value)
        needed = info.is_required()
        made.append(
            Field(
                name=name,
                title=info.title or name.replace("_", " ").capitalize(),
                help=lets_in.get(name) or info.description or "",
                kind=kind,
                value="" if kind == "secret" else text,
                needed=needed,
                first=needed or name in lets_in or marked(info, FIRST),
                taught=marked(info, TAUGHT),
                choices=(
                    *([("", "–")] if needed and not text and kind == "choice" else []),
                    *((one, _words_of(info).get(one, one)) for one in choices),
                ),
                kept=text[-4:] if kind == "secret" and len(text) > 8 else "",
            )
        )
    return made


def _words_of(info: FieldInfo) -> Mapping[str, str]:
    words = info.json_schema_extra.get("words") if isinstance(info.json_schema_extra, dict) else None
    return {str(name): str(said) for name, said in words.items()} if isinstance(words, dict) else {}


def _kind(annotation: Any) -> tuple[str, tuple[str, ...]]:
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next((one for one in get_args(annotation) if one is not type(None)), str)
    if get_origin(annotation) is Literal:
        return "choice", tuple(str(one) for one in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "choice", tuple(str(one.value) for one in annotation)
    if annotation is bool:
        return "flag", ()
    return ("secret" if annotation is SecretStr else "text"), ()


def secret_fields(found: type[Connector[Any]]) -> set[str]:
    """The settings that are stored encrypted and never shown again."""
    return {name for name in found.settings_model.model_fields if is_secret(found, name)}


def is_secret(found: type[Connector[Any]], name: str) -> bool:
    return name in found.settings_model.model_fields and (
        _kind(found.settings_model.model_fields[name].annotation)[0] == "secret"
    )


def settings_from(form: Form, found: type[Connector[Any]], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as typed; a secret left empty is the one kept, and an optional text that was emptied is none."""
    values: dict[str, Any] = {}
    for one in fields_of(found, {}):
        info = found.settings_model.model_fields[one.name]
        typed = form.get(f"set.{one.name}").strip()
        if one.kind == "flag":
            if f"has.{one.name}" in form:
                values[one.name] = "true" if typed else "false"
        elif typed:
            values[one.name] = typed
        elif one.kind == "secret" and one.name in kept:
            values[one.name] = kept[one.name]
        elif kept.get(one.name) and f"set.{one.name}" in form and not one.needed and info.default_factory is None:
            values[one.name] = info.get_default()
    return values


def same(kept: Any, typed: Any) -> bool:
    """Whether a setting as typed is the one that is kept."""
    if isinstance(kept, bool):
        return str(kept).lower() == str(typed).lower()
    return (kept or None) == (typed or None)


def missing_fields(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Message]:
    """What kept settings lack or have wrong, where the model has changed since."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        said = (field_error(one) for one in error.errors())
        return {name: Message(why) for name, why in said}
    return {}


# --- rules ----------------------------------------------------------------------------------------------------------


def rule_values(rule: StampRule) -> dict[str, list[str]]:
    """A rule as the form's values."""
    return {
        "kind": [rule.kind],
        "amount": [rule.amount.decimal if rule.amount else ""],
        "minimum": [rule.minimum.decimal if rule.minimum else ""],
        "products": sorted(rule.products),
        "categories": sorted(rule.categories),
        "refunds": [rule.refunds.value],
        "unknown_customer": [rule.unknown_customer.value],
        "hold_days": [str(rule.hold_days)],
    }


def rule_from(form: Form, currency: str, current: StampRule) -> tuple[StampRule, dict[str, Message]]:
    """The rule as chosen, over the parts that the form does not show; and what is wrong, by field."""
    errors: dict[str, Message] = {}
    kind = form.get("kind") if form.get("kind") in ("per_order", "by_amount", "per_item") else "per_order"
    values: dict[str, Any] = {name: getattr(current, name) for name in StampRule.model_fields}
    values |= {"kind": kind, "amount": None, "products": frozenset(), "categories": frozenset()}
    if kind == "by_amount":
        values["amount"] = _money(form.get("amount"), currency, "amount", errors)
        if values["amount"] is None and "amount" not in errors:
            errors["amount"] = Message("write how much makes one stamp, as in 10.00")
    if kind == "per_item":
        values["products"] = frozenset(one[:128] for one in form.all("products") if one)
        values["categories"] = frozenset(one[:128] for one in form.all("categories") if one)
        if not values["products"] and not values["categories"]:
            errors["products"] = Message("choose at least one drink, dish or category")
    values["minimum"] = _money(form.get("minimum"), currency, "minimum", errors)
    if form.get("refunds") in set(Refunds):
        values["refunds"] = Refunds(form.get("refunds"))
    if form.get("unknown_customer") in set(UnknownCustomer):
        values["unknown_customer"] = UnknownCustomer(form.get("unknown_customer"))
    days = form.get("hold_days", str(current.hold_days)).strip()
    if days.isascii() and days.isdigit() and len(days) <= 6 and 1 <= int(days) <= 365:
        values["hold_days"] = int(days)
    else:
        errors["hold_days"] = Message("write a number of days from 1 to 365")
    if errors:
        return current, errors
    try:
        return StampRule.model_validate(values), {}
    except ValidationError as error:
        for one in error.errors():
            errors[str(one["loc"][0]) if one["loc"] else "kind"] = Message(reason_of(one))
        return current, errors


def _money(text: str, currency: str, field: str, errors: dict[str, Message]) -> Money | None:
    if not text.strip():
        return None
    minor = amount(text, currency)
    if minor is None or minor <= 0:
        errors[field] = Message("this is no amount: write it as 10.00")
        return None
    return Money(minor, currency)
