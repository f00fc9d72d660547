"""Rules: every version of a connection's stamp rule, and from when on each is in force.

Owns the table `rule_version`; which version plans a receipt is `connectors.domain.stamps`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import bindparam, select

from connector_sdk.rule import StampRule
from connectors.domain.stamps import RuleVersion
from connectors.store.engine import Transaction
from connectors.store.schema import rule_version_table

parse_rule = lru_cache(maxsize=4096)(StampRule.model_validate_json)
"""A rule of its stored text: an immutable value, of texts that come again and again, parsed once."""

_RULES = (
    select(rule_version_table)
    .where(rule_version_table.c.connection_id.in_(bindparam("ids", expanding=True)))
    .order_by(rule_version_table.c.connection_id, rule_version_table.c.number)
)


def of_connection(tx: Transaction, connection_id: str) -> list[RuleVersion]:
    """List a connection's rule versions, in the order in which they took effect."""
    return of_connections(tx, [connection_id])[connection_id]


def of_connections(tx: Transaction, ids: Sequence[str]) -> dict[str, list[RuleVersion]]:
    """Map connection id to its rule versions, for several connections in one query."""
    versions: dict[str, list[RuleVersion]] = {connection_id: [] for connection_id in ids}
    for row in tx.run(_RULES, {"ids": list(ids)}):
        version = RuleVersion(row.number, row.effective_from, parse_rule(row.rule))
        versions[row.connection_id].append(version)
    return versions


def copy(tx: Transaction, former_id: str, connection_id: str) -> None:
    """Give a new connection the rule versions of a former one: its rules go on."""
    versions = of_connection(tx, former_id)
    for number, version in enumerate(versions, start=1):
        _insert(tx, connection_id, number, version.effective_from, version.rule)


# versions are only ever added: a receipt of last month is planned by what was in force then
def put_in_force(tx: Transaction, connection_id: str, rule: StampRule) -> bool:
    """Put a rule in force from now on (the first: from the beginning); say whether it replaced another."""
    versions = of_connection(tx, connection_id)
    if versions and versions[-1].rule == rule:
        return False
    # the first is in force from the beginning of time, so that history which is backfilled has a rule
    _insert(tx, connection_id, len(versions) + 1, tx.now if versions else 0, rule)
    return bool(versions)


def _insert(tx: Transaction, connection_id: str, number: int, effective_from: int, rule: StampRule) -> None:
    row = {
        "connection_id": connection_id,
        "number": number,
        "effective_from": effective_from,
        "rule": rule.model_dump_json(),
    }
    tx.run(rule_version_table.insert(), [row])
