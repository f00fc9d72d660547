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
_MOST_BYTES = 64 * 1024  # one secret: a larger file was named by mistake


def secret_given(text: str, option: str) -> str:
    """Return the secret that an option's value means; without one, end the command with a sentence."""
    # by the first character alone: an option must mean the same whether or not the file exists
    if text == "-":
        return _plain(_from_standard_input(option), "standard input")
    if text.startswith("@"):
        return _from_file(Path(text[1:]).expanduser(), option)
    return text


def secrets_given(values: Mapping[str, str], typed: Collection[str], secret: Collection[str]) -> dict[str, str]:
    """Read the `secret` fields that came by `--set`; other values are as typed, for a path may begin with @."""
    # not those of a settings file: it is out of the list of processes already, and its texts mean themselves
    named = {name for name in values if name in typed and name in secret}
    return {name: secret_given(value, f"--set {name}") if name in named else value for name, value in values.items()}


def _from_standard_input(option: str) -> bytes:
    """Read a secret that is piped in, or ask for it without showing what is typed."""
    if sys.stdin.isatty():
        return getpass.getpass(f"{option}: ").encode()
    # to the end, not one line: a file that was named by mistake is to be told from a secret
    return sys.stdin.buffer.read(_MOST_BYTES + 1)


def _from_file(file: Path, option: str) -> str:
    """Read the one secret in a file; end the command where it cannot be read."""
    try:
        with file.open("rb") as opened:
            return _plain(opened.read(_MOST_BYTES + 1), str(file))  # one byte more shows that it is too long
    except OSError as error:
        fail(f"{option}: {file} cannot be read: {error.strerror}")


def _plain(body: bytes, where: str) -> str:
    """Decode one secret, without the line break that editors put after it; end the command for what is none."""
    try:
        text = body.decode().strip()
    except UnicodeDecodeError:
        fail(f"{where} holds no text")  # where it came from, never the body: it may be a secret after all
    if not text:
        fail(f"{where} is empty: it holds one secret")
    if len(body) > _MOST_BYTES:
        fail(f"{where} is too long for a secret")
    return text
