"""Commands on payments of invoices: reading them, and what is open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""What customers paid, invoice by invoice; commissions on collected amounts rest on it.

A file is CSV with invoice, reference (the bank's or the ERP's), received_on, amount (negative for
what went back) and currency.""",
)

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@app.command()
def read(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Payments.", exists=True)],
    json: Json = False,
) -> None:
    """Read payments; those that were read before are left as they are.

    Example: `iotbill payments read payments-2026-11.csv`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import recognition

    with console.opened(context.obj) as ws:
        found = recognition.read_payments(ws, file)
    if json:
        console.print_json(found)
    else:
        console.out.print(f"{found.new} payments are new, {found.known} were read before")


@app.command("open")
def open_(
    context: typer.Context,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")],
    json: Json = False,
) -> None:
    """Show the invoices that are not paid to the cent by a month's end.

    Example: `iotbill payments open 2026-11`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import recognition

    with console.opened(context.obj) as ws:
        found = recognition.open_invoices(ws, Parsed.parse(month))
    if json:
        console.print_json(found)
        return
    columns = "invoice_no account_id issue_date currency total tax paid open".split()
    console.records("Open invoices", columns, found)
    if not found:
        console.out.print(f"everything up to {month} is paid")
