"""The command on margins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import typer

from iotbill_pipelines.cli import console

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings
    from iotbill_pipelines.engine.calendars import Month


def show(
    settings: Settings,
    month: Month,
    by: str,
    whose: tuple[str | None, str | None],
    *,
    negative: bool,
    most: int,
    xlsx: Path | None,
    as_json: bool,
) -> None:
    """Print or write the margins of a month."""
    from iotbill_pipelines.operations import margins

    if by not in get_args(margins.Grain):
        raise typer.BadParameter(f"{by!r} is none of {', '.join(margins.GRAINS)}")
    grain = cast("margins.Grain", by)
    customer, vendor = whose
    with console.opened(settings) as ws:
        found = margins.margins(
            ws, month, grain, customer=customer, vendor=vendor, negative=negative
        )
        if xlsx is not None:
            margins.write_margins(ws, found, grain, xlsx)
    if as_json:
        console.print_json([{**vars(one), "margin": one.margin} for one in found])
        return
    if not found:
        console.out.print(
            "nothing loses money" if negative else f"nothing was earned or spent in {month}"
        )
        return
    console.table(
        f"Margins of {month} by {by}, as earned",
        margins.columns(grain),
        (margins.row_of(one, grain) for one in found[:most]),
    )
    if len(found) > most:
        console.out.print(f"  and {len(found) - most} more: --most, or --xlsx for all")
    for currency in sorted({one.currency for one in found}):
        mine = [one for one in found if one.currency == currency]
        console.out.print(
            f"{currency}: revenue {sum(m.revenue for m in mine):,} - cost "
            f"{sum(m.cost for m in mine):,} = margin {sum(m.margin for m in mine):,}"
        )
    if xlsx is not None:
        console.out.print(f"written: {xlsx}")
