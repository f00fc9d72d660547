"""The host's settings, read from the environment with the prefix `CONNECTORS_`.

Owns their defaults, bounds and what is derived from them; a connector's own settings have its own prefix, and are read
by `connectors.sync.tills`.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

from platformdirs import user_data_path
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.domain.plain_http import in_the_clear
from connectors.domain.quotas import MIB, Quotas
from connectors.store.errors import StoreError
from connectors.store.vault import KeyFile, Vault

_USUAL = Quotas()
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """The host's settings; seconds where they are times. `docs/operating` explains each to operators."""

    model_config = SettingsConfigDict(
        env_prefix="CONNECTORS_",
        env_ignore_empty=True,  # an empty variable is one that is not set: never an empty password
        extra="ignore",
        hide_input_in_errors=True,
        validate_default=True,
    )

    database_url: str = ""
    """As SQLAlchemy takes it, with the driver; a file in the user's data folder where it is not set."""
    sevenstamp_url: str | None = None
    allow_http: bool = False
    secret_key: SecretStr | None = None
    secret_keys_old: SecretStr | None = None
    """Former secret keys, one a line, while `keys rotate` encrypts anew."""
    public_url: str = ""
    """Where the world reaches this host, without a slash at its end."""
    operator_password: SecretStr | None = None
    trusted_proxies: str = ""
    """Networks or addresses between spaces or commas; `proxies` has them parsed."""
    smtp_url: SecretStr | None = None
    relay_hosts: str = ""
    """Hosts of the operator's own network that events may be posted to, between spaces or commas."""
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
    max_subscriptions: Annotated[int, Field(ge=1, le=10_000)] = _USUAL.subscriptions
    max_tokens: Annotated[int, Field(ge=1, le=10_000)] = _USUAL.tokens
    api_calls_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = _USUAL.api_calls_a_minute
    relayed_events: Annotated[int, Field(ge=1, le=10_000_000)] = _USUAL.relayed
    events_per_minute: Annotated[int, Field(ge=1, le=10_000_000)] = _USUAL.events_a_minute
    hook_mib_per_day: Annotated[int, Field(ge=1, le=1_000_000)] = _USUAL.hook_bytes_a_day // MIB
    max_tills_per_business: Annotated[int, Field(ge=1, le=100_000)] = _USUAL.tills
    max_drafts: Annotated[int, Field(ge=1, le=10_000)] = _USUAL.drafts
    captured_requests: Annotated[int, Field(ge=1, le=1000)] = _USUAL.captured
    captured_mib: Annotated[int, Field(ge=1, le=1000)] = _USUAL.captured_bytes // MIB
    kept_requests: Annotated[int, Field(ge=1, le=1_000_000)] = _USUAL.unread
    kept_mib: Annotated[int, Field(ge=1, le=100_000)] = _USUAL.unread_bytes // MIB
    metrics_token: SecretStr | None = None
    traces_url: str | None = None
    worker_jobs: Annotated[int, Field(ge=1, le=10_000)] = 100
    dead_after_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    keep_bodies_days: Annotated[int, Field(ge=1, le=3650)] = 30
    keep_journal_days: Annotated[int, Field(ge=7, le=3650)] = 400
    security_log_days: Annotated[int, Field(ge=1, le=3650)] = 400

    @field_validator("database_url")
    @classmethod
    def _default_database(cls, url: str) -> str:
        """Name the default file, and the driver where an address of PostgreSQL names none."""
        if url and not url.startswith(("sqlite:///", "postgresql")):
            raise ValueError("an address like sqlite:////var/lib/connectors.db or postgresql://…")
        if not url:
            return f"sqlite:///{user_data_path('7stamp-connectors', appauthor=False) / 'connectors.db'}"
        return url.replace("postgresql://", "postgresql+psycopg://", 1)

    @field_validator("sevenstamp_url", "traces_url")
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
        """Refuse at the start what `proxies` could not parse later."""
        _parse_networks(text)
        return text

    @field_validator("operator_password")
    @classmethod
    def _long_enough(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and not 10 <= len(password.get_secret_value()) <= 1000:
            raise ValueError("10 to 1,000 characters: it opens every cafe's connection")
        return password

    @field_validator("metrics_token")
    @classmethod
    def _long_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < 16:
            raise ValueError("16 characters or more")
        return token

    @field_validator("smtp_url")
    @classmethod
    def _mail_address(cls, url: SecretStr | None) -> SecretStr | None:
        """Refuse at the start an address by which no email could be sent later."""
        if url is None:
            return None
        parts = urlsplit(url.get_secret_value())
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("an address that begins with smtps:// and names a server")
        try:
            _ = parts.port  # parsed when it is asked for
        except ValueError:
            raise ValueError("a port is a number from 1 to 65535") from None
        # most servers' user name is the sender's address; where it is not, `from=` says who writes
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
            subscriptions=self.max_subscriptions,
            tokens=self.max_tokens,
            api_calls_a_minute=self.api_calls_per_minute,
            relayed=self.relayed_events,
            events_a_minute=self.events_per_minute,
            hook_bytes_a_day=self.hook_mib_per_day * MIB,
        )

    @property
    def proxies(self) -> tuple[_Network, ...]:
        """The networks whose forwarded headers are believed."""
        return _parse_networks(self.trusted_proxies)

    @property
    def database_file(self) -> Path | None:
        """The file of an embedded database; `None` for a database server."""
        scheme, separator, path = self.database_url.partition(":///")
        return Path(path) if separator and scheme.startswith("sqlite") else None

    def vault(self) -> Vault:
        """Return the vault of this database: from the variable, or from the key file beside it. Raises `StoreError`."""
        file = self.database_file
        if file is not None:
            _make_private(file)
        if self.secret_key is not None:
            return self._configured_vault(self.secret_key.get_secret_value(), file)
        if file is None:
            raise StoreError("CONNECTORS_SECRET_KEY is not set: a database server needs it, the same on every machine")
        return _vault_beside(file)

    def _configured_vault(self, secret: str, file: Path | None) -> Vault:
        """Return the vault of the keys that the environment holds. Raises `StoreError`."""
        former = self.secret_keys_old.get_secret_value().splitlines() if self.secret_keys_old else []
        vault = Vault(secret, *(line.strip() for line in former if line.strip()))
        # an existing database goes on with a weak key and warns; a new one, still an empty file, does not begin so
        if file is not None and not file.stat().st_size:
            vault.newest.refuse_weak()
        return vault


def _parse_networks(text: str) -> tuple[_Network, ...]:
    """Return the networks of a text that lists them. Raises `ValueError`."""
    return tuple(ipaddress.ip_network(network, strict=False) for network in text.replace(",", " ").split())


def _vault_beside(file: Path) -> Vault:
    """Return the vault of the key file beside a database, which is made for an empty one. Raises `StoreError`."""
    key = file.with_name(file.name + ".key")
    # a new key beside an old database would only hide that the right one is lost
    if file.stat().st_size and not key.exists():
        raise StoreError(
            f"the key file {key.name} is missing beside the database: put it back, or set CONNECTORS_SECRET_KEY; "
            "without it what the database holds cannot be read"
        )
    return Vault(file=KeyFile(key))


def _make_private(file: Path) -> None:
    """Make the database's file where there is none: what is in it concerns nobody else on this machine.

    Raises `StoreError`.
    """
    # Before SQLite would make it, with the rights that the umask leaves; its -wal and -shm take those of the file.
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the database cannot be kept at {file}: {error.strerror}") from None
