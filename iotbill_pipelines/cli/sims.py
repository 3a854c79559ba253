"""Commands on SIMs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="SIMs: our states against carriers' invoices and traffic."
)


@app.callback()
def commands() -> None:
    """Commands on SIMs."""


@app.command()
def audit(
    context: typer.Context,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")],
    finding: Annotated[
        str | None, typer.Option(help="Only this finding, as in zombie or ghost.")
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="SIMs to show of each finding.")] = 10,
    xlsx: Annotated[Path | None, typer.Option(help="Write all of them as a workbook.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Answer as JSON on standard output.")
    ] = False,
) -> None:
    """Find zombies (cost without revenue), ghosts (revenue without cost) and more, each priced.

    Findings: zombie, ghost, billed_unknown, billed_inactive, active_unbilled,
    traffic_after_cancel; where a carrier's list of SIMs has landed also carrier_active,
    carrier_unknown, carrier_inactive, carrier_missing and traffic_not_active. Needs a month that
    was rated and settled.

    Example: `iotbill sims audit 2026-10 --xlsx sims.xlsx`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.assurance import FINDINGS
    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations import sim_audit

    if finding is not None and finding not in FINDINGS:
        raise typer.BadParameter(f"{finding!r} is none of {', '.join(FINDINGS)}")
    with console.opened(context.obj) as ws:
        found = sim_audit.audit(ws, Month.parse(month))
        chosen = [one for one in found if finding in (None, one.finding)]
        if xlsx is not None:
            sim_audit.write_audit(ws, chosen, xlsx)
    if json:
        console.print_json({"totals": sim_audit.totals(chosen), "sims": chosen})
        return
    if not chosen:
        console.out.print("states, contracts, invoices and traffic fit together")
        return
    console.table(
        f"SIMs that do not fit, {month}",
        ("finding", "currency", "SIMs", "at stake"),
        ((sim_audit.LABELS[name], *rest) for name, *rest in sim_audit.totals(chosen)),
    )
    for name in dict.fromkeys(one.finding for one in chosen):
        listed = [one for one in chosen if one.finding == name]
        console.table(
            sim_audit.LABELS[name],
            sim_audit.COLUMNS[1:],
            (sim_audit.row_of(one)[1:] for one in listed[:most]),
        )
        if len(listed) > most:
            console.out.print(f"  and {len(listed) - most} more: --most, or --xlsx for all")
    if xlsx is not None:
        console.out.print(f"written: {xlsx}")
