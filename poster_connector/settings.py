"""The settings of a Poster connection, and those the operator makes once for all of them.

Owns their names, form texts and checks; calling Poster with them is `client`'s and `oauth`'s.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

API_URL = "https://joinposter.com/api"


def is_token(text: str) -> bool:
    """Say whether a text looks like a token; the number before the colon is the account's identity."""
    number, colon, secret = text.partition(":")
    return number.isascii() and number.isdigit() and bool(colon) and secret.isalnum()


class PosterSettings(BaseModel):
    """A connection's settings; the fields make its form."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    access_token: Annotated[
        SecretStr | None,
        Field(
            title="Access token",
            description="In Poster's admin: Access → Integrations → Personal integration. Looks like 861052:0239….",
        ),
    ] = None
    redeem_codes: Annotated[
        bool,
        Field(title="Redeem codes", description="A voucher's redeem code in the order's comment uses the voucher."),
    ] = True
    categories: Annotated[
        bool, Field(title="Categories", description="Read which category a product is in, for a rule by category.")
    ] = False
    card_numbers: Annotated[
        bool,
        Field(title="Card numbers", description="The customers' card numbers in Poster are their 7stamp numbers."),
    ] = False

    show_progress: Annotated[
        bool,
        Field(
            title="Progress in the comment",
            description="The customer's comment in Poster shows stamps and vouchers in a line of its own: ★ 4/8.",
        ),
    ] = False

    @field_validator("access_token")
    @classmethod
    def _looks_right(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not is_token(token.get_secret_value()):
            raise ValueError("a token is the account number, a colon and a secret, as in 861052:0239…")
        return token


class PosterApp(BaseSettings):
    """The operator's settings: `POSTER_API_URL`, `POSTER_APPLICATION_ID`, `POSTER_APPLICATION_SECRET`."""

    model_config = SettingsConfigDict(env_prefix="POSTER_", extra="ignore")

    api_url: str = API_URL
    application_id: str | None = None
    application_secret: SecretStr | None = None

    def secret(self) -> str | None:
        """Return the application's secret, which signs hooks; `None` where the operator has set none."""
        return self.application_secret.get_secret_value() if self.application_secret else None

    def origin_of(self, account: str) -> str:
        """Return the origin of an account's own API; a sandbox plays all accounts at its one address."""
        if self.api_url == API_URL:
            return f"https://{account}.joinposter.com"
        # an address of the operator: it is followed without a look at the account
        parts = urlsplit(self.api_url)
        return f"{parts.scheme}://{parts.netloc}"
