"""A rule in words, as a page tells what is in force.

Owns which parts are told: those of a cafe's choice that change what a customer gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from connector_sdk.connector import MenuItem, TillAccount
from connector_sdk.money import Money
from connector_sdk.rule import Mode, Multiplier, Refunds, StampRule, UnknownCustomer
from connectors.domain.rule_windows import overlaps
from connectors.web.console.localization import Localizer

_WEEK = 7
_MOST_NAMES = 3
"""So many items are told by name; of more their number is."""


def rule_words(localizer: Localizer, rule: StampRule, account: TillAccount, menu: Sequence[MenuItem]) -> list[str]:
    """Return a rule as short lines in the reader's language, the most important first."""
    return list(_lines(localizer, rule, account, menu))


def headline_words(localizer: Localizer, rule: StampRule, account: TillAccount, menu: Sequence[MenuItem]) -> list[str]:
    """Return what a rule gives, and when it gives more, in the reader's language."""
    return [_kind(localizer, rule, menu), *(window_words(localizer, window, account) for window in rule.multipliers)]


def _lines(localizer: Localizer, rule: StampRule, account: TillAccount, menu: Sequence[MenuItem]) -> Iterator[str]:
    yield _kind(localizer, rule, menu)
    if rule.minimum is not None:
        yield localizer.text("No stamps below {amount}", amount=_money(localizer, rule.minimum))
    for window in rule.multipliers:
        yield window_words(localizer, window, account)
    if any(overlaps(rule.multipliers)):
        yield localizer.text("Where two of these meet, the larger one counts alone.")
    if most := rule.max_per_sale:
        yield localizer.count("At most {count} stamp for one receipt", "At most {count} stamps for one receipt", most)
    if most := rule.max_per_card_per_day:
        yield localizer.count(
            "At most {count} stamp for one card in a day", "At most {count} stamps for one card in a day", most
        )
    if rule.mode is Mode.both:
        yield localizer.text("Whoever was not attached scans the QR code of the receipt later.")
    elif rule.mode is Mode.receipt_qr:
        yield localizer.text("Only with the receipt")
    yield _refunds(localizer, rule.refunds)
    yield _unknown_customer(localizer, rule.unknown_customer)


def _money(localizer: Localizer, money: Money) -> str:
    return localizer.money(money.minor, money.currency)


def _kind(localizer: Localizer, rule: StampRule, menu: Sequence[MenuItem]) -> str:
    if rule.kind == "by_amount" and rule.amount is not None:
        return localizer.text("One stamp for every {amount} spent", amount=_money(localizer, rule.amount))
    if rule.kind != "per_item":
        return localizer.text("One stamp for every receipt")
    names = {item.product_id: item.name for item in menu}
    names |= {item.category_id: item.category_name for item in menu if item.category_id and item.category_name}
    chosen = [*sorted(rule.categories), *sorted(rule.products)]
    if len(chosen) <= _MOST_NAMES and all(names.get(one) for one in chosen):
        return localizer.text("One stamp for each: {items}", items=", ".join(names[one] for one in chosen))
    return localizer.count(
        "One stamp for each of {count} thing on your menu",
        "One stamp for each of {count} things on your menu",
        len(chosen),
    )


def window_words(localizer: Localizer, window: Multiplier, account: TillAccount) -> str:
    """Return a window as its parts with dots between: no language need put them into one sentence."""
    more = (
        localizer.text("Double stamps")
        if window.times == 2
        else localizer.text("{times} times as many stamps", times=window.times)
    )
    weekdays = [name for day, name in localizer.weekdays().items() if day in window.days]
    parts = [more, localizer.text("every day") if len(weekdays) == _WEEK else ", ".join(weekdays)]
    start, end = (at.hour * 60 + at.minute for at in (window.start, window.end))
    if start or end:
        parts.append(f"{localizer.time_of_day(start)} – {localizer.time_of_day(end)}")
    if window.first_day or window.last_day:
        days = (localizer.date(day.isoformat()) if day else "…" for day in (window.first_day, window.last_day))
        parts.append(" – ".join(days))
    if window.locations:
        parts.append(", ".join(_names(account, window.locations)))
    return " · ".join(parts)


def _names(account: TillAccount, ids: Iterable[str]) -> list[str]:
    names = {location.id: location.name for location in account.locations}
    return [names.get(one, one) for one in sorted(ids)]


def _refunds(localizer: Localizer, choice: Refunds) -> str:
    words = {
        Refunds.reverse: "Take its stamps back",
        Refunds.keep: "Leave its stamps",
        Refunds.flag: "Ask me each time",
    }
    return f"{localizer.text('When a receipt is refunded')}: {localizer.text(words[choice])}"


def _unknown_customer(localizer: Localizer, choice: UnknownCustomer) -> str:
    words = {
        UnknownCustomer.issue: "Give them a card with their stamps",
        UnknownCustomer.hold: "Keep their stamps until they have one",
        UnknownCustomer.skip: "Give no stamps",
    }
    return f"{localizer.text('When a customer has no card yet')}: {localizer.text(words[choice])}"
