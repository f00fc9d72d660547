"""Checks hold under `python -O` as well, where every `assert` is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment

ROOT = Path(__file__).parents[1]
OURS = ("connectors", "connector_sdk", "poster_connector", "serve_connector", "webhook_connector")


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["sync", "none"], ["connection", "show", "none"]])
def test_without_an_address_of_7stamp_it_is_said_in_a_sentence(tmp_path: Path, command: list[str]) -> None:
    env = {"CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
    said = []
    for optimised in ([], ["-O"]):
        done = subprocess.run(
            [sys.executable, *optimised, "-m", "connectors", *command],
            env=environment(env), capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said.append((done.returncode, done.stderr))
    assert said[0] == said[1]
    assert said[1][0] == 1
    assert "Traceback" not in said[1][1]
    if command[0] == "serve":
        assert "CONNECTORS_SEVENSTAMP_URL is not set: set it to the address of the 7stamp API" in said[1][1]


def test_no_assert_stands_for_a_check() -> None:
    files = [file for package in OURS for file in (ROOT / package).rglob("*.py")]
    assert files
    found = [
        str(file.relative_to(ROOT))
        for file in files
        if re.search(r"^\s*assert\b|noqa:.*S101", file.read_text(), re.MULTILINE)
    ]
    assert found == []
