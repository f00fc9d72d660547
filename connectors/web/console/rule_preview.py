"""The preview beside a rule that is being chosen: what it would have given for the till's newest receipts.

Owns what the preview and the menu show; the forecast is `connectors.sync.previews`', the reading `till_cache`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from connector_sdk.connector import MenuItem
from connectors.sync.previews import Forecast
from connectors.web.console.visit import Visit


@dataclass(frozen=True, slots=True)
class PlanLimit:
    """How many card operations a month a 7stamp plan has; `None` for no limit."""

    allowed: int | None


@dataclass(frozen=True, slots=True)
class RulePreview:
    """A forecast with what words it; `attach` tells how a customer is attached at this till."""

    forecast: Forecast
    unfinished: bool
    """`True` while the rule has something wrong: then the receipts are shown without stamps."""
    attach: str
    plan: PlanLimit | None
    """The plan's limit; `None` where 7stamp has not said it yet."""


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
