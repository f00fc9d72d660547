"""How much one business, one connection or one hook address may use of a host that many share.

Owns the numbers and what each of them is called; who counts is beside what is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas in force. What lies beyond one is refused or sent again, never dropped once it was accepted.

    `tills` are connections of a business. `drafts` are connections that a business has begun to make: the oldest goes.
    `captured` requests of `captured_bytes` in all (headers included, as they are stored) are collected for a draft.
    `kept` requests of `kept_bytes` that could not be read wait for a person, by connection: the oldest go.
    `hooks_a_minute` are of one hook address, proven ones; `hook_bytes_a_day` of all hooks of a business.
    """

    tills: int = 50
    drafts: int = 20
    captured: int = 20
    captured_bytes: int = 2 * MIB
    kept: int = 2000
    kept_bytes: int = 64 * MIB
    hooks_a_minute: int = 600
    hook_bytes_a_day: int = 256 * MIB
