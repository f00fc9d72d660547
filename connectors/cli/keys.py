"""`connectors keys rotate`: another secret key, with everything encrypted anew."""

from __future__ import annotations

from functools import partial

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run_with_host, say, show_json
from connectors.cli.progress import report_bar
from connectors.runtime.host import Host
from connectors.services import ProgressReport, RotationResult, rotate_command

app = typer.Typer(no_args_is_help=True, help="The secret keys that encrypt the database.")


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Encrypt everything with a new key, while the host runs or not; killed, it goes on when it is run again."""
    run_with_host(partial(_rotate, as_json=as_json))


async def _rotate(host: Host, as_json: bool) -> None:
    # through `commands`: where a host runs, the host does it, for it goes on writing and has to use the new key
    with report_bar("encrypting anew", _encrypted) as tell:
        result = await host.commands.run(rotate_command(), tell)
    if as_json:
        show_json(result.as_json())
    else:
        for line in _in_words(result):  # one by one: a line break inside a text is escaped, like all that steers
            say(line)


def _encrypted(report: ProgressReport) -> str:
    return f"{report.encrypted or 0} values"


def _in_words(result: RotationResult) -> list[str]:
    lines = [f"✓ Everything is encrypted with key {result.key}: {result.encrypted} values were encrypted anew."]
    if result.unreadable:  # kept as they are: whoever finds the lost key can still read them
        lines.append(
            f"  {result.unreadable} values are encrypted with a key that is not known, and stay as they are: "
            "if you have it, add it to CONNECTORS_SECRET_KEYS_OLD or to the key file, and run this again."
        )
    return [*lines, _next_step(result)]


def _next_step(result: RotationResult) -> str:
    """Say what is left to a person: the host changes its own key file, but no environment."""
    if result.former_keys == "removed":
        return "  The former key is removed. Back the key file up again, apart from the database."
    return "  CONNECTORS_SECRET_KEYS_OLD may be removed. Back the new key up, apart from the database."
