"""Commands on the general ledger's balances: reading them, comparing, explaining."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iotbill_pipelines.operations.tie_out import TieOut

EXIT_OK, EXIT_BLOCKED = 0, 1

app = typer.Typer(
    no_args_is_help=True,
    help="""The general ledger's balances against our journals, to the cent.

A file says what the general ledger holds: CSV with entity, account, currency, kind (balance,
opening, payment, credit, other), amount (debit positive), reference.""",
)

Month = Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@app.command()
def read(
    context: typer.Context,
    month: Month,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Balances at the month's end.")],
    json: Json = False,
) -> None:
    """Read balances and compare; a difference blocks the sign-off until it is explained.

    Exits with 1 if something is not explained.

    Example: `iotbill gl read 2026-10 trial-balance-2026-10.csv`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import tie_out

    with console.opened(context.obj) as ws:
        found = tie_out.read(ws, Parsed.parse(month), file)
    _print(found, as_json=json)


@app.command()
def explain(
    context: typer.Context,
    month: Month,
    entity: Annotated[str, typer.Option("--entity", help="Legal entity.")],
    account: Annotated[str, typer.Option("--account", help="Number in the general ledger.")],
    currency: Annotated[str, typer.Option("--currency", help="As in EUR.")],
    amount: Annotated[str, typer.Option("--amount", help="Part of the difference, as in 0.05.")],
    reason: Annotated[str, typer.Option("--reason", help="Which entry it is, and why.")],
    json: Json = False,
) -> None:
    """Sign for a part of an account's difference, under your name; exits with 1 if more is left.

    Example: `iotbill --actor controller gl explain 2026-10 --entity NL01 --account 1200
    --currency EUR --amount 0.05 --reason "bank rounding, entry 4711"`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import tie_out

    try:
        value = Decimal(amount)
    except InvalidOperation:
        raise ValueError(f"{amount!r} is no amount; write it as 0.05 or -0.05") from None
    with console.opened(context.obj) as ws:
        found = tie_out.explain(
            ws,
            Parsed.parse(month),
            entity_id=entity,
            account=account,
            amount=value,
            currency=currency,
            reason=reason,
        )
    _print(found, as_json=json)


@app.command()
def status(context: typer.Context, month: Month, json: Json = False) -> None:
    """Show each account's way from its opening to its closing balance.

    Example: `iotbill gl status 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import tie_out

    with console.opened(context.obj) as ws:
        found = tie_out.show(ws, Parsed.parse(month))
    _print(found, as_json=json)


def _print(found: TieOut, *, as_json: bool) -> None:
    from iotbill_pipelines.cli import console

    if as_json:
        console.print_json(found)
    else:
        columns = (
            "entity account currency opening journals payments credits other expected balance "
            "difference explained unexplained"
        ).split()
        console.table(
            "General ledger",
            columns,
            (
                [getattr(line, column if column != "entity" else "entity_id") for column in columns]
                for line in found.lines
            ),
        )
        console.findings(found.findings)
        if not found.lines:
            console.out.print("no balances were read yet; start with `iotbill gl read MONTH FILE`")
    raise typer.Exit(EXIT_BLOCKED if found.findings else EXIT_OK)
