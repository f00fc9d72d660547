"""The tutorial's package: every block says what it is for, and what they make together is green and tidy.

Each step is done, with what it prints, where only our wheel is installed: see `tests/cli/test_new.py`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.steps import blocks, follow


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_what_the_blocks_make_together_is_green_and_tidy(tmp_path: Path) -> None:
    follow(tmp_path, {"connectors": None, "pytest": [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]})
    rules = "A,ASYNC,B,BLE,C4,E,F,I,ISC,N,PIE,PT,RET,RUF,SIM,T20,UP,W"
    lint = _run("-m", "ruff", "check", "--isolated", "--select", rules, "--line-length", "120", ".", cwd=tmp_path)
    assert lint.returncode == 0, lint.stdout
    formatting = _run("-m", "ruff", "format", "--isolated", "--line-length", "120", "--diff", ".", cwd=tmp_path)
    assert formatting.returncode == 0, formatting.stdout


def test_a_step_that_says_something_else_is_found(tmp_path: Path) -> None:
    liar = {"connectors": [sys.executable, "-c", "print('✗ all is well'); raise SystemExit(1)"], "pytest": None}
    with pytest.raises(AssertionError, match="does not say"):
        follow(tmp_path, liar)


def test_every_block_ends(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Text:\n```python\nx = 1\n")
    with pytest.raises(AssertionError, match="a block without an end"):
        list(blocks(page))
