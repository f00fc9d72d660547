"""The stored form of a grant: columns of the table `connection`, its secrets encrypted.

Owns how a grant becomes columns and back; `registry` writes them, and renewing a grant is `renewals`'.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace

from pydantic import SecretStr

from connector_sdk.authorisation import Grant
from connectors.domain.clock import micros, moment
from connectors.domain.connection import Connection
from connectors.domain.renewal import plan_renewal
from connectors.store.engine import Transaction
from connectors.store.vault import Vault

REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a secret, as OAuth has it
"""The secret without which a grant cannot be renewed."""


def encode(grant: Grant) -> str:
    """Write a grant as a JSON text, its secrets in the clear: for storing it encrypted."""
    return json.dumps(
        {
            "secrets": {name: secret.get_secret_value() for name, secret in grant.secrets.items()},
            "issued_at": micros(grant.issued_at) if grant.issued_at else None,
            "expires_at": micros(grant.expires_at) if grant.expires_at else None,
            "single_use": grant.single_use,
        }
    )


def decode(text: str) -> Grant:
    """Read a grant as `encode` wrote it."""
    content = json.loads(text)
    issued_at, expires_at = content.get("issued_at"), content.get("expires_at")
    return Grant(
        {name: SecretStr(secret) for name, secret in content["secrets"].items()},
        moment(expires_at) if expires_at is not None else None,
        moment(issued_at) if issued_at is not None else None,
        bool(content.get("single_use")),
    )


def of_connection(vault: Vault, connection: Connection) -> Grant | None:
    """Return a connection's grant as it was when the connection was read; `None` where it has none."""
    return decode(vault.decrypt(connection.grant)) if connection.grant is not None else None


def completed(grant: Grant, now: int) -> Grant:
    """Return a grant with the time at which it was issued: now, where the connector does not know."""
    return grant if grant.issued_at is not None else replace(grant, issued_at=moment(now))


def columns(tx: Transaction, grant: Grant | None) -> dict[str, object]:
    """Return the columns of a grant that is stored now; of none, with `None`."""
    times = {"renewing_until": 0, "renewal_failures": 0}
    if grant is None:
        ended = {"grant_secrets": None, "expires_at": None, "renew_at": None, "consent_trouble_at": None}
        return {**times, **ended}
    grant = completed(grant, tx.now)
    issued_at = micros(grant.issued_at) if grant.issued_at else tx.now
    expires_at = micros(grant.expires_at) if grant.expires_at else None
    # jitter: grants of one day must not be renewed at one moment
    plan = plan_renewal(
        issued_at,
        expires_at,
        renewable=REFRESH_TOKEN in grant.secrets,
        spread=random.random(),  # noqa: S311 - spreads load
    )
    return {
        **times,
        "grant_secrets": tx.vault.encrypt(encode(grant)),
        "expires_at": expires_at,
        "renew_at": plan.renew_at,
        "consent_trouble_at": plan.trouble_at,
    }
