"""Commands on the audit log."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="The audit log: who did what, when; each entry's hash covers the last.",
)


@app.callback()
def commands() -> None:
    """Commands on the audit log."""


@app.command()
def verify(
    context: typer.Context,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", help="Hash that was the newest once: shows that nothing after it was cut off."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Answer as JSON on standard output.")
    ] = False,
) -> None:
    """Recompute the chain of hashes; name every entry that was changed, removed or put in.

    Also holds every closed period to the seal that was logged when it closed, and tells of guards
    of the database that are off. Keep the head that is printed: with --head, entries removed at the
    end are noticed too. Exits with 1 if anything does not fit.

    Example: `iotbill audit verify`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations.auditing import verify as check

    with console.opened(context.obj) as ws:
        found = check(ws, head)
    if json:
        console.print_json(found)
    else:
        console.out.print(f"{found.entries} entries, head {found.head}")
        console.findings(found.findings)
        if not found.findings:
            console.out.print("the chain is whole, closed periods are as they were closed")
    raise typer.Exit(1 if found.findings else 0)
