"""The settings of a Serve connection, and those the operator makes once for all of them.

Owns their names, form texts and checks; calling Serve with them is `client`'s.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connector_sdk.forms import FIRST

_LONGEST_SECRET = 500


class ServeSettings(BaseModel):
    """A connection's settings; the fields make its form."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    access_token: Annotated[SecretStr, Field(title="Access token")]
    signing_secret: Annotated[
        SecretStr | None,
        Field(
            title="Signing secret",
            description="Shown by Serve when the webhook is made; without it nothing that Serve sends is believed.",
            json_schema_extra=dict(FIRST),
        ),
    ] = None
    loyalty_codes: Annotated[
        bool,
        Field(title="Loyalty codes", description="The guests' loyalty codes in Serve are their 7stamp numbers."),
    ] = False

    @field_validator("access_token", "signing_secret")
    @classmethod
    def _fits_a_header(cls, secret: SecretStr | None) -> SecretStr | None:
        # both are sent in or compared with a header, where a line end or a space would end it
        if secret is not None and not _is_header_text(secret.get_secret_value()):
            raise ValueError("it has letters, digits and signs only: paste it once more")
        return secret


def _is_header_text(text: str) -> bool:
    return 1 <= len(text) <= _LONGEST_SECRET and text.isascii() and text.isprintable() and " " not in text


class ServeApp(BaseSettings):
    """The operator's settings: `SERVE_API_URL`, without which there is no Serve to ask."""

    model_config = SettingsConfigDict(env_prefix="SERVE_", extra="ignore", env_ignore_empty=True)

    api_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
