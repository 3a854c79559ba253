"""Commands on journals: the ERP's rules, its files and its answers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

EXIT_OK, EXIT_BLOCKED = 0, 1

app = typer.Typer(
    no_args_is_help=True,
    help="""Journals for the ERP: built, exported, acknowledged or rejected.

The targets are the files in `configs/ledger/targets`: NetSuite, SAP, Oracle, Dynamics 365,
QuickBooks, Xero, CSV and XLSX.""",
)

Month = Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@app.command()
def lint(
    context: typer.Context,
    month: Month,
    target: Annotated[
        str | None, typer.Option("--target", help="One target; all of them if left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a month's journals against the rules of ERPs, without writing anything.

    Exits with 1 if a rule is broken.

    Example: `iotbill journal lint 2026-10 --target sap`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import erp

    with console.opened(context.obj) as ws:
        found = erp.lint(ws, Parsed.parse(month), target)
    if json:
        console.print_json(found)
    else:
        console.findings(found)
        if not found:
            console.out.print(
                f"the journals of {month} keep the rules of {target or 'every target'}"
            )
    raise typer.Exit(EXIT_BLOCKED if found else EXIT_OK)


@app.command()
def export(
    context: typer.Context,
    month: Month,
    target: Annotated[str, typer.Option("--target", help="As in configs/ledger/targets.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; the close's own if left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a month's journals for an ERP; the same journal always gives the same bytes.

    Example: `iotbill journal export 2026-10 --target sap --out /tmp/sap`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import erp

    period = Parsed.parse(month)
    with console.opened(context.obj) as ws:
        folder = out if out is not None else ws.out(period) / "journals"
        files, found = erp.export(ws, period, target, folder)
    if json:
        console.print_json({"files": files, "findings": found})
    else:
        for file in files:
            console.out.print(f"{file.path} {'new' if file.is_new else 'as before'}")
        console.findings(found)
    blocked = any(finding.severity == "block" for finding in found)
    raise typer.Exit(EXIT_BLOCKED if blocked else EXIT_OK)


@app.command()
def ack(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The ERP's answers, as CSV.")],
    target: Annotated[
        str, typer.Option("--target", help="Target that the file answers for.")
    ] = "netsuite",
    json: Json = False,
) -> None:
    """Read back which journals the ERP took and which it rejected: the whole file, or nothing.

    Columns by name: external_id, status, message; other names and words in the target's
    `acknowledgement`.

    Example: `iotbill journal ack netsuite-results.csv --target netsuite`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import erp

    with console.opened(context.obj) as ws:
        done = erp.acknowledge(ws, file, target)
    if json:
        console.print_json(done)
        return
    for label, names in (
        ("acknowledged", done.acknowledged),
        ("rejected", done.rejected),
        ("known already", done.unchanged),
    ):
        for name in names:
            console.out.print(f"{name}: {label}")


@app.command()
def retry(
    context: typer.Context,
    journal: Annotated[str, typer.Argument(metavar="ID", help="A rejected journal.")],
    reason: Annotated[str, typer.Option("--reason", help="What was corrected.")],
) -> None:
    """Let a rejected journal be built and exported again; then close the month again.

    Example: `iotbill journal retry NL01-2026-10-REVENUE-001 --reason "account 4150 was missing"`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import erp

    with console.opened(context.obj) as ws:
        erp.retry(ws, journal, reason)
    console.out.print(f"{journal} is built and exported again by the next close of its month")


@app.command()
def estimate(
    context: typer.Context,
    month: Month,
    entity: Annotated[str, typer.Option("--entity", help="Legal entity.")],
    level: Annotated[str, typer.Option("--level", help="retail or vendor.")],
    account: Annotated[str, typer.Option("--account", help="Customer or vendor account.")],
    product: Annotated[str, typer.Option("--product", help="Product of the missing usage.")],
    gl_class: Annotated[str, typer.Option("--gl-class", help="GL class of the product.")],
    currency: Annotated[str, typer.Option("--currency", help="As in EUR.")],
    days: Annotated[int, typer.Option("--days", help="Days that are missing.")],
    per_day: Annotated[str, typer.Option("--per-day", help="Average amount a day, as in 311.43.")],
    reason: Annotated[str, typer.Option("--reason", help="Which files are missing, and why.")],
) -> None:
    """Accrue an amount for usage that is missing; it is posted back on the next month's first day.

    Example: `iotbill journal estimate 2026-10 --entity NL01 --level retail --account C0001
    --product data --gl-class usage --currency EUR --days 2 --per-day 311.43 --reason "files of 30
    and 31 October"`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import erp

    if level not in ("retail", "vendor"):
        raise ValueError(f"level {level!r} is neither retail nor vendor")
    try:
        average = Decimal(per_day)
    except InvalidOperation:
        raise ValueError(f"{per_day!r} is no amount; write it as 311.43") from None
    given = erp.Estimate(
        entity_id=entity,
        level=cast(Literal["retail", "vendor"], level),
        account_id=account,
        product_id=product,
        gl_class=gl_class,
        currency=currency,
        days=days,
        per_day=average,
        reason=reason,
    )
    with console.opened(context.obj) as ws:
        amount = erp.estimate(ws, Parsed.parse(month), given)
    console.out.print(f"{currency} {amount:f} is accrued in {month} by its next close")
