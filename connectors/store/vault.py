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

CANARY_TEXT = "the canary sings"
"""The text that a database keeps encrypted: whoever decrypts it has the right key."""
MAKE_ONE = "make one with `openssl rand -base64 32`"
"""How to make a secret, as a part of the sentences that ask for one."""

_SHORTEST = 16  # nothing shorter was ever accepted, so no database has such a key
_SHORTEST_NEW = 24
_FEWEST_BITS = 80.0  # 2**80 guesses are more than anybody makes
_READ_ATTEMPTS, _READ_PAUSE = 20, 0.05


def weakness(secret: str) -> str | None:
    """Return why a secret is too easy to guess, as the end of a sentence; `None` where it is not."""
    if len(secret) < _SHORTEST_NEW:
        return f"is too short ({len(secret)} characters, at least {_SHORTEST_NEW} are needed)"
    if _bits(secret) < _FEWEST_BITS:
        return "is easy to guess: its characters repeat or follow each other"
    return None


def _bits(secret: str) -> float:
    """Return how many bits a secret holds at most: characters that repeat or count up and down hold none."""
    # not the entropy of how it was made, which cannot be seen: only what its characters could hold at most
    surprising = [char for at, char in enumerate(secret) if not _is_expected(secret, at)]
    return len(surprising) * math.log2(max(1, len(set(surprising))))


def _is_expected(secret: str, at: int) -> bool:
    """Return whether the two characters before tell this one: `aaa`, `abc`, `321`, or three that came before."""
    if at < 2:
        return False
    triple = secret[at - 2 : at + 1]
    first, second, third = (ord(char) for char in triple)
    in_a_row = third - second == second - first and abs(third - second) <= 1
    return in_a_row or triple in secret[:at]


def _derive(secret: str, purpose: bytes) -> bytes:
    """Return 32 bytes for one purpose: those of one purpose tell nothing of the secret or of another's."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"7stamp connectors " + purpose).derive(secret.encode())


@dataclass(frozen=True, slots=True)
class Key:
    """One key, derived from a secret."""

    id: str
    """Eight hex digits, which stand before every text that is encrypted with it."""
    fernet: Fernet = field(repr=False)
    hash_key: bytes = field(repr=False)
    """What hashes were keyed with before they had a key of their own."""
    weakness: str | None = None
    """Why the secret is too easy to guess; such a key goes on, but begins no database."""

    @classmethod
    def of(cls, secret: str) -> Key:
        """Derive a key from a secret. Raises `StoreError` for a secret that no database can have."""
        if len(secret) < _SHORTEST:
            raise StoreError(f"the secret key {weakness(secret)}; {MAKE_ONE} and set CONNECTORS_SECRET_KEY to it")
        return cls(
            _derive(secret, b"key id").hex()[:8],
            Fernet(base64.urlsafe_b64encode(_derive(secret, b"encrypt"))),
            _derive(secret, b"hash"),
            weakness(secret),
        )

    def refuse_weak(self) -> None:
        """Raise `StoreError` for a weak key: nothing new is encrypted with one."""
        if self.weakness is not None:
            raise StoreError(f"the secret key {self.weakness}; {MAKE_ONE} and set CONNECTORS_SECRET_KEY to it")


class KeyFile:
    """A file of secrets that only its owner can read (0600), the newest in its first line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[str, ...]:
        """The secrets, newest first. Raises `StoreError`."""
        # another process may have made the file and be about to write the first secret: a second is plenty
        for _ in range(_READ_ATTEMPTS):
            try:
                lines = self.path.read_text().splitlines()
            except OSError as error:
                raise StoreError(f"the key file {self.path.name} cannot be read: {error.strerror}") from None
            if secrets_read := tuple(line.strip() for line in lines if line.strip()):
                return secrets_read
            time.sleep(_READ_PAUSE)
        raise StoreError(f"the key file {self.path.name} is empty: put back the key this database was made with")

    def read_or_make(self) -> tuple[str, ...]:
        """Return the secrets, newest first, after making the file with a first one where there is none.

        Raises `StoreError` where there is a file that cannot be read.
        """
        try:  # O_EXCL: of several processes that find no file, one makes it
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self.read()
        secret = secrets.token_urlsafe(48)
        _write(handle, [secret])
        _sync_folder(self.path.parent)
        return (secret,)

    def add(self) -> str:
        """Make a secret, put it before the others and return it once it is on disk. Raises `StoreError`."""
        secret = secrets.token_urlsafe(48)
        self._replace([secret, *self.read()])
        return secret

    def keep_newest(self) -> None:
        """Drop all secrets but the newest. Raises `StoreError`."""
        newest, *former = self.read()
        if former:
            self._replace([newest])

    def _replace(self, lines: Sequence[str]) -> None:
        """Put other secrets into the file at once: whenever the process dies, it holds the old or the new ones.

        Raises `StoreError` where the folder cannot be written.
        """
        # Written beside and renamed: a file that is written in place could be lost half-way, and every value with it.
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
    """Write lines to an open file, see that they are on disk, and close it."""
    with os.fdopen(handle, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Put a file's new name on disk, too, where folders can be opened: not on Windows."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Vault:
    """Encrypts with one key, decrypts with every key it knows; each ciphertext names its key.

    `secrets` are the newest first. With a `file` they are read again when a key is not known: another process may have
    made it. Raises `StoreError` where there is no secret.
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
        """Add keys, newest first, before those that are known: values in memory may still be encrypted with them."""
        learned = {key.id: key for key in map(Key.of, secrets)}
        # the order is the point: the first is the newest, and merging dictionaries keeps a known key in its place
        former = {key_id: key for key_id, key in self._keys.items() if key_id not in learned}
        self._keys = learned | former

    @property
    def newest(self) -> Key:
        """The key that new values should be encrypted with; they are once the database names it."""
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
        """The id of the key that new values are encrypted with."""
        return self._current.id

    def key(self, key_id: str) -> Key:
        """Return the key of an id. Raises `WrongKey` where it is not known."""
        if key_id not in self._keys and self.file is not None:  # another process may have made it since
            with contextlib.suppress(StoreError):
                self.read_file()
        try:
            return self._keys[key_id]
        except KeyError:
            raise WrongKey(key_id) from None

    def read_file(self) -> None:
        """Learn the keys that another process may have written into the key file. Raises `StoreError`."""
        if self.file is not None:
            self._learn(self.file.read())

    def use(self, key_id: str) -> None:
        """Encrypt with that key from now on. Raises `WrongKey`."""
        self._current = self.key(key_id)

    def make_key(self) -> Key:
        """Make a newer key in the key file and return it. Raises `StoreError`, also where the keys are in no file."""
        if self.file is None:
            raise StoreError("keys that an environment variable holds are made by hand")
        self._learn([self.file.add()])
        return self.newest

    @property
    def hash_key(self) -> bytes:
        """The key of all hashes. Raises `StoreError` before a database was opened, which holds it."""
        if self._hash_key is None:
            raise StoreError("hashes are keyed by the database: open it first")
        return self._hash_key

    def hash_with(self, hash_key: bytes) -> None:
        """Key all hashes with what the database holds."""
        self._hash_key = hash_key

    def encrypt(self, text: str) -> str:
        """Return a ciphertext of the key in use, with that key's id and a colon before it."""
        key = self._current
        return f"{key.id}:{key.fernet.encrypt(text.encode()).decode()}"

    def decrypt(self, ciphertext: str) -> str:
        """Return the text of a ciphertext. Raises `WrongKey` where its key is not known or does not open it."""
        # the id before the colon says which key: none is tried that cannot fit
        key_id, _, token = ciphertext.partition(":")
        key = self.key(key_id)
        try:
            return key.fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise WrongKey(key_id) from None

    def hash(self, *parts: str) -> str:
        """Return a keyed hash (32 hex digits) for look-up; parts cannot run into each other."""
        # the separator is no character of anything that is hashed; a till's text may hold lone surrogates
        joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self.hash_key, joined, hashlib.sha256).hexdigest()[:32]
