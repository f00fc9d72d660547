"""Secrets on the command line: by file, by standard input or by environment, so that no list of processes shows them.

Owns the spelling of an option's value: `@FILE`, `-`, or the secret itself.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from connectors.cli.output import fail

SPELLING = "@FILE reads it from a file, - from standard input: then no list of processes shows it."
_MOST_BYTES = 64 * 1024


def secret_given(text: str, option: str) -> str:
    """The secret that an option's value means; ends the command with a sentence where there is none."""
    if text == "-":
        return _plain(_typed(option), "standard input")
    if text.startswith("@"):
        return _from_file(Path(text[1:]).expanduser(), option)
    return text


def secrets_given(values: Mapping[str, str], given: Collection[str], secret: Collection[str]) -> dict[str, str]:
    """Settings with the `secret` fields of `--set` read; other values are as typed, for a path may begin with @."""
    return {
        name: secret_given(value, f"--set {name}") if name in given and name in secret else value
        for name, value in values.items()
    }


def _typed(option: str) -> bytes:
    if sys.stdin.isatty():
        return getpass.getpass(f"{option}: ").encode()
    return sys.stdin.buffer.read(_MOST_BYTES + 1)


def _from_file(file: Path, option: str) -> str:
    try:
        with file.open("rb") as opened:
            return _plain(opened.read(_MOST_BYTES + 1), str(file))
    except OSError as error:
        fail(f"{option}: {file} cannot be read: {error.strerror}")


def _plain(body: bytes, where: str) -> str:
    """One secret from what was read, without the line break that editors put after it."""
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        fail(f"{where} holds no text")
    if not text or len(body) > _MOST_BYTES:
        fail(f"{where} is empty: it holds one secret" if not text else f"{where} is too long for a secret")
    return text
