"""Encryption of what the database may not show, and the keyed hash by which it is found again.

Owns the keys: both are derived, separately, from one secret; where that secret comes from is `key_file`'s caller's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from connectors.store.errors import StoreError, WrongKey

CANARY = "the canary sings"


class Vault:
    """Encrypts and hashes with keys derived from `secret`; every ciphertext names its key."""

    def __init__(self, secret: str) -> None:
        if len(secret) < 16:
            raise StoreError("CONNECTORS_SECRET_KEY is too short: give it at least 16 characters")
        self._fernet = Fernet(base64.urlsafe_b64encode(self._derive(secret, b"encrypt")))
        self._hash_key = self._derive(secret, b"hash")
        self.key_id = self._derive(secret, b"key id").hex()[:8]

    @staticmethod
    def _derive(secret: str, purpose: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"7stamp connectors " + purpose).derive(
            secret.encode()
        )

    def encrypt(self, text: str) -> str:
        return f"{self.key_id}:{self._fernet.encrypt(text.encode()).decode()}"

    def decrypt(self, kept: str) -> str:
        """Raises `WrongKey`."""
        key_id, _, token = kept.partition(":")
        if key_id != self.key_id:
            raise WrongKey(key_id)
        try:
            return self._fernet.decrypt(token.encode()).decode()
        except InvalidToken:
            raise WrongKey(key_id) from None

    def hash(self, *parts: str) -> str:
        """A keyed hash (32 hex digits) of some text, for look-up; parts cannot run into each other."""
        joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self._hash_key, joined, hashlib.sha256).hexdigest()[:32]


def key_file(path: Path) -> str:
    """The secret kept in a file only its owner can read (0600), made at first use."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        for _ in range(20):  # another process may be about to write it
            if kept := path.read_text().strip():
                return kept
            time.sleep(0.05)
        raise StoreError(f"the key file {path.name} is empty: put back the key this database was made with") from None
    secret = secrets.token_urlsafe(48)
    with os.fdopen(handle, "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    return secret
