"""TODO docstring."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqlalchemy import bindparam, select

from connector_sdk.rule import StampRule
from connectors.domain.stamps import RuleVersion
from connectors.store.engine import Transaction
from connectors.store.schema import (
    rule_version_table,
)

parse_rule = lru_cache(maxsize=4096)(StampRule.model_validate_json)


def of_connection(tx: Transaction, connection_id: str) -> list[RuleVersion]:
    """A connection's rule versions, in the order in which they took effect."""
    return of_connections(tx, [connection_id])[connection_id]


_RULES = (
    select(rule_version_table)
    .where(rule_version_table.c.connection_id.in_(bindparam("ids", expanding=True)))
    .order_by(rule_version_table.c.connection_id, rule_version_table.c.number)
)


def of_connections(tx: Transaction, ids: Sequence[str]) -> dict[str, list[RuleVersion]]:
    """The same for several connections at once."""
    found: dict[str, list[RuleVersion]] = {one: [] for one in ids}
    for row in tx.run(_RULES, {"ids": list(ids)}):
        found[row.connection_id].append(RuleVersion(row.number, row.effective_from, parse_rule(row.rule)))
    return found


def write_all(tx: Transaction, connection_id: str, versions: Sequence[RuleVersion]) -> None:
    tx.run(
        rule_version_table.insert(),
        [
            {
                "connection_id": connection_id,
                "number": number,
                "effective_from": version.effective_from,
                "rule": version.rule.model_dump_json(),
            }
            for number, version in enumerate(versions, start=1)
        ],
    )


def put_in_force(tx: Transaction, connection_id: str, rule: StampRule) -> bool:
    """Make `rule` the one in force from now on (the first: from the beginning); whether that changed anything."""
    versions = of_connection(tx, connection_id)
    if versions and versions[-1].rule == rule:
        return False
    tx.run(
        rule_version_table.insert(),
        [
            {
                "connection_id": connection_id,
                "number": len(versions) + 1,
                "effective_from": tx.now if versions else 0,
                "rule": rule.model_dump_json(),
            }
        ],
    )
    return bool(versions)
