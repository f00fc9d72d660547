"""The settings of a Square connection, and those the operator makes once for all of them.

Owns their names, form texts and checks; calling Square with them is `client`'s and `oauth`'s.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

API_URL = "https://connect.squareup.com"
SANDBOX_URL = "https://connect.squareupsandbox.com"
_LONGEST_TOKEN = 1024


class SquareSettings(BaseModel):
    """A connection's settings; the fields make its form."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    access_token: Annotated[
        SecretStr | None,
        Field(title="Access token", description="Only for an application of your own: its production access token."),
    ] = None
    redeem_codes: Annotated[
        bool,
        Field(
            title="Redeem codes",
            description="A voucher's redeem code in an item's note, the ticket's name or a discount uses the voucher.",
        ),
    ] = True
    categories: Annotated[
        bool, Field(title="Categories", description="Read which category an item is in, for a rule by category.")
    ] = False
    reference_ids: Annotated[
        bool,
        Field(title="Reference ids", description="The customers' reference ids in Square are their 7stamp numbers."),
    ] = False

    @field_validator("access_token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        # it is sent in a header, which a line end or a space would end
        if token is not None and not _is_header_text(token.get_secret_value()):
            raise ValueError("it has letters, digits and signs only: paste it once more")
        return token


def _is_header_text(text: str) -> bool:
    return 1 <= len(text) <= _LONGEST_TOKEN and text.isascii() and text.isprintable() and " " not in text


class SquareApp(BaseSettings):
    """The operator's settings.

    `SQUARE_APPLICATION_ID` and, for the code flow, `SQUARE_APPLICATION_SECRET`; without the secret consent goes by
    PKCE. `SQUARE_SIGNATURE_KEY` is the webhook subscription's. `SQUARE_API_URL` is Square's own unless it is set:
    `https://connect.squareupsandbox.com` is Square's sandbox.
    """

    model_config = SettingsConfigDict(env_prefix="SQUARE_", extra="ignore", env_ignore_empty=True)

    api_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] = API_URL
    application_id: str | None = None
    application_secret: SecretStr | None = None
    signature_key: SecretStr | None = None

    @property
    def origin(self) -> str:
        """Where Square is, without a slash at the end."""
        return self.api_url.rstrip("/")

    @property
    def is_squares_sandbox(self) -> bool:
        """Whether it is Square's own sandbox, whose consent page takes no `session`."""
        return urlsplit(self.api_url).netloc == urlsplit(SANDBOX_URL).netloc
