"""Paths into JSON, and conditions on it: JMESPath, less everything that could compute, so that a cafe may write them.

Owns which expressions are allowed, checked on the parsed tree; what following them may cost, counted as they are
followed; and reading JSON with its numbers as they were written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from jmespath.visitor import TreeInterpreter

from connector_sdk.errors import BadPayload

if TYPE_CHECKING:
    # private, and the only name that the stubs of jmespath give a node of a parsed path
    from jmespath.visitor import _TreeNode as Node

MOST_CHARACTERS = 300  # of a path: its parser goes down into brackets by calling itself
MOST_DEPTH = 64  # of what a till sends
MOST_LISTS = 12  # of a path: each costs as much as what was sent is long
_LISTS = frozenset({"projection", "value_projection", "flatten", "filter_projection"})
_ALLOWED = frozenset(
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
_REFUSED_WORDS = {
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
def compile_path(text: str) -> ParsedResult:
    """Compile an expression that is allowed. Raises `ValueError` with a sentence."""
    path = _parse(text)
    _check_node(path.parsed)
    _bound_lists(path.parsed)
    return path


@lru_cache(maxsize=4096)
def compile_condition(text: str) -> ParsedResult:
    """Compile a condition: comparisons with texts, such as `type=='goal_reached' && data.card.stamps!='0'`, or a path.

    Numbers are texts, as in paths. Raises `ValueError` with a sentence.
    """
    condition = _parse(text)
    if _compares(condition.parsed):
        _check_condition(condition.parsed)
    else:
        _check_node(condition.parsed)
    _bound_lists(condition.parsed)
    return condition


def _parse(text: str) -> ParsedResult:
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"a path has at most {MOST_CHARACTERS} characters")
    try:
        path = jmespath.compile(text)
    except (JMESPathError, ValueError, RecursionError, IndexError) as error:
        raise ValueError(f"this is no path{_position(error)}") from None
    return path


def _bound_lists(node: Node) -> None:
    """Raise `ValueError` for a path that goes through too many lists."""
    if _count_lists(node) > MOST_LISTS:
        raise ValueError(f"a path goes through at most {MOST_LISTS} lists")


def _compares(node: Node) -> bool:
    """Say whether an expression is a comparison, or several."""
    if node["type"] in ("and_expression", "or_expression"):
        return any(_compares(child) for child in node["children"])
    return bool(node["type"] == "comparator")


def _position(error: Exception) -> str:
    """Say where jmespath stopped to understand, counted from one as people do; empty where it does not say."""
    at = getattr(error, "lex_position", None)
    return f" (at sign {at + 1})" if isinstance(at, int) else ""


def _count_lists(node: Node) -> int:
    """Count the lists that a path goes through: each costs as much as what was sent is long."""
    return int(node["type"] in _LISTS) + sum(_count_lists(child) for child in node.get("children", []))


def _check_node(node: Node) -> None:
    """Raise `ValueError` where a path does more than lead somewhere."""
    kind = node["type"]
    if kind not in _ALLOWED:
        raise ValueError(f"a path has no {_REFUSED_WORDS.get(kind, kind)}: names, [0], [], [?a=='b'] and || only")
    children = node.get("children", [])
    if kind == "filter_projection":
        # the condition is the last child, and may compare, which nothing else may
        *children, condition = children
        _check_condition(condition)
    for child in children:
        _check_node(child)


def _check_condition(node: Node) -> None:
    """Allow a text filter: `field == 'text'`, `!=`, and several of them. Raises `ValueError`."""
    if node["type"] in ("and_expression", "or_expression"):
        for child in node["children"]:
            _check_condition(child)
        return
    if node["type"] != "comparator" or node["value"] not in ("eq", "ne"):
        raise ValueError("a filter compares with a text only, as in [?kind=='refund']")
    for side in node["children"]:
        _check_compared(side)


def _check_compared(node: Node) -> None:
    """Allow a path or a text at one side of a comparison. Raises `ValueError`."""
    if node["type"] != "literal":
        _check_node(node)
    elif not isinstance(node["value"], str):
        raise ValueError("a filter compares with a text only: numbers are texts here, as in [?id=='5']")


class TooCostly(Exception):
    """Following a path cost more than its budget."""


class Budget:
    """How much following paths in one request may cost: visits, one for each node of a path at each value it meets.

    A usual order costs some hundred visits, one with 500 lines some thousand; the default stops at a fraction of a
    second of computing.
    """

    USUAL = 200_000

    def __init__(self, visits: int = USUAL) -> None:
        self.visits = visits
        self.left = visits

    def spend(self, visits: int) -> None:
        """Take visits off what is left. Raises `TooCostly` where too little is."""
        self.left -= visits
        if self.left < 0:
            raise TooCostly

    def part(self, share: int) -> Budget:
        """Return a budget of its own, so many times smaller."""
        return Budget(max(1, self.visits // share))


class _CountingInterpreter(TreeInterpreter):
    """Follows a path and spends a budget: the cost of a path is known only from the value that it meets."""

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def visit(self, node: Node, *args: object, **kwargs: object) -> object:
        self._budget.spend(1)
        return super().visit(node, *args, **kwargs)

    def visit_comparator(self, node: Node, value: object) -> bool:
        left, right = (self.visit(side, value) for side in node["children"])
        # texts only: two large values would be compared in one visit
        same = isinstance(left, str) and isinstance(right, str) and left == right
        return same is (node["value"] == "eq")

    def visit_flatten(self, node: Node, value: object) -> object:
        merged = super().visit_flatten(node, value)
        self._budget.spend(len(merged or ()))  # it goes through its elements without visiting them
        return merged


def follow_path(path: str, value: object, budget: Budget | None = None) -> object:
    """Return what a path leads to; `None` where it leads nowhere, or is empty. Raises `TooCostly`."""
    if not path:
        return None
    try:
        return _CountingInterpreter(budget or Budget()).visit(compile_path(path).parsed, value)
    # jmespath raises for values of a kind that a step cannot take: there is nothing at such a path
    except (JMESPathError, ValueError, TypeError, RecursionError):
        return None


def meets_condition(condition: str, value: object, budget: Budget | None = None) -> bool:
    """Say whether a value meets a condition: a path does so where it leads to something. Raises `TooCostly`."""
    try:
        return bool(_CountingInterpreter(budget or Budget()).visit(compile_condition(condition).parsed, value))
    except (JMESPathError, ValueError, TypeError, RecursionError):
        return False


def parse_json(body: bytes) -> object:
    """Parse JSON with every number as the text that was sent: no amount goes through a float. Raises `BadPayload`."""
    try:
        value: object = json.loads(body, parse_float=str, parse_int=str, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadPayload("body", "is not JSON", body) from None
    # what follows goes down into values by calling itself, and must never meet the limit of that
    if _is_deeper_than(value, MOST_DEPTH):
        raise BadPayload("body", f"is nested more than {MOST_DEPTH} deep", body)
    return value


def _refuse_constant(name: str) -> object:
    """Refuse `NaN` and `Infinity`, which Python's parser takes and JSON has not."""
    raise ValueError(name)


def _is_deeper_than(value: object, most: int) -> bool:
    """Go down level by level, without recursion."""
    level = [value]
    for _ in range(most + 1):
        level = [child for parent in level for child in _children(parent)]
        # each level is at most as long as the body, and there are so many at most
        if not level:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
