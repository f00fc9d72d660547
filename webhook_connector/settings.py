"""The settings of any till: who it is, how its requests prove themselves, and where a sale's fields are in them.

Owns that these settings make sense together; reading a request by them is `mapping`'s.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connector_sdk.errors import NotConfigured
from connector_sdk.expressions import Budget, compile_path
from connector_sdk.forms import CHOSEN, COUNTRY, CURRENCY, FIRST, TAUGHT, ZONE, needed_with
from connector_sdk.signatures import StandardWebhooks
from webhook_connector.time_patterns import is_pattern

_SHORTEST_SECRET = 8
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,60}")


class Proof(StrEnum):
    """How a request shows that it comes from the till."""

    hmac = "hmac"
    """A header holds the HMAC-SHA256 of the body."""
    standard = "standard"
    """Three headers as Standard Webhooks has them, with the time of signing."""
    basic = "basic"
    """A user and a password, which do not depend on the body."""
    header = "header"
    """A header holds the secret itself."""
    address = "address"
    """Nothing but the address, which only the till should know."""


_PROOF_WORDS = {
    "hmac": "A signature in a header (HMAC-SHA256)",
    "standard": "Standard Webhooks",
    "basic": "A user and a password (basic authentication)",
    "header": "A secret in a header",
    "address": "Only the address, which nobody else knows",
}


class Encoding(StrEnum):
    """How a signature's bytes are written."""

    hex = "hex"
    """Two letters or digits for each byte, in small or large letters."""
    base64 = "base64"
    """Four signs for three bytes."""


class DecimalSign(StrEnum):
    """Which sign stands before cents; the other one may stand between thousands."""

    dot = "dot"
    """12.50 and 1,234.50."""
    comma = "comma"
    """12,50 and 1.234,50."""


class Units(StrEnum):
    """The unit in which amounts are written."""

    major = "major"
    """12.50 is written 12.50."""
    minor = "minor"
    """12.50 is written 1250: whole numbers of the currency's smallest unit."""


class Dates(StrEnum):
    """How times are written."""

    iso = "iso"
    """As ISO 8601 has it, with or without a zone."""
    unix = "unix"
    """In seconds since 1970."""
    unix_ms = "unix_ms"
    """In milliseconds since 1970."""
    pattern = "pattern"
    """By a pattern of `strptime`, which another setting says."""


_ENCODING_WORDS = {"hex": "Letters a to f and digits (hex)", "base64": "Letters, digits, + and / (base64)"}
SIGN_WORDS: Mapping[str, str] = {"dot": "12.50", "comma": "12,50"}
UNIT_WORDS: Mapping[str, str] = {"major": "12.50 is written 12.50", "minor": "12.50 is written 1250"}
DATE_WORDS: Mapping[str, str] = {
    "iso": "2026-11-20T08:15:30Z",
    "unix": "1763622930 (seconds)",
    "unix_ms": "1763622930000 (milliseconds)",
    "pattern": "By the pattern below",
}


class WebhookApp(BaseSettings):
    """The operator's settings for all tills of this kind, prefix `WEBHOOK_`: how much following paths may cost."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOK_", env_ignore_empty=True, extra="ignore")

    path_budget: Annotated[int, Field(ge=1000, le=10_000_000)] = Budget.USUAL


def _path(title: str, description: str = "", words: Mapping[str, str] | None = None) -> object:
    """Describe a field that is taught by a request; `words` name the choices of one that has some."""
    return Field(title=title, description=description, json_schema_extra={**TAUGHT, "words": dict(words or {})})


class WebhookSettings(BaseModel):
    """A connection's settings; the fields make its form. What begins with `map_` is a path into what the till sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    till_name: Annotated[str, Field(title="Name of this till", min_length=1, max_length=120)]
    currency: Annotated[str, Field(title="Currency", pattern="^[A-Z]{3}$", json_schema_extra=dict(CURRENCY))]
    zone: Annotated[str, Field(title="Time zone", description="Where the till stands.", json_schema_extra=dict(ZONE))]
    country: Annotated[
        str | None,
        Field(
            title="Country",
            description="Phones without a country code are read as from there.",
            pattern="^[A-Z]{2}$",
            json_schema_extra={**FIRST, **COUNTRY},
        ),
    ] = None
    till_id: Annotated[
        str,
        Field(
            title="Identity",
            description="Made up by us; to go on with a till that was connected before, give the one it had.",
            pattern="^[a-z0-9-]{4,64}$",
        ),
    ] = Field(default_factory=lambda: f"till-{secrets.token_hex(6)}")

    # how a request proves itself: a proof without what it needs is refused below
    proof: Annotated[
        Proof,
        Field(
            title="How we know that it is your till",
            description="What its requests show. With only the address, whoever learns it can give stamps away.",
            json_schema_extra={"words": dict(_PROOF_WORDS)},
        ),
    ]
    secret: Annotated[
        SecretStr | None,
        Field(
            title="Secret",
            description="What the till signs with or shows.",
            json_schema_extra={**FIRST, **CHOSEN, **needed_with("proof", "hmac", "standard", "basic", "header")},
        ),
    ] = None
    proof_header: Annotated[
        str,
        Field(
            title="Header",
            description="The header that holds the signature or secret, as in X-Signature.",
            json_schema_extra={**FIRST, **needed_with("proof", "hmac", "header")},
        ),
    ] = ""
    proof_encoding: Annotated[
        Encoding,
        Field(
            title="Written as",
            description="How the signature is written.",
            json_schema_extra={"words": dict(_ENCODING_WORDS), **FIRST, **needed_with("proof", "hmac")},
        ),
    ] = Encoding.hex
    proof_user: Annotated[
        str,
        Field(
            title="User",
            description="For basic authentication.",
            max_length=200,
            json_schema_extra={**FIRST, **needed_with("proof", "basic")},
        ),
    ] = ""

    # where things are in what the till sends: all paths, and all with `map_` before the name of what they lead to
    map_receipts: Annotated[str, _path("Receipts", "Where the receipts are, if one request holds several.")] = ""
    map_receipt_id: Annotated[str, _path("Receipt number", "What no two receipts share.")]
    map_version: Annotated[
        str,
        _path(
            "What grows with each change",
            "A number or time that grows with each change; without one, order cannot be told.",
        ),
    ] = ""
    map_status: Annotated[str, _path("Status", "Without one, whatever is sent is closed.")] = ""
    map_closed_at: Annotated[str, _path("Closed at", "When it was paid and closed.")]
    map_paid: Annotated[str, _path("Paid", "After discounts; a list is added up.")]
    map_tip: Annotated[str, _path("Tip", "If the sum paid holds tips: they are taken off.")] = ""
    map_refunded: Annotated[str, _path("Refunded", "How much was given back; a list is added up.")] = ""
    map_currency: Annotated[str, _path("Currency of the receipt", "Another one than the till's is refused.")] = ""
    map_phone: Annotated[str, _path("Customer's phone")] = ""
    map_email: Annotated[str, _path("Customer's email")] = ""
    map_number: Annotated[str, _path("Customer's 7stamp number", "Six digits.")] = ""
    map_codes: Annotated[str, _path("Redeem codes", "Vouchers used on the receipt: a text or a list.")] = ""
    map_location: Annotated[str, _path("Place", "Which of several places sold it.")] = ""
    map_lines: Annotated[str, _path("Lines", "What was bought, for rules by item.")] = ""
    map_product: Annotated[str, _path("Product", "Within a line.")] = ""
    map_category: Annotated[str, _path("Category", "Within a line.")] = ""
    map_quantity: Annotated[str, _path("Quantity", "Within a line; without one, it is 1.")] = ""
    map_returned: Annotated[str, _path("Returned", "Within a line: how many of it came back.")] = ""

    # how the texts at those paths are meant
    closed_statuses: Annotated[str, _path("Closed means", "The statuses of a paid receipt, with commas between.")] = ""
    open_statuses: Annotated[
        str,
        _path("Open means", "The statuses of one that is not paid yet; a word in no list is kept for you to explain."),
    ] = ""
    refunded_statuses: Annotated[
        str, _path("Refunded means", "The statuses of one whose money was all given back.")
    ] = ""
    voided_statuses: Annotated[str, _path("Voided means", "The statuses of one that counts as never sold.")] = ""
    decimal_sign: Annotated[DecimalSign, _path("Decimal sign", words=SIGN_WORDS)] = DecimalSign.dot
    units: Annotated[Units, _path("How amounts are written", words=UNIT_WORDS)] = Units.major
    dates: Annotated[Dates, _path("Times", words=DATE_WORDS)] = Dates.iso
    date_pattern: Annotated[str, _path("Pattern of times", "As in %d.%m.%Y %H:%M.")] = ""
    dates_zone: Annotated[str, _path("Zone of times", "For times written without one; the till's, if empty.")] = ""

    @field_validator("currency", "country", mode="before")
    @classmethod
    def _in_capitals(cls, code: object) -> object:
        return code.strip().upper() if isinstance(code, str) else code

    @field_validator("zone", "dates_zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            if zone:
                ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError("this is no time zone: write it as Europe/Madrid") from None
        return zone

    @field_validator(
        *(
            f"map_{name}"
            for name in (
                "receipts receipt_id version status closed_at paid tip refunded currency phone email number codes "
                "location lines product category quantity returned"
            ).split()
        )
    )
    @classmethod
    def _is_a_path(cls, text: str) -> str:
        # an empty one leads nowhere, and is a setting that was not made
        if text.strip():
            compile_path(text.strip())
        return text.strip()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        # everything at once: whoever fills in a form need not send it for each thing that is missing
        if wrong := [*self._missing_paths(), *self._missing_for_proof()]:
            raise ValueError("\n".join(wrong))
        return self

    def _missing_paths(self) -> Iterator[str]:
        """Yield what is missing so that a sale can be read, and somebody given its stamps."""
        for field in ("receipt_id", "closed_at", "paid"):
            if not getattr(self, f"map_{field}"):
                yield f"map_{field}: this is needed: without it no receipt can be read"
        if not (self.map_phone or self.map_email or self.map_number):
            yield "map_phone: say where the customer's phone, email or number is: stamps need somebody"
        if self.map_lines and not self.map_product:
            yield "map_product: say where a line's product is"
        if self.dates is Dates.pattern and not is_pattern(self.date_pattern):
            yield "date_pattern: this is no pattern of times: write it as %d.%m.%Y %H:%M"

    def _missing_for_proof(self) -> Iterator[str]:
        """Yield what the proof lacks, so that every request would be refused."""
        if self.proof is Proof.address:
            return
        secret = self.secret.get_secret_value() if self.secret is not None else ""
        if len(secret) < _SHORTEST_SECRET:
            yield "secret: this proof needs a secret of at least 8 signs"
        elif self.proof is Proof.standard and not _is_standard_secret(secret):
            yield "secret: it is base64, perhaps with whsec_ before it"
        if self.proof in (Proof.hmac, Proof.header) and not _HEADER.fullmatch(self.proof_header):
            yield "proof_header: say which header holds it, as in X-Signature"
        # a colon ends the user in what is sent, so that one within it would move into the password
        if self.proof is Proof.basic and (not self.proof_user or ":" in self.proof_user):
            yield "proof_user: say which user the till signs in as; it has no colon"

    def statuses(self, name: str) -> frozenset[str]:
        """Return the words of a list such as `closed_statuses`, in small letters."""
        return frozenset(word.strip().lower() for word in getattr(self, name).split(",") if word.strip())


def _is_standard_secret(secret: str) -> bool:
    try:
        StandardWebhooks(secret)
    except NotConfigured:
        return False
    return True
