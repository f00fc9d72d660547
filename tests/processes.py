"""Real processes for tests: started with a clean environment, ended by their id.

Owns starting, waiting and ending them; what they print is left to the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

CONNECTORS = [sys.executable, "-m", "connectors"]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process: what the system needs to start it, and `more`; nothing of the machine's."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SYSTEMROOT") if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **more}


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


def origin_in(log: Path, *, timeout: float = 20) -> str:
    """Wait until a process has printed the address that it listens on, and return that."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if "http://" in line and "isten" in line:
                return "http://" + line.split("http://")[1].split()[0]
        time.sleep(0.02)
    raise AssertionError(f"it never printed where it listens:\n{log.read_text()}")


def wait_ready(origin: str, *, timeout: float = 20) -> None:
    """Wait until a host says that it is ready."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{origin}/readyz", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise AssertionError("it never became ready")
