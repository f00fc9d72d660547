"""What a cafe gives for its Serve connection, and what the operator sets once for all of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connector_sdk.connector import FIRST


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
        given = secret.get_secret_value() if secret is not None else "none"
        if not (1 <= len(given) <= 500 and given.isascii() and given.isprintable() and " " not in given):
            raise ValueError("it has letters, digits and signs only: paste it once more")
        return secret


class ServeApp(BaseSettings):
    """The operator's: `SERVE_API_URL`, without which there is no Serve to ask."""

    model_config = SettingsConfigDict(env_prefix="SERVE_", extra="ignore", env_ignore_empty=True)

    api_url: Annotated[str, Field(pattern=r"^https?://[^\s/]+")] | None = None
