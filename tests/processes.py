"""Real processes for tests: started with a clean environment, ended by their id.

Owns starting, waiting and ending them; what they print is left to the tests.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import TypeVar

import httpx
from typer.testing import CliRunner

from connectors.cli.main import app

Answer = TypeVar("Answer")
KILLS = int(os.environ.get("KILLS", "3"))
"""How often a test kills what it is about: three times show it, `KILLS=20` looks longer."""

CONNECTORS = [sys.executable, "-m", "connectors"]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return what a process needs of the machine's environment, and `more`."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SYSTEMROOT") if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **more}


def forking() -> ForkServerContext:
    """Processes that share what is imported: one server forks all of a run, so it imports what any of them needs."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.store.rotating", "tests.sync.renewing", "aiohttp"])
    return processes


@contextmanager
def started(arguments: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a `connectors …` process whose output goes to a file; it is killed at the end if it still runs."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*CONNECTORS, *arguments], env=environment(env), stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def run(arguments: list[str], env: Mapping[str, str], *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a `connectors …` command to its end."""
    return subprocess.run(
        [*CONNECTORS, *arguments],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def invoke(arguments: list[str], env: Mapping[str, str], *, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a `connectors …` command to its end in this process, where its outcome is asked for and not the process.

    Not where a loop runs in this thread: a command starts its own.
    """
    result = CliRunner().invoke(app, arguments, input=typed, env={"COLUMNS": "200", **env})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def wait_for(condition: Callable[[], Answer], what: str, *, seconds: float = 30, pause: float = 0.05) -> Answer:
    """Ask until the answer is true, and return it; a test that would hang fails after `seconds`."""
    for _ in range(int(seconds / pause)):
        if answer := condition():
            return answer
        time.sleep(pause)
    raise AssertionError(f"waited in vain for {what}")


def origin_in(log: Path, *, timeout: float = 20) -> str:
    """The address a process said it listens on."""

    def origin() -> str | None:
        for line in log.read_text().splitlines():
            if "http://" in line and "isten" in line:
                return "http://" + line.split("http://")[1].split()[0]
        return None

    try:
        return str(wait_for(origin, "where it listens", seconds=timeout, pause=0.02))
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{log.read_text()}") from None


def wait_ready(origin: str, *, timeout: float = 20) -> None:
    """Wait until the host at an origin says that it is ready."""

    def ready() -> bool:
        try:
            return httpx.get(f"{origin}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(ready, f"{origin} to be ready", seconds=timeout, pause=0.02)
