"""The command ``explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.cli.main import EXIT_BLOCKED, EXIT_OK

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def explain(settings: Settings, charge_no: int, *, as_json: bool) -> int:
    """Print the arithmetic of a booked charge; return the exit code."""
    from iotbill_pipelines.operations.explaining import explain as explained

    with console.opened(settings) as ws:
        found = explained(ws, charge_no)
    code = EXIT_OK if found.agrees else EXIT_BLOCKED
    if as_json:
        console.print_json({"agrees": found.agrees, "explanation": found})
        return code
    unit = found.unit
    console.out.print(
        f"[bold]{escape(unit.charge_id)}[/] of service {escape(unit.service_id)} over "
        f"{unit.usage_period}, {unit.level}, account {escape(unit.account_id)}"
    )
    console.out.print(
        f"  catalog {(found.catalog_digest or 'unknown')[:12]}, snapshot {found.snapshot_id}"
    )
    for step in found.steps:
        amount = f" = [bold]{escape(step.amount)}[/]" if step.amount else ""
        console.out.print(f"  {escape(step.text)}{amount}")
    console.table(
        "Booked",
        ("charge", "posted", "reason", f"amount {found.currency}"),
        ((row.id, row.accounting_period, row.reason, row.amount) for row in found.booked),
    )
    if found.agrees:
        console.out.print(
            f"[green]recomputed from records, terms and states: {found.currency} "
            f"{found.explained_amount}, exactly what is booked[/]"
        )
    elif found.explained_amount is None:
        console.out.print(f"[red]cannot be recomputed; {found.booked_amount} is booked[/]")
    else:
        console.out.print(
            f"[red]recomputed {found.explained_amount}, but {found.booked_amount} is booked: "
            f"{found.explained_amount - found.booked_amount} apart[/]"
        )
    return code
