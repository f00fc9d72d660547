"""What the environment says, prefix `CONNECTORS_`; a connector's own settings have its own prefix."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.domain.addresses import in_the_clear
from connectors.domain.quotas import MIB, Quotas
from connectors.store.errors import StoreError
from connectors.store.vault import KeyFile, Vault

_USUAL = Quotas()


class Settings(BaseSettings):
    """The host's settings; seconds where they are times."""

    model_config = SettingsConfigDict(
        env_prefix="CONNECTORS_",
        env_ignore_empty=True,  # an empty variable is one that is not set: never an empty password
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
    )

    database_url: str = ""
    sevenstamp_url: str | None = None
    allow_http: bool = False
    secret_key: SecretStr | None = None
    secret_keys_old: SecretStr | None = None
    """Former secret keys, one a line, while `keys rotate` encrypts anew."""
    public_url: str = ""
    operator_password: SecretStr | None = None
    trusted_proxies: str = ""
    smtp_url: SecretStr | None = None
    settle_seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    call_deadline_seconds: Annotated[float, Field(gt=0, le=300)] = 15.0
    plugin_seconds: Annotated[float, Field(gt=0, le=60)] = 2.0
    plugin_workers: Annotated[int, Field(ge=0, le=64)] = 2  # 0: in the host itself, without limits
    header_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    body_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 4000
    max_connections_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    unfinished_requests_mib: Annotated[int, Field(ge=1, le=65_536)] = 32
    hooks_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = _USUAL.hooks_a_minute
    hook_mib_per_day: Annotated[int, Field(ge=1, le=1_000_000)] = _USUAL.hook_bytes_a_day // MIB
    max_tills_per_business: Annotated[int, Field(ge=1, le=100_000)] = _USUAL.tills
    max_drafts: Annotated[int, Field(ge=1, le=10_000)] = _USUAL.drafts
    captured_requests: Annotated[int, Field(ge=1, le=1000)] = _USUAL.captured
    captured_mib: Annotated[int, Field(ge=1, le=1000)] = _USUAL.captured_bytes // MIB
    kept_requests: Annotated[int, Field(ge=1, le=1_000_000)] = _USUAL.unread
    kept_mib: Annotated[int, Field(ge=1, le=100_000)] = _USUAL.unread_bytes // MIB
    keep_bodies_days: Annotated[int, Field(ge=1, le=3650)] = 30
    keep_journal_days: Annotated[int, Field(ge=7, le=3650)] = 400
    security_log_days: Annotated[int, Field(ge=1, le=3650)] = 400

    @field_validator("database_url")
    @classmethod
    def _default_database(cls, url: str) -> str:
        if url and not url.startswith(("sqlite:///", "postgresql")):
            raise ValueError("an address like sqlite:////var/lib/connectors.db or postgresql://…")
        if not url:
            return f"sqlite:///{user_data_path('7stamp-connectors', appauthor=False) / 'connectors.db'}"
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    @field_validator("sevenstamp_url")
    @classmethod
    def _web_address(cls, url: str | None) -> str | None:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("an address that begins with https://")
        return url or None

    @field_validator("public_url")
    @classmethod
    def _public_address(cls, url: str) -> str:
        if url and not url.startswith(("https://", "http://")):
            raise ValueError("an address that begins with https://")
        return url.rstrip("/")

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, text: str) -> str:
        for one in text.replace(",", " ").split():
            ipaddress.ip_network(one, strict=False)
        return text

    @field_validator("operator_password")
    @classmethod
    def _long_enough(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and not 10 <= len(password.get_secret_value()) <= 1000:
            raise ValueError("10 to 1,000 characters: it opens every cafe's connection")
        return password

    @field_validator("smtp_url")
    @classmethod
    def _mail_address(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("an address that begins with smtps:// and names a server")
        try:
            _ = parts.port
        except ValueError:
            raise ValueError("a port is a number from 1 to 65535") from None
        sender = parse_qs(parts.query).get("from", [unquote(parts.username or "")])[0]
        if "@" not in sender:
            raise ValueError("say who writes: an email address as its from= part")
        return url

    @property
    def without_sevenstamp(self) -> str | None:
        """Why nothing can be asked of 7stamp as things are set; `None` where it can."""
        if not self.sevenstamp_url:
            return (
                "CONNECTORS_SEVENSTAMP_URL is not set: set it to the address of the 7stamp API "
                "(to try things out: `connectors sandbox sevenstamp --port 8702` and its address)"
            )
        if in_the_clear(self.sevenstamp_url) and not self.allow_http:
            return (
                "CONNECTORS_SEVENSTAMP_URL begins with http://, so keys and customers could be read on the way: "
                "use https://, or set CONNECTORS_ALLOW_HTTP=1 where the whole way is your own"
            )
        return None

    @property
    def quotas(self) -> Quotas:
        """How much one business, connection or hook address may use."""
        return Quotas(
            tills=self.max_tills_per_business,
            drafts=self.max_drafts,
            captured=self.captured_requests,
            captured_bytes=self.captured_mib * MIB,
            unread=self.kept_requests,
            unread_bytes=self.kept_mib * MIB,
            hooks_a_minute=self.hooks_per_minute,
            hook_bytes_a_day=self.hook_mib_per_day * MIB,
        )

    @property
    def proxies(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        """The networks whose forwarded headers are believed."""
        return tuple(ipaddress.ip_network(one, strict=False) for one in self.trusted_proxies.replace(",", " ").split())

    @property
    def database_file(self) -> Path | None:
        """The file of an embedded database."""
        scheme, found, path = self.database_url.partition(":///")
        return Path(path) if found and scheme.startswith("sqlite") else None

    def vault(self) -> Vault:
        """The vault of this database: from the variable, or from the key file beside it. Raises `StoreError`."""
        file = self.database_file
        if file is not None:
            _make_private(file)
        if self.secret_key is not None:
            former = self.secret_keys_old.get_secret_value().splitlines() if self.secret_keys_old else []
            vault = Vault(self.secret_key.get_secret_value(), *(one.strip() for one in former if one.strip()))
            if file is not None and not file.stat().st_size:
                vault.newest.refuse_weak()
            return vault
        if file is None:
            raise StoreError("CONNECTORS_SECRET_KEY is not set: a database server needs it, the same on every machine")
        key = file.with_name(file.name + ".key")
        if file.stat().st_size and not key.exists():
            raise StoreError(
                f"the key file {key.name} is missing beside the database: put it back, or set CONNECTORS_SECRET_KEY; "
                "without it what the database holds cannot be read"
            )
        return Vault(file=KeyFile(key))


def _make_private(file: Path) -> None:
    """Make the database's file where there is none: what is in it concerns nobody else on this machine."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the database cannot be kept at {file}: {error.strerror}") from None
