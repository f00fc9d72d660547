"""Following the tutorial: a step that says something else than the page is noticed, and so is a block without an end.

The steps themselves are done where only our wheel is installed: see `tests/cli/test_new.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.steps import blocks, follow


def test_a_step_that_says_something_else_is_found(tmp_path: Path) -> None:
    liar = {"connectors": [sys.executable, "-c", "print('✗ all is well'); raise SystemExit(1)"], "pytest": None}
    with pytest.raises(AssertionError, match="does not say"):
        follow(tmp_path, liar)


def test_every_block_ends(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text:\n```python\nx = 1\n")
    with pytest.raises(AssertionError, match="a block without an end"):
        list(blocks(page))
