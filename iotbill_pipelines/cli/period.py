"""Commands on accounting periods: their states, their signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

if TYPE_CHECKING:
    from iotbill_pipelines.operations.periods import Moved, Standing
    from iotbill_pipelines.operations.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    help="""Accounting periods: open, soft_closed, in_review, closed, reopened.

A closed period never changes, in the database itself; what comes late is booked in the next open
one. `configs/close.yaml` says who may do what; `iotbill --actor NAME` says who you are.""",
)

Month = Annotated[str, typer.Argument(metavar="MONTH", help="As in 2026-10.")]
Entity = Annotated[
    str | None, typer.Option("--entity", help="Legal entity; all of them if left out.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept with your name.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]


@app.command()
def status(
    context: typer.Context,
    month: Annotated[str | None, typer.Argument(metavar="[MONTH]", help="As in 2026-10.")] = None,
    json: Json = False,
) -> None:
    """Say how periods stand: state, cut-off, signatures, history, and what blocks a sign-off.

    Example: `iotbill period status 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import periods

    with console.opened(context.obj) as ws:
        found = periods.standing(ws, Parsed.parse(month) if month else None)
    if json:
        console.print_json(found)
        return
    if not found:
        console.out.print("no period is open yet; the first close opens one")
    for held in found:
        _print(held)


@app.command("soft-close")
def soft_close(
    context: typer.Context,
    month: Annotated[
        str | None, typer.Argument(metavar="[MONTH]", help="As in 2026-10; or say --due.")
    ] = None,
    entity: Entity = None,
    reason: Reason = None,
    early: Annotated[
        bool, typer.Option("--early", help="Before the cut-off; needs a reason.")
    ] = False,
    due: Annotated[
        bool, typer.Option("--due", help="Every open month whose cut-off passed.")
    ] = False,
    json: Json = False,
) -> None:
    """Close a month for everybody but the close team; also sends one in review back.

    Example: `iotbill --actor close.lead period soft-close 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import periods

    if (month is None) != due:
        raise ValueError("name a month, or say --due for every month past its cut-off")
    with console.opened(context.obj) as ws:
        moved = (
            periods.soft_close_due(ws)
            if month is None
            else periods.soft_close(
                ws, Parsed.parse(month), entity_id=entity, reason=reason, early=early
            )
        )
    _told(moved, as_json=json)


@app.command()
def review(
    context: typer.Context,
    month: Month,
    entity: Entity = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Freeze a soft-closed month for review: no charges and no invoices enter it any more.

    Example: `iotbill --actor close.lead period review 2026-10`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import periods

    with console.opened(context.obj) as ws:
        moved = periods.review(ws, Parsed.parse(month), entity_id=entity, reason=reason)
    _told(moved, as_json=json)


@app.command("sign-off")
def sign_off(
    context: typer.Context,
    month: Month,
    reason: Annotated[str, typer.Option("--reason", help="What you checked.")],
    entity: Entity = None,
    json: Json = False,
) -> None:
    """Close a reviewed month for good, under your name.

    Refused while a gate blocks, a journal waits or was rejected, or sums differ. Where
    configs/close.yaml asks for several signatures, the last one closes. Writes the close package.

    Example: `iotbill --actor controller period sign-off 2026-10 --reason "variances explained"`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import periods

    with console.opened(context.obj) as ws:
        moved = periods.sign_off(ws, Parsed.parse(month), entity_id=entity, reason=reason)
        packaged = _packaged(ws, month, moved)
    _told(moved, as_json=json)
    if packaged and not json:
        console.out.print(packaged)


def _packaged(ws: Workspace, month: str, moved: list[Moved]) -> str:
    """Write the package of what was just closed; say where it is, or why there is none."""
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations.package import PackageError, write_package

    if not any(move.to_state == "closed" != move.from_state for move in moved):
        return ""
    try:
        made = write_package(ws, Parsed.parse(month))
    except PackageError as error:
        return f"no close package was written: {error}"
    return f"close package {made.folder}, manifest {made.manifest_sha256}"


@app.command()
def reopen(
    context: typer.Context,
    month: Month,
    reason: Annotated[str, typer.Option("--reason", help="Why it must be opened again.")],
    entity: Entity = None,
    json: Json = False,
) -> None:
    """Sign for reopening a closed month; a second person's signature opens it.

    Example: `iotbill --actor cfo period reopen 2026-10 --reason "wrong VAT on all invoices"`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month as Parsed
    from iotbill_pipelines.operations import periods

    with console.opened(context.obj) as ws:
        moved = periods.reopen(ws, Parsed.parse(month), entity_id=entity, reason=reason)
    _told(moved, as_json=json)


def _told(moved: list[Moved], *, as_json: bool) -> None:
    from iotbill_pipelines.cli import console

    if as_json:
        console.print_json(moved)
        return
    if not moved:
        console.out.print("nothing to do")
    for move in moved:
        signed = f"; {move.signatures} of {move.needed} signatures" if move.needed else ""
        if move.from_state == move.to_state:
            console.out.print(f"{move.entity_id} {move.period} is {move.to_state}{signed}")
        else:
            console.out.print(
                f"{move.entity_id} {move.period}: {move.from_state} -> {move.to_state}{signed}"
            )


def _print(held: Standing) -> None:
    from iotbill_pipelines.cli import console

    passed = "passed" if held.past_cut_off else "not yet"
    console.out.print(
        f"\n[bold]{held.entity_id} {held.period}[/] {held.state} since "
        f"{held.changed_at:%Y-%m-%d %H:%M}; cut-off {held.cut_off:%Y-%m-%d %H:%M} UTC ({passed})"
    )
    for move in held.history:
        role = f" ({move.role})" if move.role else ""
        console.out.print(
            f"  {move.at:%Y-%m-%d %H:%M} {move.from_state} -> {move.to_state}, "
            f"{escape(move.actor)}{role}" + (f": {escape(move.reason)}" if move.reason else "")
        )
    for signature in held.signatures:
        console.out.print(
            f"  signed to {signature.action}: {escape(signature.actor)} ({signature.role}), "
            f"{escape(signature.reason)}"
        )
    console.findings(held.findings)
