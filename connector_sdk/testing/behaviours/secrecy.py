"""Behaviours of secrets: none stands in an error or a log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import BaseModel, SecretStr

from connector_sdk.connector import Connector
from connector_sdk.testing.behaviour_trial import READ_METHODS, Trial, demand
from connector_sdk.testing.behaviours.declared import behaviour
from connector_sdk.testing.behaviours.reading import PERSISTENT
from connector_sdk.testing.stub import CannotShow, Fault


@behaviour(
    "No secret is told",
    guards="a token in a log that somebody sends to a forum",
    fix="name paths and fields in errors, never addresses, headers or bodies; log nothing of settings",
)
async def no_secret_told(trial: Trial) -> None:
    """Provoke logs and errors in every way that the stub allows, and demand that no secret setting stands in them."""
    with _captured_logs() as lines:
        connector = await trial.connect()
        await _provoke_reads(trial, connector, lines)
        await _provoke_hooks(trial, lines)
        lines.append(repr(connector.settings))
    secrets = [value.get_secret_value() for _, value in connector.settings if isinstance(value, SecretStr)]
    if connector.credentials is not None:
        secrets += [secret.get_secret_value() for secret in connector.credentials.grant.secrets.values()]
    for secret in secrets:
        demand(not any(secret in line for line in lines), "a secret of the settings stands in a log or an error")


class _LogCapture(logging.Handler):
    """Collects every record as the text that a log file would hold, tracebacks included."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(level=logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(logging.Formatter().format(record))


@contextmanager
def _captured_logs() -> Iterator[list[str]]:
    """Capture everything that is logged in this context, at every level."""
    lines: list[str] = []
    capture, root = _LogCapture(lines), logging.getLogger()
    level = root.level
    root.addHandler(capture)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(capture)
        root.setLevel(level)


async def _provoke_reads(trial: Trial, connector: Connector[BaseModel], lines: list[str]) -> None:
    """Read by every method, while the till is well and in each way in which it can fail; collect the errors' texts."""
    trial.sell()
    methods = [method for method in READ_METHODS if trial.can(method)]
    for fault in (None, *Fault):
        for method in methods:
            try:
                if fault is not None:
                    trial.stub.fail_next(fault, PERSISTENT)
                await trial.read(method, connector=connector)
            except CannotShow:
                continue
            except Exception as error:  # noqa: BLE001 - any error may hold a secret in its text
                lines.extend((str(error), repr(error), repr(error.__cause__)))
            finally:
                if fault is not None:
                    _end_faults(trial, fault)


async def _provoke_hooks(trial: Trial, lines: list[str]) -> None:
    """Receive a good hook and verify a forged one; collect the errors' texts."""
    if not trial.can("receive"):
        return
    try:
        reader = await trial.hook_reader()
        hook = trial.stub.hook(trial.sell())
        reader.receive(hook)
        trial.prove(reader, trial.stub.forge(hook))
    except CannotShow:
        return
    except Exception as error:  # noqa: BLE001 - any error may hold a secret in its text
        lines.extend((str(error), repr(error)))


def _end_faults(trial: Trial, fault: Fault) -> None:
    """End a fault that may not have been used up; a stub that cannot show it has none to end."""
    with suppress(CannotShow):
        trial.stub.fail_next(fault, 0)
