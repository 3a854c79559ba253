"""The commands ``whatif`` and ``flux``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from iotbill_pipelines.cli import console
from iotbill_pipelines.engine.calendars import Month

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def whatif(
    settings: Settings,
    catalog: Path,
    period: Month,
    account: str | None,
    xlsx: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print how a month differs under another catalog."""
    from iotbill_pipelines.operations.whatif import whatif as compare
    from iotbill_pipelines.operations.whatif import write_comparison

    with console.opened(settings) as ws:
        found = compare(ws, catalog, period, account)
        if xlsx is not None:
            write_comparison(ws, found, xlsx)
    if as_json:
        console.print_json(found)
        return
    console.table(
        f"Usage of {found.period}: catalog {found.before_digest[:12]} against "
        f"{found.after_digest[:12]}",
        ("level", "currency", "before", "after", "difference"),
        ((level, currency, old, new, new - old) for level, currency, old, new in found.totals),
    )
    console.table(
        "What differs",
        (
            *("level", "account", "product", "services"),
            *("currency", "before", "after", "difference", "cause"),
        ),
        (
            (
                *(c.level, c.account_id, c.product_id, c.services),
                *(c.currency, c.before, c.after, c.difference),
                ", ".join(f"{cause} {amount:+}" for cause, amount in c.causes.items()),
            )
            for c in found.changes
        ),
    )
    console.table(
        "Records that cannot be rated",
        ("reason", "before", "after"),
        ((s.reason_code, s.before, s.after) for s in found.suspense),
    )
    if not found.changes:
        console.out.print("nothing costs anything else")
    if found.not_separated:
        named = ", ".join(found.not_separated)
        console.out.print(f"told with the other causes, being no catalog of its own: {named}")
    if xlsx is not None:
        console.out.print(f"written to {xlsx}")


def flux(settings: Settings, period: Month, xlsx: Path | None, *, as_json: bool) -> None:
    """Print what lies between a month and the one before."""
    from iotbill_pipelines.operations.flux import flux as compare
    from iotbill_pipelines.operations.flux import write_flux
    from iotbill_pipelines.storage.close_report.figures import FLUX_EFFECTS

    with console.opened(settings) as ws:
        found = compare(ws, period)
        if xlsx is not None:
            write_flux(ws, found, xlsx)
    if as_json:
        console.print_json(found)
        return
    console.table(
        f"{found.period} against {found.previous}",
        ("level", "product", "currency", found.previous, *FLUX_EFFECTS.values(), found.period),
        (
            (
                *(line.level, line.product_id or "total", line.currency, line.last),
                *(line.effects[name] for name in FLUX_EFFECTS),
                line.this,
            )
            for line in (*found.products, *found.totals)
        ),
    )
    console.table(
        "Largest differences by account",
        ("level", "account", "currency", found.previous, found.period, "difference"),
        (
            (a.level, a.account_id, a.currency, a.last, a.this, a.difference)
            for a in found.accounts[:10]
        ),
    )
    if not found.products:
        console.out.print(f"nothing is booked in {found.previous} or {found.period}")
    if xlsx is not None:
        console.out.print(f"written to {xlsx}")
