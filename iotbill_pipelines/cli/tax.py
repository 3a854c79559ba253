"""Commands on taxes: the tables, a month's control totals, an invoice's arithmetic."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="""Taxes of invoices, from the tables in `configs/tax`.

`mode: none` there charges none; `configs/examples/tax` shows everything else.""",
)

Month = Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@app.command()
def lint(context: typer.Context) -> None:
    """Check the tables: unknown jurisdictions, rates that overlap, VAT ids that cannot exist.

    Exits with 2 and every problem if there are any.

    Example: `iotbill tax lint`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.config.tax import read_tax

    terms = read_tax(context.obj.location.configs)
    if terms.mode == "none":
        console.out.print("mode: none, invoices carry no tax")
    else:
        console.out.print(
            f"{len(terms.rates)} rates in {len(terms.jurisdictions)} jurisdictions, "
            f"{len(terms.customers)} customers: nothing wrong"
        )


@app.command()
def totals(context: typer.Context, month: Month, json: Json = False) -> None:
    """Show a month's tax control totals: base and tax per entity, jurisdiction, tax and rate.

    Example: `iotbill tax totals 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import invoicing

    with console.opened(context.obj) as ws:
        found = invoicing.tax_totals(ws, Parsed.parse(month))
    if json:
        console.print_json(found)
        return
    columns = "entity_id jurisdiction tax rate treatment currency base amount".split()
    console.table("Taxes", columns, ([getattr(row, column) for column in columns] for row in found))
    if not found:
        console.out.print(f"no invoice of {month} carries a tax")


@app.command()
def invoice(
    context: typer.Context,
    number: Annotated[str, typer.Argument(metavar="INVOICE", help="As in NL01-2026-10-000001.")],
    json: Json = False,
) -> None:
    """Show the taxes of an invoice, line by line, with base and rate.

    Example: `iotbill tax invoice NL01-2026-10-000001`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import invoicing

    with console.opened(context.obj) as ws:
        found = invoicing.taxes_of_invoice(ws, number)
    if json:
        console.print_json(found)
        return
    columns = (
        "line_no service_id charge_id usage_period jurisdiction tax rate base amount currency note"
    ).split()
    console.table(number, columns, ([getattr(row, column) for column in columns] for row in found))
    if not found:
        console.out.print(f"{number} carries no tax")
