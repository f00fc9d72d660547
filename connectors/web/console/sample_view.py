"""Requests of a till that is being taught, as they may be shown: people masked, and in words as settings read them.

Owns these views; what is asked and how a request is read is the connector's `teaching`, which requests there are is
`draft_samples`'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connector_sdk.messages import Message
from connector_sdk.redaction import masked, personal_name, personal_text
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, SaleStatus
from connector_sdk.teaching import Leaf, Sketch, as_texts
from connectors.domain.stamps import stamps_for
from connectors.isolation.runner import RemoteTeaching
from connectors.services import ConnectorClass, SettingValues
from connectors.store.inbox.captured import CapturedRequest
from connectors.web.console.localization import zone_of

_SHOWN_HEADERS = ("content-type", "user-agent", "content-length")
_MOST_HEADERS = 30
_LONG = 60
_SHORT, _EXCERPTS = 16, 4
_KINDS = ("kind", "type", "key", "label")
_GOODS = frozenset({"items", "lines", "line_items", "lineItems", "order_items", "products", "positions", "goods"})
_NAMES_OF_GOODS = ("name", "title")
_PLAIN_FACT = re.compile(r"[0-9]{1,6}|[0-9]+[.,][0-9]{1,3}|true|false|")
"""Values that say nothing of anybody, though they stand within a customer: a count, a balance, yes or no."""


@dataclass(frozen=True, slots=True)
class ArrivedRequest:
    """A request as the page shows it: `headers` with their values masked; `at` in UTC microseconds, `size` in bytes."""

    id: str
    at: int
    size: int
    headers: tuple[tuple[str, str], ...]
    chosen: bool
    excerpts: tuple[str, ...]
    """Some of its values, to know it by; empty where nothing in it can be chosen."""


@dataclass(slots=True)
class Branch:
    """A part of the tree: a value with what choosing it says, or the branches within it."""

    name: str
    leaf: Leaf | None = None
    text: str = ""
    children: dict[str | int, Branch] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadSale:
    """One sale of the sample: how many stamps it would earn by the usual rule, and `why` it earns none."""

    sale: Sale
    stamps: int
    why: Message | None


@dataclass(frozen=True, slots=True)
class ReadSetting:
    """The value that a setting finds in the sample (people masked), and the path by which it finds it."""

    name: str
    title: str
    text: str
    path: str


@dataclass(frozen=True, slots=True)
class WrongSetting:
    """Why a setting makes no sale of the sample; the title is empty for what is about no setting."""

    title: str
    why: Message


@dataclass(frozen=True, slots=True)
class SampleReading:
    """The sample by some settings: what each finds, the sales, and what is missing or does not fit."""

    settings: tuple[ReadSetting, ...]
    sales: tuple[ReadSale, ...]
    wrong: tuple[WrongSetting, ...]

    @property
    def answered(self) -> tuple[ReadSetting, ...]:
        """The settings that have a path."""
        return tuple(setting for setting in self.settings if setting.path)


# --- requests -------------------------------------------------------------------------------------------------------


async def show_request(teaching: RemoteTeaching, request: CapturedRequest, chosen_id: str) -> ArrivedRequest:
    """Mask a captured request for the list of what has arrived."""
    # without settings and for no question: all values, in the order of the request
    leaves = await teaching.leaves({}, request.body, "")
    return ArrivedRequest(
        id=request.id,
        at=request.at,
        size=len(request.body),
        headers=_masked_headers(request.headers),
        chosen=request.id == chosen_id,
        excerpts=tuple(shown_value(leaf)[:_SHORT] for leaf in leaves[:_EXCERPTS]),
    )


def _masked_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value[:_LONG] if name in _SHOWN_HEADERS else masked(value))
        for name, value in list(headers.items())[:_MOST_HEADERS]
    )


# --- what settings make of the sample -------------------------------------------------------------------------------


async def read_sample(
    teaching: RemoteTeaching, connector_class: ConnectorClass, values: SettingValues, body: bytes
) -> SampleReading:
    """Read the sample with some settings, in words."""
    texts = as_texts(values)
    sketch = await teaching.sketch(texts, body)
    questions = [question.field for question in await teaching.questions(texts, body)]
    # first in the order of the questions, then what was found without having been asked
    names = (*questions, *(name for name in sketch.found if name not in questions))
    # the zone may be typed wrong still: then UTC stands for it
    zone = zone_of(str(values.get("zone") or "")).key
    return SampleReading(
        settings=tuple(_read_setting(name, connector_class, sketch, values) for name in names),
        sales=tuple(_read_sale(sale, zone) for sale in sketch.sales),
        wrong=tuple(
            WrongSetting(setting_title(connector_class, name, default=""), why) for name, why in sketch.wrong.items()
        ),
    )


def setting_title(connector_class: ConnectorClass, name: str, *, default: str) -> str:
    """Return what the form calls a setting; `default` where it has no such setting or no title for it."""
    info = connector_class.settings_model.model_fields.get(name)
    return (info.title if info is not None else None) or default


def _read_setting(name: str, connector_class: ConnectorClass, sketch: Sketch, values: SettingValues) -> ReadSetting:
    value = sketch.found.get(name, "")
    # the name of the setting tells (a phone is asked for), or the value itself looks like a person's
    personal = bool(value) and (personal_name(name) or personal_text(value))
    text = masked(value) if personal else value[:_LONG]
    return ReadSetting(name, setting_title(connector_class, name, default=name), text, path=str(values.get(name) or ""))


def _read_sale(sale: Sale, zone: str) -> ReadSale:
    if sale.status is not SaleStatus.closed:
        return ReadSale(sale, 0, Message("It is not a paid receipt, so it earns nothing."))
    if not sale.customer:
        return ReadSale(sale, 0, Message("Nobody is attached to it, so it earns nothing."))
    return ReadSale(sale, stamps_for(sale, StampRule(), zone).stamps, None)


# --- the tree -------------------------------------------------------------------------------------------------------


def build_tree(leaves: Sequence[Leaf]) -> Branch:
    """Arrange what can be chosen as it stands in the request; people masked."""
    root = Branch("")
    for leaf in leaves:
        branch = root
        for part in leaf.place:
            # people count the elements of a list from one
            name = str(part + 1) if isinstance(part, int) else part
            branch = branch.children.setdefault(part, Branch(name))
        branch.leaf, branch.text = leaf, shown_value(leaf)
    return root


def shown_value(leaf: Leaf) -> str:
    """Return a value as it may be shown: a person's own is masked.

    A value is a person's own by its look (a phone, an email), or by standing under a name such as `customer`; there
    the kinds of things (`type`, `label`), what goods are called and plain facts (counts, yes or no) are not.
    """
    text = leaf.value[:_LONG]
    names = [part for part in leaf.place if isinstance(part, str)]
    # what a line of goods is called is nobody's name: `items[0].name`, and nothing that stands deeper
    match leaf.place:
        case (*_, str(goods), int(), str(name)) if goods in _GOODS and name in _NAMES_OF_GOODS:
            names.pop()
    of_person = any(map(personal_name, names))
    names_kind = bool(leaf.place) and leaf.place[-1] in _KINDS
    personal = of_person and not names_kind and not _PLAIN_FACT.fullmatch(text)
    return masked(text) if personal or personal_text(leaf.value) else text
