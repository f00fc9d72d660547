"""`connectors new`: a package that is green before a line is changed, also where only our wheel is installed.

There the tutorial's steps are done, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from tests.docs.steps import follow

ROOT = Path(__file__).parents[2]
FILES = ["README.md", "my_till", "pyproject.toml", "tests"]


def run(*command: str | Path, cwd: Path, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """A command without anything of ours in its environment."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CONNECTORS_"))}
    return subprocess.run(
        [str(one) for one in command], cwd=cwd, env=keep, capture_output=True, text=True, timeout=timeout, check=False
    )


def connectors(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "connectors", *arguments, cwd=cwd)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["poll", "push", "both"])
def test_a_new_package_is_green_before_a_line_is_changed(tmp_path: Path, shape: str) -> None:
    made = connectors("new", "my-till", "--shape", shape, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "my-till"
    assert sorted(one.name for one in folder.iterdir()) == FILES
    checked = connectors("check", ".", cwd=folder)
    assert checked.returncode == 0, checked.stdout
    assert "0 failed, 0 not shown" in checked.stdout
    style = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,I,B,UP", "--line-length", "120", "."]
    assert run(*style, cwd=folder).returncode == 0
    if shape == "push":
        tests = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
        assert tests.returncode == 0, tests.stdout


def test_what_cannot_be_made_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "my-till").mkdir()
    (tmp_path / "my-till" / "notes.txt").write_text("mine")
    for name, said in (
        ("My Till", "is no name"),
        ("poster", "there is a connector named 'poster' already"),
        ("my-till", "is not empty: nothing is written over"),
        ("class", "is a word of Python's own"),
        ("json", "is the name of a module that is there already: add to it, as in json-till"),
        ("connector-sdk", "is the name of a module that is there already"),
        ("tests", "is the name of a module"),
        ("httpx", "is the name of a module"),
        ("sys", "is the name of a module"),
    ):
        refused = connectors("new", name, cwd=tmp_path)
        assert refused.returncode == 1
        assert said in refused.stderr
    assert [one.name for one in tmp_path.rglob("*")] == ["my-till", "notes.txt"]


@pytest.mark.slow
def test_with_only_our_wheel_and_its_locked_dependencies(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist"), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    for what in (["--require-hashes", "-r", str(ROOT / "requirements.lock")], ["--no-deps", str(wheel)]):
        installed = run(*pip, *what, cwd=tmp_path)
        assert installed.returncode == 0, installed.stderr
    begun = time.monotonic()
    assert run(binaries / "connectors", "new", "my-till", cwd=tmp_path).returncode == 0
    checked = run(binaries / "connectors", "check", ".", cwd=tmp_path / "my-till")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert time.monotonic() - begun < 120
    for ours in ("poster", "serve", "webhook"):
        assert run(binaries / "connectors", "check", ours, "--only", "account", cwd=tmp_path).returncode == 0
    _the_tutorial_works(tmp_path / "kettle", binaries / "connectors")


def _the_tutorial_works(folder: Path, command: Path) -> None:
    """Each step does what the page says; what they make conforms, and nothing it was asked for is missing."""
    folder.mkdir()
    follow(folder, {"connectors": [str(command)], "pytest": None})
    kept = json.loads((folder / "kettle_till" / "conformance.json").read_text())["kettle"]
    assert kept["conforms"]
    assert all(kept[level]["shown"] == kept[level]["asked"] for level in ("required", "recommended"))
