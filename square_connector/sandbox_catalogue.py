"""The catalogue of the stand-in Square: categories, and items with their variations.

Owns what is on sale and how `GET /v2/catalog/list` writes it; its pages are `sandbox_answers`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from square_connector.sandbox_values import JsonObject, money

FLAT_WHITE = "SBXVARFLATWHITE"
ESPRESSO = "SBXVARESPRESSO"
CROISSANT = "SBXVARCROISSANT"
BEANS = "SBXVARBEANS"
"""Coffee beans, sold by weight: their price is that of a kilogram."""
_VERSION = 1_763_000_000_000  # Square counts the versions of its catalogue in milliseconds


@dataclass(frozen=True, slots=True)
class Variation:
    """One variation of an item, which is what a line of an order names; `price` is in the smallest unit."""

    id: str
    item_id: str
    item_name: str
    category_id: str
    price: int
    name: str = "Regular"


class Catalogue:
    """Everything on sale at one seller, with prices in one currency."""

    version = _VERSION

    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.categories = {"SBXCATCOFFEE": "Coffee", "SBXCATPASTRY": "Pastry"}
        """Names of categories by id."""
        self.variations = {variation.id: variation for variation in _MENU}

    def add_category(self, name: str) -> str:
        """Add a category and return its id."""
        category_id = f"SBXCAT{len(self.categories) + 1:04d}"
        self.categories[category_id] = name
        return category_id

    def add_item(self, name: str, price: int, category_id: str) -> str:
        """Add an item with one variation and return the variation's id; `price` is in the smallest unit."""
        number = len(self.variations) + 1
        variation = Variation(f"SBXVAR{number:04d}", f"SBXITEM{number:04d}", name, category_id, price)
        self.variations[variation.id] = variation
        return variation.id

    def objects(self, types: Sequence[str]) -> list[JsonObject]:
        """Return the categories and items as Square lists them; without `types`, all of both."""
        categories = [_write_category(category_id, name) for category_id, name in self.categories.items()]
        listed = [*categories, *(self._write_item(variation) for variation in self.variations.values())]
        return [entry for entry in listed if not types or entry["type"] in types]

    def _write_item(self, variation: Variation) -> JsonObject:
        category = {"id": variation.category_id}
        return _object("ITEM", variation.item_id) | {
            "item_data": {
                "name": variation.item_name,
                "product_type": "REGULAR",
                "categories": [category],
                "reporting_category": category,
                "variations": [self._write_variation(variation)],
            }
        }

    def _write_variation(self, variation: Variation) -> JsonObject:
        return _object("ITEM_VARIATION", variation.id) | {
            "item_variation_data": {
                "item_id": variation.item_id,
                "name": variation.name,
                "pricing_type": "FIXED_PRICING",
                "price_money": money(variation.price, self.currency),
            }
        }


def _object(kind: str, object_id: str) -> JsonObject:
    return {
        "type": kind,
        "id": object_id,
        "version": _VERSION,
        "is_deleted": False,
        "present_at_all_locations": True,
    }


def _write_category(category_id: str, name: str) -> JsonObject:
    return _object("CATEGORY", category_id) | {"category_data": {"name": name}}


_MENU = (
    Variation(FLAT_WHITE, "SBXITEMFLATWHITE", "Flat white", "SBXCATCOFFEE", 400),
    Variation(ESPRESSO, "SBXITEMESPRESSO", "Espresso", "SBXCATCOFFEE", 250),
    Variation(CROISSANT, "SBXITEMCROISSANT", "Croissant", "SBXCATPASTRY", 300),
    Variation(BEANS, "SBXITEMBEANS", "House beans", "SBXCATCOFFEE", 3200),
)
