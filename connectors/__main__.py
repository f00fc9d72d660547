"""`python -m connectors`, the same as the `connectors` command."""

from connectors.cli import main

main()
