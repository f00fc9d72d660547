"""Drafts: connections that somebody has begun to make in the console, or whose settings are being taught once more.

Owns the table `draft` and the shape of a draft's content, which is stored as one encrypted JSON object for a day. The
order of the steps is `connectors.web.console.onboarding`'s; the checks of each step are `connectors.services`'.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from connector_sdk.authorisation import Grant
from connector_sdk.connector import TillAccount
from connector_sdk.hooks import HookRequest
from connectors.domain.clock import DAY
from connectors.store import inbox
from connectors.store.connections import stored_grants
from connectors.store.engine import Transaction
from connectors.store.schema import draft_table

LIFETIME = DAY
"""How long a draft lives after its last change, in microseconds."""


class _Stored(BaseModel):
    """A part of a draft's content; the names of its fields are the stored JSON keys.

    Unknown keys are kept, not refused and not dropped: while a newer version of the software runs beside this one,
    saving a draft here must not lose what that version put into it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")


class KeyBusiness(_Stored):
    """The business that a 7stamp key belongs to."""

    id: str
    name: str


class KeyUsage(_Stored):
    """Card operations of the key's plan this month; `allowed` is `None` for a plan without a limit."""

    used: int
    allowed: int | None = None


class KeyHolder(_Stored):
    """The holder of a draft's 7stamp key, as 7stamp answered when the key was given."""

    business: KeyBusiness
    operations: KeyUsage
    location_id: str | None = None


class Sample(_Stored):
    """The request that a till is taught by; `body` holds its bytes as Latin-1 text.

    `id` is that of the captured request, and empty for a request that was pasted.
    """

    body: str = Field(repr=False)
    headers: Mapping[str, str] = Field(repr=False)
    id: str = ""

    @classmethod
    def from_request(cls, body: bytes, headers: Mapping[str, str], request_id: str = "") -> Sample:
        """Make a sample of a request's bytes and headers."""
        return cls(body=body.decode("latin-1"), headers=dict(headers), id=request_id)

    @property
    def content(self) -> bytes:
        """The body's bytes as the till sent them."""
        return self.body.encode("latin-1")

    def as_request(self) -> HookRequest:
        """Rebuild the request with its headers."""
        return HookRequest("POST", dict(self.headers), {}, self.content)


class DraftContent(_Stored):
    """Everything chosen so far; a field is `None` (and its key absent) until its step has been done."""

    hook_token: str | None = Field(default=None, repr=False)
    """The secret part of the address at which a till that is being taught is heard; `None` where nothing is taught."""
    # Not checked here but by the connector's own model. A text that a connector found in a till's request may hold lone
    # surrogates, which pydantic would refuse in a `str`; JSON takes them as escapes.
    values: Mapping[str, object] = Field(default_factory=dict, repr=False)
    """The connector's settings by name, secrets among them."""
    account: TillAccount | None = None
    """The till account that the settings open."""
    grant: str | None = Field(default=None, repr=False)
    """What the till's consent page granted, as `stored_grants.encode` wrote it; `None` where none was given."""
    key: str | None = Field(default=None, repr=False)
    """The 7stamp key."""
    me: KeyHolder | None = None
    """The holder of that key."""
    scope: tuple[str, ...] | None = None
    """The ids of the locations that give stamps, empty for all; `None` until they are chosen."""
    rule: Mapping[str, list[str]] | None = None
    """The fields of the rule form as last filled in, for coming back to it."""
    sample: Sample | None = None
    """The request that the till is taught by."""
    skipped: tuple[str, ...] = ()
    """The questions of teaching that were answered with "my till does not send this"."""
    mends: str | None = None
    """The id of the connection whose settings this draft teaches once more; `None` for a new connection."""

    def with_values(self, values: Mapping[str, object]) -> DraftContent:
        """Return the content with other settings, whether or not they open an account."""
        return self.model_copy(update={"values": dict(values)})

    @property
    def given_grant(self) -> Grant | None:
        """What the till's consent page granted; `None` where none was given."""
        return stored_grants.decode(self.grant) if self.grant is not None else None

    def with_grant(self, grant: Grant | None) -> DraftContent:
        """Return the content with what the till's consent page granted; without one where a token is used instead."""
        return self.model_copy(update={"grant": stored_grants.encode(grant) if grant is not None else None})

    def with_account(self, values: Mapping[str, object], account: TillAccount) -> DraftContent:
        """Return the content with settings that open an account.

        The locations that were chosen stay only where it is the account of before: another one has others.
        """
        same_account = self.account is None or self.account.id == account.id
        scope = self.scope if same_account else None
        return self.model_copy(update={"values": dict(values), "account": account, "scope": scope})

    def with_key(self, key: str, holder: KeyHolder) -> DraftContent:
        """Return the content with a 7stamp key and who holds it."""
        return self.model_copy(update={"key": key, "me": holder})

    def with_scope(self, scope: Sequence[str]) -> DraftContent:
        """Return the content with the locations that give stamps, none of them for all."""
        return self.model_copy(update={"scope": tuple(scope)})

    def with_rule(self, fields: Mapping[str, list[str]]) -> DraftContent:
        """Return the content with the rule form as filled in."""
        return self.model_copy(update={"rule": dict(fields)})

    def with_sample(self, sample: Sample, values: Mapping[str, object]) -> DraftContent:
        """Return the content with a request to teach by and the settings that it suggests.

        Questions that were skipped are asked again: this request may have what the one before lacked.
        """
        return self.model_copy(update={"sample": sample, "values": dict(values), "skipped": ()})

    def with_answers(self, values: Mapping[str, object], skipped: Sequence[str]) -> DraftContent:
        """Return the content with the settings after an answer, and the questions skipped so far."""
        return self.model_copy(update={"values": dict(values), "skipped": tuple(skipped)})

    def as_json(self) -> str:
        """Write the JSON text to be stored; keys of steps that were not done are left out."""
        # in python mode, and JSON afterwards: pydantic's own JSON refuses the lone surrogates that settings may hold
        stored = self.model_dump()
        if self.account is not None:
            stored["account"] = self.account.model_dump(mode="json")
        return json.dumps({name: value for name, value in stored.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Draft:
    """A stored draft; `owner` is a business id, or the operator's name for itself. Times in UTC microseconds."""

    id: str
    owner: str
    connector: str
    updated_at: int
    content: DraftContent = field(repr=False)


@dataclass(frozen=True, slots=True)
class DraftSummary:
    """A draft in a list: what it connects and when it was last changed (UTC microseconds)."""

    id: str
    connector: str
    updated_at: int


@dataclass(frozen=True, slots=True)
class StoredDraft:
    """A draft with its owner and its whole content as one text, for finding a person in it."""

    id: str
    owner: str
    text: str = field(repr=False)


def create(tx: Transaction, owner: str, connector: str, content: DraftContent | None = None) -> str:
    """Store a new draft and return its id.

    Deletes drafts that are too old, and the owner's oldest beyond the quota. A content with a
    `hook_token` makes the draft findable by that token.
    """
    # those too old go first, so that they do not count against the quota
    tx.run(draft_table.delete().where(draft_table.c.updated_at <= tx.now - LIFETIME))
    _delete_beyond_quota(tx, owner)
    content = content or DraftContent()
    token, draft_id = content.hook_token, secrets.token_urlsafe(9)
    row = {
        "id": draft_id,
        "owner": owner,
        "connector": connector,
        "content": tx.vault.encrypt(content.as_json()),
        "made_at": tx.now,
        "updated_at": tx.now,
        # only the token's hash can be looked up: the token itself stays encrypted within the content
        "hook_token_hash": tx.vault.hash("hook token", token) if token is not None else None,
    }
    tx.run(draft_table.insert(), [row])
    return draft_id


def _delete_beyond_quota(tx: Transaction, owner: str) -> None:
    """Delete the owner's oldest drafts so that one more fits into the quota."""
    newest = select(draft_table.c.id).where(draft_table.c.owner == owner).order_by(draft_table.c.updated_at.desc())
    surplus = list(tx.run(newest.offset(tx.quotas.drafts - 1).limit(1000)).scalars())
    tx.run(draft_table.delete().where(draft_table.c.id.in_(surplus)))


def get(tx: Transaction, draft_id: str, owner: str) -> Draft | None:
    """Return an owner's draft; `None` where it is another owner's, too old, or not there."""
    row = tx.run(
        select(draft_table).where(
            draft_table.c.id == draft_id, draft_table.c.owner == owner, draft_table.c.updated_at > tx.now - LIFETIME
        )
    ).first()
    if row is None:
        return None
    content = DraftContent.model_validate(json.loads(tx.vault.decrypt(row.content)))
    return Draft(row.id, row.owner, row.connector, row.updated_at, content)


def of_hook_token(tx: Transaction, connector: str, token: str) -> str | None:
    """Return the id of the draft whose till is given the address with this token; `None` where there is none."""
    return tx.run(
        select(draft_table.c.id).where(
            draft_table.c.hook_token_hash == tx.vault.hash("hook token", token),
            draft_table.c.connector == connector,
            draft_table.c.updated_at > tx.now - LIFETIME,
        )
    ).scalar()


def save(tx: Transaction, draft: Draft, content: DraftContent) -> None:
    """Replace a draft's content; its day begins anew."""
    tx.run(
        draft_table.update()
        .where(draft_table.c.id == draft.id)
        .values(content=tx.vault.encrypt(content.as_json()), updated_at=tx.now)
    )


def delete(tx: Transaction, draft_id: str, owner: str) -> None:
    """Delete an owner's draft with the requests that it has captured; another owner's stays."""
    # only where the draft was really theirs: its requests are found by its id alone
    if tx.run(draft_table.delete().where(draft_table.c.id == draft_id, draft_table.c.owner == owner)).rowcount:
        inbox.captured.delete_of(tx, f"{inbox.captured.OF_DRAFT}{draft_id}")


def of_owner(tx: Transaction, owner: str) -> list[DraftSummary]:
    """List an owner's drafts, newest first."""
    rows = tx.run(
        select(draft_table.c.id, draft_table.c.connector, draft_table.c.updated_at)
        .where(draft_table.c.owner == owner, draft_table.c.updated_at > tx.now - LIFETIME)
        .order_by(draft_table.c.updated_at.desc())
    )
    return [DraftSummary(row.id, row.connector, row.updated_at) for row in rows]


def sweep(tx: Transaction) -> None:
    """Delete drafts older than a day and what they captured, whether or not anybody begins another."""
    tx.run(draft_table.delete().where(draft_table.c.updated_at <= tx.now - LIFETIME))
    inbox.captured.sweep_drafts(tx)


def stored_of_owners(tx: Transaction, owners: Collection[str]) -> list[StoredDraft]:
    """List all drafts of some owners with their decrypted text; a quota keeps them few."""
    rows = tx.run(
        select(draft_table.c.id, draft_table.c.owner, draft_table.c.content).where(
            draft_table.c.owner.in_(sorted(owners))
        )
    )
    return [StoredDraft(row.id, row.owner, tx.vault.decrypt(row.content)) for row in rows]
