"""The command ``rerate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.errors import is_plain
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK, EXIT_USAGE
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.operations.corrections import Plan, Selection, plan
from iotbill_pipelines.operations.workspace import Workspace

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings

MOST_ROWS = 40


def rerate(
    settings: Settings, since: Month, selection: Selection, *, yes: bool, as_json: bool
) -> int:
    """Say what correcting would book; book it if confirmed. Return the exit code."""
    with console.opened(settings) as ws:
        found = plan(ws, since, selection)
        if as_json and not yes:
            console.print_json(found)
            return EXIT_OK
        if not as_json:
            _tell(found)
        if not yes:
            if found.periods:
                console.out.print("\nNothing was booked. Say the same with --yes to book it.")
            return EXIT_OK
        return _book(ws, found, selection, as_json=as_json)


def _tell(found: Plan) -> None:
    if found.beyond:
        console.out.print(
            f"[yellow]{', '.join(found.beyond)}[/] changed too, but lie further back than "
            "corrections.look_back_months of configs/close.yaml allows"
        )
    if not found.touched:
        console.out.print(
            f"nothing that is booked since {found.since} rests on anything that changed"
        )
        return
    for reason in found.reasons:
        console.out.print(
            f"{reason.usage_period} [bold]{reason.cause}[/]: {escape(reason.message)}"
        )
    if not found.corrections:
        console.out.print("priced again, nothing costs anything else")
        return
    console.table(
        f"Who changes, booked in {found.accounting_period} or the next open period",
        (
            *("usage period", "level", "account", "product", "units", "records"),
            *("currency", "booked", "should be", "difference", "why"),
        ),
        (
            (
                *(c.usage_period, c.level, c.account_id, c.product_id, c.units, c.records),
                *(c.currency, c.booked, c.desired, c.difference),
                ", ".join(f"{cause} {amount:+}" for cause, amount in c.causes.items()),
            )
            for c in found.corrections[:MOST_ROWS]
        ),
    )
    if len(found.corrections) > MOST_ROWS:
        console.out.print(f"... and {len(found.corrections) - MOST_ROWS} more; --json has them all")
    console.table("In total", ("level", "currency", "difference"), found.totals)
    _tell_taxes(found)
    console.out.print(
        f"{found.pairs} pairs of unit and usage period, in {', '.join(found.periods)}"
    )


def _tell_taxes(found: Plan) -> None:
    if not found.effects:
        return
    ranked = sorted(found.effects, key=lambda each: (-abs(each.gross), each.account_id))
    console.table(
        "What customers owe, on the next invoices",
        ("account", "currency", "net", "tax", "gross"),
        (
            (each.account_id, each.currency, each.net, each.tax, each.gross)
            for each in ranked[:MOST_ROWS]
        ),
    )
    if len(ranked) > MOST_ROWS:
        console.out.print(f"... and {len(ranked) - MOST_ROWS} more; --json has them all")
    for each in ranked:
        if each.untaxed:
            console.out.print(f"[yellow]{escape(each.untaxed)}[/]: no tax is counted for it")


def _book(ws: Workspace, found: Plan, selection: Selection, *, as_json: bool) -> int:
    from iotbill_pipelines.operations.close import exclusive
    from iotbill_pipelines.operations.runs import posted_by
    from iotbill_pipelines.shell.correcting import execute_backfill

    if not found.periods:
        if as_json:
            console.print_json({"plan": found, "backfill": None, "rows_booked": 0})
        return EXIT_OK
    periods = [Month.parse(period) for period in found.periods]
    with exclusive(ws, Month.parse(found.accounting_period)):
        done = execute_backfill(
            ws, periods, selection, lambda month: console.err.print(f"correcting {month} ...")
        )
    rows = sum(posted_by(ws, run_id).charges for _, run_id in done.runs)
    if as_json:
        console.print_json({"plan": found, "backfill": done, "rows_booked": rows})
    elif done.error:
        console.out.print(f"\n[red]stopped[/]: {escape(done.error)}; what was booked stays")
    else:
        console.out.print(
            f"\n{rows} rows booked by backfill {done.backfill_id}. "
            "The next close invoices and posts them."
        )
    if not done.error:
        return EXIT_OK
    return EXIT_USAGE if is_plain(done.error_class) else EXIT_BLOCKED
