"""Encryption of what the database may not show, and the keyed hash by which it is looked up.

Owns the keys: each is derived from a secret of its own, and several may be known at once, so that they can be changed.
Which one new values are encrypted with, and the key of all hashes, stand in the database: `connectors.store.keyring`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import math
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connectors.store.errors import StoreError, WrongKey

CANARY = "the canary sings"
MAKE_ONE = "make one with `openssl rand -base64 32`"

_SHORTEST = 16  # nothing shorter was ever accepted, so no database has such a key
_SHORTEST_NEW = 24
_FEWEST_BITS = 80.0


def weakness(secret: str) -> str | None:
    """Why a secret is too easy to guess, as the end of a sentence; `None` where it is not."""
    if len(secret) < _SHORTEST_NEW:
        return f"is too short ({len(secret)} characters, at least {_SHORTEST_NEW} are needed)"
    if _bits(secret) < _FEWEST_BITS:
        return "is easy to guess: its characters repeat or follow each other"
    return None


def _bits(secret: str) -> float:
    """What a secret's characters are worth at most: those that repeat or count up and down are worth nothing."""
    surprising = [char for at, char in enumerate(secret) if not _expected(secret, at)]
    return len(surprising) * math.log2(max(1, len(set(surprising))))


def _expected(secret: str, at: int) -> bool:
    """Whether the two characters before say this one: `aaa`, `abc`, `321`, or three that were there already."""
    if at < 2:
        return False
    before, last, this = (ord(char) for char in secret[at - 2 : at + 1])
    return (this - last == last - before and abs(this - last) <= 1) or secret[at - 2 : at + 1] in secret[:at]


def _derive(secret: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"7stamp connectors " + purpose).derive(secret.encode())


@dataclass(frozen=True, slots=True)
class Key:
    """One key; `hash_key` is what hashes were keyed with before they had a key of their own."""

    id: str
    fernet: Fernet = field(repr=False)
    hash_key: bytes = field(repr=False)
    weakness: str | None = None

    @classmethod
    def of(cls, secret: str) -> Key:
        """Raises `StoreError` for a secret that no database can have."""
        if len(secret) < _SHORTEST:
            raise StoreError(f"the secret key {weakness(secret)}; {MAKE_ONE} and set CONNECTORS_SECRET_KEY to it")
        return cls(
            _derive(secret, b"key id").hex()[:8],
            Fernet(base64.urlsafe_b64encode(_derive(secret, b"encrypt"))),
            _derive(secret, b"hash"),
            weakness(secret),
        )

    def refuse_weak(self) -> None:
        """See that nothing new is encrypted with a weak key. Raises `StoreError`."""
        if self.weakness is not None:
            raise StoreError(f"the secret key {self.weakness}; {MAKE_ONE} and set CONNECTORS_SECRET_KEY to it")


class KeyFile:
    """A file of secrets that only its owner can read (0600), the newest in its first line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[str, ...]:
        """The secrets, newest first. Raises `StoreError`."""
        for _ in range(20):  # another process may be about to write the first
            try:
                lines = self.path.read_text().splitlines()
            except OSError as error:
                raise StoreError(f"the key file {self.path.name} cannot be read: {error.strerror}") from None
            if kept := tuple(line.strip() for line in lines if line.strip()):
                return kept
            time.sleep(0.05)
        raise StoreError(f"the key file {self.path.name} is empty: put back the key this database was made with")

    def read_or_make(self) -> tuple[str, ...]:
        """The same, with a first secret made where there is no file."""
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self.read()
        secret = secrets.token_urlsafe(48)
        _write(handle, [secret])
        _sync_folder(self.path.parent)
        return (secret,)

    def add(self) -> str:
        """Make a secret and put it before the others; it is on disk when this returns. Raises `StoreError`."""
        secret = secrets.token_urlsafe(48)
        self._replace([secret, *self.read()])
        return secret

    def keep_newest(self) -> None:
        """Drop all secrets but the newest. Raises `StoreError`."""
        newest, *former = self.read()
        if former:
            self._replace([newest])

    def _replace(self, lines: Sequence[str]) -> None:
        """Put other secrets into the file at once: whenever the process dies, it holds the old or the new ones."""
        path = self.path.resolve()  # a link stays a link
        beside = path.with_name(path.name + ".new")
        try:
            with contextlib.suppress(FileNotFoundError):  # of a process that died; nothing was encrypted with it
                beside.unlink()
            _write(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), lines)
            beside.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise StoreError(
                f"the key file {self.path.name} cannot be written: {error.strerror}; "
                "see that its folder can be written, and run the command again"
            ) from None


def _write(handle: int, lines: Sequence[str]) -> None:
    with os.fdopen(handle, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """See that a file's new name is on disk, too, where folders can be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Vault:
    """Encrypts with one key, decrypts with every key it knows; each ciphertext names its key.

    `secrets` are the newest first. With a `file` they are read again when a key is not known: another process may have
    made it.
    """

    def __init__(self, *secrets: str, file: KeyFile | None = None) -> None:
        self.file = file
        self._keys: dict[str, Key] = {}
        self._learn(secrets or (file.read_or_make() if file else ()))
        if not self._keys:
            raise StoreError(f"there is no secret key: {MAKE_ONE} and set CONNECTORS_SECRET_KEY to it")
        self._current = self.newest
        self._hash_key: bytes | None = None

    def _learn(self, secrets: Sequence[str]) -> None:
        """Know these keys, too; those that are known stay, for values that are in memory."""
        found = [Key.of(secret) for secret in secrets]
        self._keys = {key.id: key for key in found} | {
            key.id: key for key in self._keys.values() if key.id not in {one.id for one in found}
        }

    @property
    def newest(self) -> Key:
        """The key that new values should be encrypted with; they are once the database says so."""
        return next(iter(self._keys.values()))

    @property
    def current(self) -> Key:
        """The key that new values are encrypted with."""
        return self._current

    @property
    def several(self) -> bool:
        """Whether former keys are known, too."""
        return len(self._keys) > 1

    @property
    def key_id(self) -> str:
        return self._current.id

    def key(self, key_id: str) -> Key:
        """The key of that id. Raises `WrongKey`."""
        if key_id not in self._keys and self.file is not None:
            with contextlib.suppress(StoreError):
                self.read_file()
        try:
            return self._keys[key_id]
        except KeyError:
            raise WrongKey(key_id) from None

    def read_file(self) -> None:
        """Know what another process may have written into the key file. Raises `StoreError`."""
        if self.file is not None:
            self._learn(self.file.read())

    def use(self, key_id: str) -> None:
        """Encrypt with that key from now on. Raises `WrongKey`."""
        self._current = self.key(key_id)

    def make_key(self) -> Key:
        """Make a newer key in the key file. Raises `StoreError`, also where the keys are not in a file."""
        if self.file is None:
            raise StoreError("keys that an environment variable holds are made by hand")
        self._learn([self.file.add()])
        return self.newest

    @property
    def hash_key(self) -> bytes:
        """What hashes are keyed with. Raises `StoreError` before a database has said."""
        if self._hash_key is None:
            raise StoreError("hashes are keyed by the database: open it first")
        return self._hash_key

    def hash_with(self, hash_key: bytes) -> None:
        """Key all hashes with what the database holds for that."""
        self._hash_key = hash_key

    def encrypt(self, text: str) -> str:
        key = self._current
        return f"{key.id}:{key.fernet.encrypt(text.encode()).decode()}"

    def decrypt(self, kept: str) -> str:
        """Raises `WrongKey`."""
        key_id, _, token = kept.partition(":")
        key = self.key(key_id)
        try:
            return key.fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise WrongKey(key_id) from None

    def hash(self, *parts: str) -> str:
        """A keyed hash (32 hex digits) of some text, for look-up; parts cannot run into each other."""
        joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self.hash_key, joined, hashlib.sha256).hexdigest()[:32]
