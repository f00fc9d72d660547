"""What unfinished settings make of a request, shown to whoever teaches: sales, single fields, and what is wrong.

Owns the sketch only; reading is `mapping`'s, and it never raises.
"""

from __future__ import annotations

import re

from connector_sdk.errors import BadPayload
from connector_sdk.expressions import Budget
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connector_sdk.teaching import Sketch, Values
from webhook_connector.lenient_settings import find_missing, lenient_settings
from webhook_connector.mapping import Examination, examine, receipts_in, sale_of
from webhook_connector.places import follow, is_like_a_receipt
from webhook_connector.settings import SIGN_WORDS, UNIT_WORDS, WebhookApp, WebhookSettings

_COUNTED_OFF = re.compile(r"(.+?)\[\d+\]")


def sketch(values: Values, body: bytes) -> Sketch:
    """Map a request by settings that may lack anything; say, by setting, what each reads as and what is wrong."""
    # the operator's budget is for a request of the till; this one may cost no more
    settings, budget = lenient_settings(values), Budget(WebhookApp().path_budget)
    missing = find_missing(settings)
    try:
        receipts = receipts_in(body, settings, budget)
    except BadPayload as error:
        # a body that is no JSON is no setting's fault
        where = f"map_{error.where}" if error.where == "receipts" else ""
        return Sketch(wrong={**missing, where: error.said})
    if not receipts:
        return Sketch(wrong={**missing, "map_receipts": Message("the list is empty here")})
    return _sketch_receipts(values, receipts, settings, budget)


def _sketch_receipts(values: Values, receipts: list[object], settings: WebhookSettings, budget: Budget) -> Sketch:
    """Read the first receipt field by field, and map all of them unless something is missing."""
    missing = find_missing(settings)
    examination = examine(receipts[0], settings)
    wrong = missing | _wrong_in_first(settings, receipts[0], examination)
    readings = {f"map_{field}": text for field, text in examination.texts.items()} | _format_words(values)
    if missing or "map_receipts" in wrong:
        return Sketch(found=readings, wrong=wrong)
    sales, errors = _map_all(receipts, settings, budget)
    # what is wrong with the first receipt says more than what is wrong with a later one
    return Sketch(sales, readings, {**errors, **wrong})


def _wrong_in_first(settings: WebhookSettings, receipt: object, examination: Examination) -> dict[str, Message]:
    wrong = {f"map_{field}": error.said for field, error in examination.errors.items()}
    if _is_one_of_several(settings.map_receipt_id, receipt):
        wrong["map_receipts"] = Message("say which list the receipts are: only the first of them would be read")
    return wrong


def _format_words(values: Values) -> dict[str, str]:
    """Return the words for the formats of amounts that are set, by setting."""
    tables = {"units": UNIT_WORDS, "decimal_sign": SIGN_WORDS}
    return {name: words.get(values[name], "") for name, words in tables.items() if name in values}


def _map_all(
    receipts: list[object], settings: WebhookSettings, budget: Budget
) -> tuple[tuple[Sale, ...], dict[str, Message]]:
    """Map every receipt; of the errors, the first one of each setting is returned beside the sales."""
    sales: list[Sale] = []
    errors: dict[str, Message] = {}
    for receipt in receipts:
        try:
            sales.append(sale_of(receipt, settings, budget))
        except BadPayload as error:
            errors.setdefault(setting_of(error.where), error.said)
    return tuple(sales), errors


def setting_of(where: str) -> str:
    """Return the setting that an error is about: that of the outermost field, as of `lines.0.product`."""
    return f"map_{where.partition('.')[0]}"


def _is_one_of_several(path: str, receipt: object) -> bool:
    """Say whether a receipt's number is counted off in a list whose entries are receipts themselves."""
    counted_off = _COUNTED_OFF.match(path)
    if counted_off is None:
        return False
    entries = follow(counted_off[1], receipt)
    return isinstance(entries, list) and bool(entries) and all(is_like_a_receipt(entry) for entry in entries)
