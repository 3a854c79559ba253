"""Commands on revenue recognition and commissions."""

from __future__ import annotations

from typing import Annotated

import typer

revenue = typer.Typer(
    no_args_is_help=True,
    help="""Deferred revenue, prepaid cost and contract assets, by `configs/revenue.yaml`.

`configs/examples/revenue.yaml` shows every key.""",
)
commission = typer.Typer(
    no_args_is_help=True,
    help="""What partners earn, by `configs/commissions.yaml`.

`configs/examples/commissions.yaml` shows every key.""",
)

Month = Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@revenue.command()
def deferred(context: typer.Context, month: Month, json: Json = False) -> None:
    """Show a month's roll-forward: opening + additions - releases = closing, per product.

    Example: `iotbill revenue deferred 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import recognition

    with console.opened(context.obj) as ws:
        found = recognition.roll_forward(ws, Parsed.parse(month))
    if json:
        console.print_json(found)
        return
    columns = ("kind entity_id product_id currency opening additions releases closing").split()
    console.records("Deferred", columns, found)
    if not found:
        console.out.print(f"nothing is deferred at the end of {month}")


@revenue.command()
def charge(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="CHARGE", help="As in 192.")],
    json: Json = False,
) -> None:
    """Show what was deferred of a charge and when it was released, with the schedule behind it.

    Example: `iotbill revenue charge 192`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import recognition

    with console.opened(context.obj) as ws:
        found = recognition.of_charge(ws, number)
    if json:
        console.print_json(found)
        return
    columns = "accounting_period purpose amount currency version explanation".split()
    console.records(f"Charge {number}", columns, found)
    if not found:
        console.out.print(f"charge {number} was recognised as it was booked")


@commission.command()
def statement(context: typer.Context, month: Month, json: Json = False) -> None:
    """Show partners' statements: opening + earned = paid + carried, with the rule's version.

    Example: `iotbill commission statement 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import recognition

    with console.opened(context.obj) as ws:
        found = recognition.statements(ws, Parsed.parse(month))
    if json:
        console.print_json(found)
        return
    columns = "partner_id name currency opening earned paid carried".split()
    console.table(
        f"Commissions {month}",
        [*columns, "rules"],
        ([*(getattr(row, column) for column in columns), ", ".join(row.rules)] for row in found),
    )
    if not found:
        console.out.print(f"nobody earned anything up to {month}")


@revenue.command()
def lint(context: typer.Context) -> None:
    """Check `revenue.yaml` and `commissions.yaml`; exits with 2 and every problem if there are any.

    Example: `iotbill revenue lint`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.config.revenue import read_commissions, read_revenue

    terms = read_revenue(context.obj.location.configs)
    promised = read_commissions(context.obj.location.configs)
    console.out.print(
        f"{len(terms.deferrals)} deferrals, {len(terms.bundles)} bundles, "
        f"{len(promised.partners)} partners: nothing wrong"
    )
