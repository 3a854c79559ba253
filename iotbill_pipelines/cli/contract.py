"""Commands on contracts: list, lint, show, whatif."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Contracts: terms, commitments, what ending one costs."
)

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
ContractId = Annotated[str, typer.Argument(metavar="CONTRACT", help="As `list` says.")]


@app.command("list")
def list_(
    context: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only this account's.")] = None,
    json: Json = False,
) -> None:
    """List contracts with the term of today and what follows it.

    Example: `iotbill contract list --account ACME`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations.contracts import list_contracts

    with console.opened(context.obj) as ws:
        found = list_contracts(ws, account)
    if json:
        console.print_json(found)
        return
    console.table(
        "Contracts",
        ("contract", "account", "service", "template", "state", "term", "from", "to", "then"),
        (
            (c.contract_id, c.account_id, c.service_id, c.template_id, c.state, c.term, c.start,
             c.end, c.then)
            for c in found
        ),
    )  # fmt: skip
    if not found:
        console.out.print("no contracts; see docs/contracts.md")


@app.command()
def lint(context: typer.Context) -> None:
    """Check configs/contracts against the catalog; needs no workspace.

    Errors name file, line and key. Exits with 2 if there is one.

    Example: `iotbill contract lint`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.config.catalog import read_catalog
    from iotbill_pipelines.config.contracts import read_contract_book

    configs = context.obj.location.configs
    book = read_contract_book(configs / "contracts", read_catalog(configs / "catalog").catalog)
    console.out.print(
        f"{len(book.templates)} templates and {len(book.contracts)} contracts hold together"
    )


@app.command()
def show(
    context: typer.Context,
    contract: ContractId,
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day; today if left out.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a contract on a day: its term, its prices, and where its commitments stand.

    Example: `iotbill contract show K-100 --on 2026-10-31`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations.contracts import show_contract

    with console.opened(context.obj) as ws:
        found = show_contract(ws, contract, on.date() if on else None)
    if json:
        console.print_json(found)
        return
    line = found.line
    console.out.print(
        f"{line.contract_id} of {line.account_id}, {line.state}: term {line.term}, {line.start} to "
        f"before {line.end}, then {line.then}; notice {found.notice_days} days; early termination: "
        f"{found.termination_kind or 'no fee'}"
    )
    console.table(
        f"Prices ({line.currency})",
        ("charge", "zone", "state", "rate", "season"),
        ((r.charge_id, r.zone, r.state, r.rate, r.season) for r in found.rates),
    )
    console.table(
        "Commitments, as the closes settled them",
        ("commitment", "from", "to", "as of", "committed", "measured", "missing", "projected",
         "unit", "charge"),
        (
            (
                row["commitment_id"], row["window_start"], row["window_end"], row["usage_period"],
                row["committed"].normalize(), row["measured"].normalize(),
                row["missing"].normalize(), row["projected"].normalize(), row["unit"],
                row["charge_id"] if row["closes"] else "open",
            )
            for row in found.commitments
        ),
    )  # fmt: skip


@app.command("whatif")
def whatif_(
    context: typer.Context,
    contract: ContractId,
    days: Annotated[
        list[datetime],
        typer.Argument(
            metavar="TERMINATION...", formats=["%Y-%m-%d"], help="First days without contract."
        ),
    ],
    status: Annotated[
        str | None, typer.Option(help="Termination status of the contract's terms.")
    ] = None,
    json: Json = False,
) -> None:
    """Show what ending a contract costs on several days, side by side; nothing is written.

    The fee is computed by what books it when the contract is ended.

    Example: `iotbill contract whatif K-100 2026-12-31 2027-01-01 2027-06-30`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.money import round_half_up
    from iotbill_pipelines.operations.contracts import termination_whatif

    wanted: list[date] = [day.date() for day in days]
    with console.opened(context.obj) as ws:
        found = termination_whatif(ws, contract, wanted, status)
    if json:
        console.print_json(found)
        return
    console.table(
        f"Ending {contract}",
        ("ends on", "term to", "month", "months left", "worth", "fee", "currency", "how"),
        (
            (fee.ends_on, fee.term_end, fee.contract_month, round_half_up(fee.remaining_months, 4),
             round_half_up(fee.remaining_value, 2), fee.amount, fee.currency,
             "; ".join(fee.explanation))
            for fee in found
        ),
    )  # fmt: skip
