"""The preview beside a rule that is being chosen: what it would have given for the till's newest receipts.

Owns what the preview and the menu show; the forecast is `connectors.sync.previews`', the reading `till_cache`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice

from starlette.responses import Response

from connector_sdk.connector import MenuItem, TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import Multiplier
from connectors.domain.rule_windows import WindowOfDay, in_week, overlaps, why_never
from connectors.sync.previews import Forecast, WeekForecast
from connectors.web.console.localization import zone_of
from connectors.web.console.rule_words import window_words
from connectors.web.console.visit import Visit

_MOST_OVERLAPS = 3
"""Overlaps that are told: one mistake makes many of them."""


@dataclass(frozen=True, slots=True)
class PlanLimit:
    """How many card operations a month a 7stamp plan has; `None` for no limit."""

    allowed: int | None


@dataclass(frozen=True, slots=True)
class NeverApplies:
    """A window that applies to no receipt: the number of its row from 1, and why."""

    row: int
    why: Message


@dataclass(frozen=True, slots=True)
class Week:
    """A rule's windows as a picture of the week, from Monday; none where the rule has none that applies."""

    days: tuple[tuple[WindowOfDay, ...], ...]
    dated: tuple[str, ...]
    """The windows that begin or end on some day, in words: they are not in the picture."""
    overlaps: tuple[WindowOfDay, ...]
    unused: tuple[NeverApplies, ...]


def week_of(visit: Visit, windows: Sequence[Multiplier], account: TillAccount, scope: Sequence[str]) -> Week:
    """Draw the windows that apply at the locations of a scope, and tell of those that overlap or never apply."""
    today = date.fromisoformat(visit.localizer.in_zone(zone_of(account.zone)).today())
    places = scope or [location.id for location in account.locations]
    reasons = [why_never(window, today, places) for window in windows]
    applying = [window for window, reason in zip(windows, reasons, strict=True) if reason is None]
    # a promotion of some days is told in words: in the picture it would seem to go on for ever
    parts = [part for window in applying if not _has_days(window) for part in in_week(window)]
    days = tuple(tuple(sorted((part for part in parts if part.weekday == day), key=_start)) for day in range(7))
    unused = (NeverApplies(number, reason) for number, reason in enumerate(reasons, start=1) if reason is not None)
    dated = tuple(window_words(visit.localizer, window, account) for window in applying if _has_days(window))
    return Week(days if parts else (), dated, tuple(islice(overlaps(applying), _MOST_OVERLAPS)), tuple(unused))


def _has_days(window: Multiplier) -> bool:
    return window.first_day is not None or window.last_day is not None


def _start(part: WindowOfDay) -> tuple[int, int]:
    return part.start, part.end


@dataclass(frozen=True, slots=True)
class RulePreview:
    """A forecast with what words it; `attach` tells how a customer is attached at this till."""

    forecast: Forecast
    unfinished: bool
    """`True` while the rule has something wrong: then the receipts are shown without stamps."""
    attach: str
    plan: PlanLimit | None
    """The plan's limit; `None` where 7stamp has not said it yet."""
    week: Week
    before: Forecast | None = None
    """The same receipts by the rule in force, where the chosen rule is another one."""
    last_week: WeekForecast | None = None
    """The week before today by both, where the chosen rule is another one and some receipts have arrived."""
    read_at: int = 0
    """When the till was read (UTC microseconds)."""


@dataclass(frozen=True, slots=True)
class MenuCategory:
    """A category of a till's menu with its products; the id is empty for products without a category."""

    id: str
    name: str
    products: list[MenuItem]


def preview_page(visit: Visit, preview: RulePreview) -> Response:
    """Render the preview alone, for the page that asks again while the rule is being chosen."""
    return visit.render("_preview.html", preview=preview)


def menu_by_category(menu: Sequence[MenuItem]) -> list[MenuCategory]:
    """Group a menu by category, both by name."""
    categories: dict[str, MenuCategory] = {}
    for product in sorted(menu, key=lambda product: product.name.casefold()):
        # products without a category stand together under no name
        category_id = product.category_id or ""
        name = product.category_name or category_id
        categories.setdefault(category_id, MenuCategory(category_id, name, [])).products.append(product)
    return sorted(categories.values(), key=lambda category: category.name.casefold())
