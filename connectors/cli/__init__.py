"""The commands: a thin face over `connectors.services` and `connectors.runtime.host`."""

from connectors.cli.main import main

__all__ = ["main"]
