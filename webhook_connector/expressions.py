"""Paths into what a till sends: JMESPath, less everything that could compute, so that a cafe may write them.

Owns which expressions are allowed, checked on the parsed tree, and reading JSON with its numbers as they were written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from connector_sdk.errors import BadPayload

MOST_CHARACTERS = 300
MOST_DEPTH = 64
MOST_LISTS = 12
_PATHS = frozenset(
    {
        "field",
        "subexpression",
        "index",
        "index_expression",
        "projection",
        "value_projection",
        "flatten",
        "filter_projection",
        "or_expression",
        "identity",
        "current",
    }
)
_NAMES = {
    "function_expression": "functions",
    "multi_select_list": "lists of paths",
    "multi_select_dict": "made-up objects",
    "pipe": "pipes",
    "literal": "fixed values outside a filter",
    "slice": "slices",
    "not_expression": "negations",
    "and_expression": "`&&` outside a filter",
    "comparator": "comparisons outside a filter",
    "expref": "references",
}


@lru_cache(maxsize=4096)
def compiled(text: str) -> ParsedResult:
    """An expression that is allowed. Raises `ValueError` with a sentence."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a path has at most {MOST_CHARACTERS} characters")
    try:
        found = jmespath.compile(text)
    except (JMESPathError, ValueError, RecursionError, IndexError) as error:
        at = getattr(error, "lex_position", None)
        raise ValueError(f"this is no path{f' (at sign {at + 1})' if isinstance(at, int) else ''}") from None
    _look_through(found.parsed)
    if _lists_in(found.parsed) > MOST_LISTS:
        raise ValueError(f"a path goes through at most {MOST_LISTS} lists")
    return found


def _lists_in(node: Mapping[str, Any]) -> int:
    """How many lists a path goes through: each costs as much as what was sent is long."""
    own = int(node["type"] in ("projection", "value_projection", "flatten", "filter_projection"))
    return own + sum(_lists_in(child) for child in node.get("children", []))


def _look_through(node: Mapping[str, Any]) -> None:
    kind = node["type"]
    if kind not in _PATHS:
        raise ValueError(f"a path has no {_NAMES.get(kind, kind)}: names, [0], [], [?a=='b'] and || only")
    children = node.get("children", [])
    if kind == "filter_projection":
        *children, condition = children
        _look_through_condition(condition)
    for child in children:
        _look_through(child)


def _look_through_condition(node: Mapping[str, Any]) -> None:
    """A text filter: `field == 'text'`, `!=`, and several of them."""
    if node["type"] in ("and_expression", "or_expression"):
        for child in node["children"]:
            _look_through_condition(child)
        return
    if node["type"] != "comparator" or node["value"] not in ("eq", "ne"):
        raise ValueError("a filter compares with a text only, as in [?kind=='refund']")
    for side in node["children"]:
        if side["type"] == "literal":
            if not isinstance(side["value"], str):
                raise ValueError("a filter compares with a text only: numbers are texts here, as in [?id=='5']")
        else:
            _look_through(side)


def found_in(text: str, value: Any) -> Any:
    """What a path leads to; `None` where it leads nowhere, or is empty."""
    if not text:
        return None
    try:
        return compiled(text).search(value)
    except (JMESPathError, ValueError, TypeError, RecursionError):
        return None


def parsed(body: bytes) -> Any:
    """JSON with every number as the text that was sent. Raises `BadPayload`."""
    try:
        found = json.loads(body, parse_float=str, parse_int=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadPayload("body", "is not JSON", body) from None
    if _deeper_than(found, MOST_DEPTH):
        raise BadPayload("body", f"is nested more than {MOST_DEPTH} deep", body)
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _deeper_than(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return False
    return True
