"""Paths into what a till sends: JMESPath, less everything that could compute, so that a cafe may write them.

Owns which expressions are allowed, checked on the parsed tree; what following them may cost, counted as they are
followed; and reading JSON with its numbers as they were written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter

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


class TooCostly(Exception):
    """Following a path cost more than its budget."""


class Budget:
    """What following paths in one request may cost: visits, one for each node of a path at each value it meets.

    A usual order costs some hundred visits, one with 500 lines some thousand; the default stops at a fraction of a
    second of computing.
    """

    USUAL = 200_000

    def __init__(self, visits: int = USUAL) -> None:
        self.visits = visits
        self.left = visits

    def spend(self, visits: int) -> None:
        """Raises `TooCostly`."""
        self.left -= visits
        if self.left < 0:
            raise TooCostly

    def part(self, share: int) -> Budget:
        """A budget of its own, so many times smaller."""
        return Budget(max(1, self.visits // share))


class _Follower(TreeInterpreter):
    """Follows a path, counting."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._budget.spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Any, value: Any) -> Any:
        left, right = (self.visit(side, value) for side in node["children"])
        # texts only: two large values would be compared in one visit
        same = isinstance(left, str) and isinstance(right, str) and left == right
        return same is (node["value"] == "eq")

    def visit_flatten(self, node: Any, value: Any) -> Any:
        merged = super().visit_flatten(node, value)
        self._budget.spend(len(merged or ()))  # it goes through its elements without visiting them
        return merged


def found_in(text: str, value: Any, budget: Budget | None = None) -> Any:
    """Return what a path leads to; `None` where it leads nowhere, or is empty. Raises `TooCostly`."""
    if not text:
        return None
    try:
        return _Follower(budget or Budget()).visit(compiled(text).parsed, value)
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
