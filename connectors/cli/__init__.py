"""The commands: a thin face over `connectors.desk` and `connectors.host`."""

from connectors.cli.main import main

__all__ = ["main"]
