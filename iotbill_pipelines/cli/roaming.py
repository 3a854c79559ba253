"""Commands on wholesale roaming between operators."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from iotbill_pipelines.operations.roaming import RoamingReport

app = typer.Typer(
    no_args_is_help=True,
    help="Wholesale roaming: settle a bilateral discount agreement over both sides' usage.",
)


@app.callback()
def commands() -> None:
    """Commands on wholesale roaming between operators."""


@app.command()
def settle(
    contract: Annotated[
        Path,
        typer.Argument(
            metavar="CONTRACT.json",
            exists=True,
            dir_okay=False,
            help="The agreement with its discounts; a calculation request also holds the usage.",
        ),
    ],
    home_usage: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Our usage report: inbound and outbound."),
    ] = None,
    partner_usage: Annotated[
        Path | None,
        typer.Option(
            "--partner-usage",
            "--visited-usage",
            exists=True,
            dir_okay=False,
            help="The partner's usage report of the same months.",
        ),
    ] = None,
    unmet: Annotated[
        Literal["shortfall", "no-deal"],
        typer.Option(
            help="A commitment that is not reached: the missing rest is owed, or the discounts do "
            "not hold and what was charged stands."
        ),
    ] = "shortfall",
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FROM/TO=RATE",
            help="Conversion of charges, as in USD/EUR=0.92: one USD is 0.92 EUR. Repeatable.",
        ),
    ] = None,
    exchange: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Folder for the JSON documents partners exchange."),
    ] = None,
    xlsx: Annotated[Path | None, typer.Option(help="Write a workbook.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Answer as JSON on standard output.")
    ] = False,
) -> None:
    """Settle a discount agreement; with the partner's usage, tell every discrepancy.

    Deal values are exact; amounts are rounded once per party and direction. Exits with 1 if usage
    is not priced by the agreement.

    Example: `iotbill roaming settle contract.json --home-usage ours.json --partner-usage
    theirs.json --xlsx settlement.xlsx`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import roaming

    report = roaming.settle_files(
        contract,
        home_usage,
        partner_usage,
        unmet="no_deal" if unmet == "no-deal" else "shortfall",
        rates=dict(map(_rate, rate or [])),
    )
    written = roaming.write_exchange(report, exchange) if exchange is not None else []
    if xlsx is not None:
        roaming.write_settlement(report, xlsx, datetime.now(UTC))
        written.append(xlsx)
    if json:
        console.print_json(
            {
                "agreement": report.agreement.name,
                "services": report.own.services,
                "commitments": report.own.commitments,
                "partner_services": report.partner.services if report.partner else None,
                "discrepancies": report.discrepancies,
                "findings": report.findings,
            }
        )
    else:
        _tell(report, written)
    unpriced = report.own.unpriced or (report.partner.unpriced if report.partner else ())
    raise typer.Exit(1 if unpriced else 0)


def _tell(report: RoamingReport, written: list[Path]) -> None:
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import roaming

    shown = ("direction", "service", "usage", "unit", "currency", "deal value", "to credit")
    picked = [roaming.SETTLED_COLUMNS.index(name) for name in shown]
    rows = [roaming.settled_row(service) for service in report.own.services]
    console.table(
        f"{report.agreement.name}, by our usage",
        shown,
        ([row[n] for n in picked] for row in rows),
    )
    for currency, amount in report.own.total("inbound").items():
        console.out.print(f"owed to us (inbound): {currency} {amount:,}")
    for currency, amount in report.own.total("outbound").items():
        console.out.print(f"owed by us (outbound): {currency} {amount:,}")
    if report.discrepancies is not None:
        console.table(
            "Against the partner's settlement",
            roaming.VALUE_COLUMNS[:7],
            (
                roaming.value_row(value)[:7]
                for value in (*report.discrepancies.bearers, *report.discrepancies.services)
            ),
        )
        differing = [u for u in report.discrepancies.usage if u.difference]
        console.out.print(
            f"usage: {len(differing)} of {len(report.discrepancies.usage)} months, pairs and "
            "services differ"
        )
    console.findings(report.findings)
    for path in written:
        console.out.print(f"written: {path}")


_RATE = re.compile(r"([A-Z]{3})/([A-Z]{3})=([0-9]+(?:\.[0-9]+)?)")


def _rate(text: str) -> tuple[tuple[str, str], Decimal]:
    found = _RATE.fullmatch(text.strip())
    if found is None or not Decimal(found[3]):
        raise typer.BadParameter(f"{text!r}: write a rate as in USD/EUR=0.92", param_hint="--rate")
    return (found[1], found[2]), Decimal(found[3])
