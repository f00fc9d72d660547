"""A host with its neighbours as real processes: two cafes that sell, and one that belongs to the attacker."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from poster_connector.sandbox import SECRET as POSTER_SECRET
from tests.attacks.connect_tills import ConnectedTill
from tests.attacks.plugin import KINDS, install
from tests.attacks.target import ATTACKER_KEY, PROXY, REVOKED_KEY, STRANGER, Target
from tests.processes import Process, environment, origin_in, started, wait_ready


def can_attack() -> bool:
    """Whether this system lets clients come from other addresses of the loopback network."""
    try:
        with socket.socket() as client:
            client.bind((STRANGER, 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Deployment:
    """A host that serves, and whom it serves."""

    origin: str
    sevenstamp: str
    poster: str
    process: Process
    log: Path
    honest_hook: str
    """The hook address (a path) of the honest any-till connection, signed with `HONEST_SECRET`."""
    target: Target

    attacker: subprocess.Popen[str]

    def attack(self, name: str, seconds: float) -> dict[str, int]:
        """Run an attack to its end; return what the attacker was answered, counted."""
        if self.attacker.stdin is None or self.attacker.stdout is None:
            raise RuntimeError("the attacker's process has no pipes")
        self.attacker.stdin.write(f"{name} {seconds}\n")
        self.attacker.stdin.flush()
        answers = self.attacker.stdout.readline()
        if not answers:
            raise RuntimeError(f"the attack {name} failed")
        counted: dict[str, int] = json.loads(answers)
        return counted


_ROOT = Path(__file__).parent.parent.parent
_NICE = "import os, sys; os.nice(10); os.execv(sys.argv[1], sys.argv[1:])"


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Start sandboxes and a host, connect the cafes, and sign the attacker in."""
    with ExitStack() as stack:

        def sandbox(name: str, *more: str) -> str:
            stack.enter_context(started(["sandbox", name, *more], {}, folder / f"{name}.log"))
            return origin_in(folder / f"{name}.log")

        sevenstamp, poster = sandbox("sevenstamp", "--goal", "1000000"), sandbox("poster")
        httpx.post(
            f"{sevenstamp}/_sandbox/keys", json={"key": REVOKED_KEY, "revoked": True}, trust_env=False
        ).raise_for_status()
        install(folder / "plugin")
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": "a key that only tests use",
            "CONNECTORS_OPERATOR_PASSWORD": "an operator's password for tests",
            "CONNECTORS_TRUSTED_PROXIES": PROXY,
            "POSTER_API_URL": f"{poster}/api",
            "POSTER_APPLICATION_SECRET": POSTER_SECRET,
            "PYTHONPATH": str(folder / "plugin"),
        }
        connections = _connect(env)
        process = stack.enter_context(started(["serve", "--port", "0"], env, folder / "host.log"))
        origin = origin_in(folder / "host.log")
        wait_ready(origin)
        httpx.post(
            f"{poster}/_sandbox/hooks", json={"url": f"{origin}/hooks/tills/poster"}, trust_env=False
        ).raise_for_status()
        target = _target(origin, connections)
        attacker = stack.enter_context(_attacker(target))
        yield Deployment(
            origin,
            sevenstamp,
            poster,
            process,
            folder / "host.log",
            connections["honest"].hook,
            target,
            attacker,
        )


@contextmanager
def _attacker(target: Target) -> Iterator[subprocess.Popen[str]]:
    """A process that attacks when it is told to, at a lower priority: an attacker's processor is not the host's."""
    process = subprocess.Popen(
        [sys.executable, "-c", _NICE, sys.executable, "-m", "tests.attacks"],
        env=environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
    )
    with process:
        try:
            if process.stdin is None:
                raise RuntimeError("the attacker's process has no standard input")
            process.stdin.write(target.as_json() + "\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def _connect(env: dict[str, str]) -> dict[str, ConnectedTill]:
    """Connect everybody's tills, by title."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.attacks.connect_tills"],
        env=environment(env),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {title: ConnectedTill(**facts) for title, facts in json.loads(done.stdout).items()}


def _target(origin: str, connections: dict[str, ConnectedTill]) -> Target:
    cookie, proof = _sign_in(origin, ATTACKER_KEY)
    url = httpx.URL(origin)
    return Target(
        host=url.host,
        port=url.port or 80,
        hook=connections["attacker"].hook,
        costly_hook=connections["costly"].hook,
        plugin_hooks={kind: connections[kind].hook for kind in KINDS},
        connection=connections["attacker"].id,
        cookie=cookie,
        proof=proof,
    )


def _sign_in(origin: str, key: str) -> tuple[str, str]:
    """Sign in with a key; return the cookies as a header, and the proof that forms carry."""
    with httpx.Client(base_url=origin, trust_env=False) as browser:
        page = browser.get("/sign-in")
        shown = re.search(r'name="proof" value="(\w+)"', page.text)
        if shown is None:
            raise RuntimeError(f"the page for signing in has no proof: {page.status_code} {page.text}")
        answer = browser.post("/sign-in", data={"proof": shown[1], "key": key, "next": "/"})
        if answer.status_code != 303:
            raise RuntimeError(f"signing in was answered {answer.status_code}")
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items()), shown[1]
