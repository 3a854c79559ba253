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
def notes(context: typer.Context, month: Month, json: Json = False) -> None:
    """Show which issued invoices the tables of now tax otherwise, and by how much.

    Rates, certificates and customers' facts count at each invoice's own date. Nothing is written:
    the close of MONTH issues a note to each of them.

    Example: `iotbill tax notes 2026-11`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import invoicing

    with console.opened(context.obj) as ws:
        found = invoicing.due_tax_notes(ws, Parsed.parse(month))
    if json:
        console.print_json({"notes": found.items, "findings": found.findings})
        return
    columns = (
        "invoice_no account_id tax_point jurisdiction tax rate treatment base amount currency"
    ).split()
    console.records(f"Notes that a close of {month} issues", columns, found.items)
    for problem in found.findings:
        console.out.print(f"{problem.message}: {problem.what_to_do}")
    if not found.items:
        console.out.print("every invoice that can be corrected carries what the tables say")


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
    console.records("Taxes", columns, found)
    if not found:
        console.out.print(f"no invoice of {month} carries a tax")


@app.command()
def invoice(
    context: typer.Context,
    number: Annotated[str, typer.Argument(metavar="INVOICE", help="As in NL01-2026-10-000001.")],
    json: Json = False,
) -> None:
    """Show the taxes of an invoice and of notes to it, line by line, with base and rate.

    The number of a note shows that note alone.

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
        "document_no line_no service_id charge_id usage_period jurisdiction tax rate base amount "
        "currency note"
    ).split()
    console.records(number, columns, found)
    if not found:
        console.out.print(f"{number} carries no tax")
