"""`connectors keys rotate`: another secret key, with everything encrypted anew."""

from __future__ import annotations

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run, say, show_json, the_host
from connectors.cli.progress import report_bar
from connectors.services import ProgressReport, RotationResult, rotate_command

app = typer.Typer(no_args_is_help=True, help="The secret keys that encrypt the database.")


@app.command()
def rotate(as_json: AsJson = False) -> None:
    """Encrypt everything with a new key, while the host runs or not; killed, it goes on when it is run again."""

    async def work() -> None:
        async with the_host() as host:
            with report_bar("encrypting anew", _encrypted) as tell:
                result = await host.commands.run(rotate_command(), tell)
            show_json(result.as_json()) if as_json else say(_in_words(result))

    run(work)


def _encrypted(report: ProgressReport) -> str:
    return f"{report.encrypted or 0} values"


def _in_words(result: RotationResult) -> str:
    lines = [f"✓ Everything is encrypted with key {result.key}: {result.encrypted} values were encrypted anew."]
    if result.unreadable:
        lines.append(
            f"  {result.unreadable} values are encrypted with a key that is not known, and stay as they are: "
            "if you have it, add it to CONNECTORS_SECRET_KEYS_OLD or to the key file, and run this again."
        )
    if result.former_keys == "removed":
        lines.append("  The former key is removed. Back the key file up again, apart from the database.")
    else:
        lines.append("  CONNECTORS_SECRET_KEYS_OLD may be removed. Back the new key up, apart from the database.")
    return "\n".join(lines)
