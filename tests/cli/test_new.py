"""`connectors new`: a package that is green before a line is changed, also where only our wheel is installed.

There the tutorial's steps are done, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from connectors.cli.main import app
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


def test_what_cannot_be_made_is_said_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-till").mkdir()
    (tmp_path / "my-till" / "notes.txt").write_text("mine")
    for arguments, said in (
        ("My Till", "is no name"),
        ("poster", "there is a connector named 'poster' already"),
        ("poster-connector", "there is a connector named 'poster' already"),
        ("my-till", "is not empty: nothing is written over"),
        ("class", "is a word of Python's own, and no name for a package"),
        ("class", "name the package, as in --package class_connector"),
        ("match", "is a word of Python's own"),
        ("json", "is the name of a module that is there already: name the package, as in --package json_connector"),
        ("connector-sdk", "is the name of a module that is there already"),
        ("tests", "is the name of a module"),
        ("httpx", "is the name of a module"),
        ("sys", "is the name of a module"),
        ("kettle --package square_connector", "is the name of a module"),
        ("kettle --package lambda", "is a word of Python's own"),
        ("kettle --package kettle-connector", "is no package"),
    ):
        typed = [arguments] if arguments == "My Till" else arguments.split()
        refused = CliRunner().invoke(app, ["new", *typed])
        assert refused.exit_code == 1
        assert said in refused.stderr
    assert [one.name for one in tmp_path.rglob("*")] == ["my-till", "notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "folder", "package", "name"),
    [
        ("kettle", "kettle", "kettle", "kettle"),
        ("my-till", "my-till", "my_till", "mytill"),
        ("kettle-connector", "kettle-connector", "kettle_connector", "kettle"),
        ("kettle --package kettle_connector", "kettle", "kettle_connector", "kettle"),
        ("class --package class_connector", "class", "class_connector", "class"),
    ],
)
def test_package_and_connector_have_the_names_that_were_asked_for(
    tmp_path: Path, arguments: str, folder: str, package: str, name: str
) -> None:
    assert connectors("new", *arguments.split(), cwd=tmp_path).returncode == 0
    project = tomllib.loads((tmp_path / folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["sevenstamp_connectors"] == {name: package}
    assert f'name="{name}"' in (tmp_path / folder / package / "connector.py").read_text()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `connectors` of an environment with nothing but our wheel and its locked dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist"), cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "venv")
    binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    found = run(binaries / "python", "-c", "import site; print(site.getsitepackages()[0])", cwd=folder)
    _link_locked(Path(found.stdout.strip()))
    # this interpreter's pip installs there: one of its own would take longer than what is installed
    pip = [sys.executable, "-m", "pip", "--python", binaries / "python", "install", "--quiet", "--no-deps"]
    done = run(*pip, "--disable-pip-version-check", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return binaries / "connectors"


def _link_locked(packages: Path) -> None:
    """Put what our lock names into an environment, from this one, which has the same: pip takes a minute for it."""
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line.startswith((" ", "#")) or not line:
            continue
        wanted = Requirement(line.removesuffix("\\").strip())
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        there = metadata.distribution(wanted.name)
        assert wanted.specifier.contains(there.version), f"{wanted}, but {there.version} is installed here"
        for file in there.files or ():
            source = Path(str(file.locate()))
            if ".." in file.parts or not source.exists():
                continue  # commands of other packages, and what is compiled on another machine
            compiled = Path(cache_from_source(str(source))) if source.suffix == ".py" else source
            for one in {source, compiled}:
                if one.exists():
                    to = packages / file.parent / one.relative_to(source.parent)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    if not to.exists():
                        shutil.copy2(one, to)


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_with_only_our_wheel_and_its_locked_dependencies(tmp_path: Path, installed: Path) -> None:
    assert run(installed, "new", "my-till", cwd=tmp_path).returncode == 0
    checked = run(installed, "check", ".", cwd=tmp_path / "my-till")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for ours in ("poster", "serve", "square", "webhook"):
        assert run(installed, "check", ours, "--only", "account", cwd=tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.xdist_group("wheel")
def test_each_step_of_the_tutorial_does_what_the_page_says_and_they_make_a_tidy_connector(
    tmp_path: Path, installed: Path
) -> None:
    python = [sys.executable, "-m"]
    follow(tmp_path, {"connectors": [str(installed)], "pytest": [*python, "pytest", "-p", "no:cacheprovider"]})
    conformance = json.loads((tmp_path / "kettle_till" / "conformance.json").read_text())["kettle"]
    assert conformance["conforms"]
    for level in ("required", "recommended"):
        assert conformance[level]["shown"] == conformance[level]["asked"]
    rules = "A,ASYNC,B,BLE,C4,E,F,I,ISC,N,PIE,PT,RET,RUF,SIM,T20,UP,W"
    style = ["ruff", "check", "--isolated", "--select", rules, "--line-length", "120", "."]
    looked = run(*python, *style, cwd=tmp_path)
    assert looked.returncode == 0, looked.stdout
    shaped = run(*python, "ruff", "format", "--isolated", "--line-length", "120", "--diff", ".", cwd=tmp_path)
    assert shaped.returncode == 0, shaped.stdout
