"""What attackers know of a host: where it listens, and what an attacker who has a cafe of their own was given."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

SECRET = "a long secret of the attacker"
HONEST_SECRET = "a long secret of the honest till"
POSTER_KEY, HONEST_KEY, ATTACKER_KEY, REVOKED_KEY = (
    f"7loc_sc_{name}" for name in ("poster", "honest", "attacker", "revoked")
)
STRANGER = "127.0.0.2"
"""Where an attacker's connections come from: limits by address must meet them and nobody else."""
PROXY = "127.0.0.9"
"""The proxy that the host trusts."""


@dataclass(frozen=True, slots=True)
class Target:
    """A host, the attacker's own hook addresses (paths) and session on it."""

    host: str
    port: int
    hook: str
    """The hook address of the attacker's any-till connection, whose requests are signed with `SECRET`."""
    costly_hook: str
    """The same of one whose paths are as costly as may be saved."""
    plugin_hooks: dict[str, str]
    """Hook addresses of the test plugin, by what it does there."""
    connection: str
    """The id of the attacker's any-till connection."""
    cookie: str
    """The attacker's signed-in session, as a Cookie header."""
    proof: str
    """What the forms of that session carry."""

    def as_json(self) -> str:
        """Return the target as the attacker's process reads it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `as_json` wrote."""
        return cls(**json.loads(text))
