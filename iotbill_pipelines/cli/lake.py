"""Commands on the lake."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="The lake: what it holds, tidying, the move to an object store."
)


@app.callback()
def commands() -> None:
    """Commands on the lake."""


@app.command()
def show(
    context: typer.Context,
    json: Annotated[
        bool, typer.Option("--json", help="Answer as JSON on standard output.")
    ] = False,
) -> None:
    """Say where the lake is (configs/lake.yaml) and what its tables hold.

    Example: `iotbill lake show`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import lake_care

    with console.opened(context.obj) as ws:
        found, where = lake_care.describe(ws), ws.lake.where
    if json:
        console.print_json({"lake": where, "tables": found})
        return
    console.records(where, ("table", "version", "partitions", "files", "rows"), found)
    if not found:
        console.out.print(f"{where} holds no tables yet")


@app.command()
def clean(
    context: typer.Context,
    hours: Annotated[
        int, typer.Option(min=1, help="What is younger may belong to a run under way.")
    ] = 48,
) -> None:
    """Delete the files that killed runs left: no version of a table ever named them.

    Example: `iotbill lake clean --hours 24`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import lake_care

    with console.opened(context.obj) as ws:
        deleted = lake_care.clean(ws, ws.clock() - timedelta(hours=hours))
    console.table("Deleted", ("table", "files"), ((n, len(files)) for n, files in deleted.items()))
    if not deleted:
        console.out.print("nothing to delete")


@app.command()
def upload(context: typer.Context) -> None:
    """Copy the lake of the state folder, with all versions, to the object store of lake.yaml.

    Nothing may run meanwhile. An interrupted copy is completed by the same command. Afterwards the
    lake is in the store; `lake` in the state folder is not looked at any more.

    Example: `iotbill lake upload`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import lake_care

    with console.opened(context.obj) as ws:
        copied, where = lake_care.upload(ws), ws.lake.where
    console.table(f"Copied to {where}", ("table", "files"), copied.items())
