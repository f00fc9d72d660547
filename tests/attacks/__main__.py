"""Attacks, one after the other, as they are asked for: a process of its own, for an attacker's loop is not the host's.

The target comes as JSON in the first line of standard input; then each line is an attack's name and how many seconds
it takes, and a line with its answers, counted, as JSON is written when it is over.
"""

from __future__ import annotations

import asyncio
import json
import sys

from tests.attacks.attacks import ATTACKS
from tests.attacks.client import Attacker
from tests.attacks.target import Target

_SPARE_SECONDS = 10.0


async def _run(target: Target, name: str, seconds: float) -> dict[str, int]:
    attacker = Attacker(target, seconds)
    try:
        async with asyncio.timeout(seconds + _SPARE_SECONDS):
            await ATTACKS[name].run(attacker)
    except TimeoutError:
        attacker.answers["no answer"] += 1
    return dict(attacker.answers)


def main() -> None:
    _raise_open_files()
    target = Target.from_json(sys.stdin.readline())
    for line in sys.stdin:
        name, seconds = line.split()
        sys.stdout.write(json.dumps(asyncio.run(_run(target, name, float(seconds)))) + "\n")
        sys.stdout.flush()


def _raise_open_files() -> None:
    """Allow this process as many sockets as the system lets it have."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
