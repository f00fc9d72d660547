"""Checks hold under `python -O` as well, where every `assert` is left out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment

ROOT = Path(__file__).parents[1]
PRODUCT_PACKAGES = (
    "connectors",
    "connector_sdk",
    "poster_connector",
    "serve_connector",
    "square_connector",
    "webhook_connector",
)


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["sync", "none"], ["connection", "show", "none"]])
def test_a_missing_7stamp_address_is_reported_in_a_sentence_with_and_without_asserts(
    tmp_path: Path, command: list[str]
) -> None:
    env = {"CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
    usual, optimised = (_run_python(options, command, env) for options in ([], ["-O"]))
    assert (usual.returncode, usual.stderr) == (optimised.returncode, optimised.stderr)
    assert optimised.returncode == 1
    assert "Traceback" not in optimised.stderr
    if command[0] == "serve":
        assert "CONNECTORS_SEVENSTAMP_URL is not set: set it to the address of the 7stamp API" in optimised.stderr


def _run_python(options: list[str], command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-m", "connectors", *command],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_no_assert_stands_for_a_check_in_product_code() -> None:
    files = [file for package in PRODUCT_PACKAGES for file in (ROOT / package).rglob("*.py")]
    assert files
    with_asserts = [
        str(file.relative_to(ROOT))
        for file in files
        if re.search(r"^\s*assert\b|noqa:.*S101", file.read_text(), re.MULTILINE)
    ]
    assert with_asserts == []
