"""Commands on claims against vendors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iotbill_pipelines.operations.disputes import Claim

app = typer.Typer(
    no_args_is_help=True,
    help="Claims against vendors: what they owe us, by when to claim it, what came of it.",
)

Json = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
Ids = Annotated[list[str], typer.Argument(metavar="CLAIM...", help="As dispute list names them.")]
Note = Annotated[str, typer.Option(help="Why; kept with the step.")]
Vendor = Annotated[str | None, typer.Option(help="Only this vendor's.")]
PeriodOption = Annotated[
    str | None, typer.Option(metavar="MONTH", help="Only those of this accounting period.")
]


@app.command("list")
def list_(
    context: typer.Context,
    vendor: Vendor = None,
    period: PeriodOption = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="Only in this state: open, sent, accepted, rejected, credited, withdrawn. "
            "Repeatable."
        ),
    ] = None,
    overdue: Annotated[bool, typer.Option(help="Only open ones past their deadline.")] = False,
    json: Json = False,
) -> None:
    """List claims, the nearest deadline first, and their ageing.

    Example: `iotbill dispute list --vendor bics --status open`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations import disputes

    with console.opened(context.obj) as ws:
        claims = disputes.list_claims(
            ws,
            vendor=vendor,
            period=Month.parse(period) if period else None,
            statuses=status or (),
            overdue=overdue,
        )
    aged = disputes.ageing(claims)
    if json:
        console.print_json({"claims": claims, "ageing": aged})
        return
    if not claims:
        console.out.print("no claims")
        return
    console.table("Claims", _COLUMNS, map(_row, claims))
    console.table(
        "Ageing, by days since opened",
        ("vendor", "currency", "state", "days", "claims", "claimed", "credited", "outstanding"),
        (
            (
                *(a.vendor_id, a.currency, a.status, a.age_bucket, a.claims),
                *(a.difference, a.credited, a.outstanding),
            )
            for a in aged
        ),
    )


_COLUMNS = (
    *("claim", "invoice", "SIM", "charge", "cause", "currency", "claimed", "credited", "state"),
    *("claim by", "days left", "age"),
)


def _row(claim: Claim) -> tuple[object, ...]:
    return (
        *(claim.dispute_id, claim.invoice_no, claim.sim, claim.charge_code, claim.cause),
        *(claim.currency, claim.difference, claim.credited, claim.status),
        *(claim.deadline, claim.days_left, claim.age_days),
    )


@app.command()
def show(
    context: typer.Context,
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="As dispute list names it.")],
    json: Json = False,
) -> None:
    """Show a claim: what was billed and expected, evidence, every step, credits.

    Example: `iotbill dispute show bics-2026-10-5b0e6f0c7a21`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import disputes

    with console.opened(context.obj) as ws:
        found = disputes.show_claim(ws, claim)
    if json:
        console.print_json(found)
        return
    one = found.claim
    console.table("Claim", _COLUMNS, [_row(one)])
    console.out.print(f"billed {one.billed:,}, expected {one.expected:,} {one.currency}")
    console.out.print(f"evidence: {one.evidence}")
    console.table(
        "Steps",
        ("at", "by", "state", "reference", "note"),
        ((f"{s.at:%Y-%m-%d %H:%M}", s.actor, s.status, s.credit_reference, s.note)
         for s in found.steps),
    )  # fmt: skip
    console.table(
        "Credits",
        ("document", "line", "period", "amount", "matched by"),
        ((c.invoice_no, c.line_no, c.accounting_period, c.amount, c.matched_by)
         for c in found.credits),
    )  # fmt: skip


@app.command()
def export(
    context: typer.Context,
    vendor: Annotated[str, typer.Argument(metavar="VENDOR")],
    out: Annotated[Path, typer.Option(help="File to write: .csv or .xlsx.")],
    period: PeriodOption = None,
    send: Annotated[bool, typer.Option(help="Mark what is written as sent.")] = False,
) -> None:
    """Write a vendor's open and sent claims in the layout that the vendor wants.

    Example: `iotbill dispute export bics --out claims.xlsx --send`
    """
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.engine.calendars import Month
    from iotbill_pipelines.operations import disputes

    with console.opened(context.obj) as ws:
        month = Month.parse(period) if period else None
        written = disputes.export_claims(ws, vendor, out, period=month)
        sent = disputes.step(ws, written, "sent", note=f"written to {out.name}") if send else []
    console.out.print(f"written: {out} ({len(written)} claims, {len(sent)} now sent)")


def _step(
    context: typer.Context, claims: list[str], status: str, reference: str | None, note: str
) -> None:
    from iotbill_pipelines.cli import console
    from iotbill_pipelines.operations import disputes

    with console.opened(context.obj) as ws:
        moved = disputes.step(ws, claims, status, credit_reference=reference, note=note)
    console.out.print(f"{len(moved)} claims are now {status}")


@app.command()
def sent(context: typer.Context, claims: Ids, note: Note = "") -> None:
    """Claims went to the vendor.

    Example: `iotbill dispute sent bics-2026-10-5b0e6f0c7a21`
    """
    _step(context, claims, "sent", None, note)


@app.command()
def accepted(context: typer.Context, claims: Ids, note: Note = "") -> None:
    """The vendor agrees; its credit is awaited.

    Example: `iotbill dispute accepted bics-2026-10-5b0e6f0c7a21`
    """
    _step(context, claims, "accepted", None, note)


@app.command()
def rejected(
    context: typer.Context, claims: Ids, note: Annotated[str, typer.Option(help="Why.")]
) -> None:
    """The vendor does not agree; --note says why. It can be sent again.

    Example: `iotbill dispute rejected bics-2026-10-5b0e6f0c7a21 --note "SIM was active"`
    """
    _step(context, claims, "rejected", None, note)


@app.command()
def credited(
    context: typer.Context,
    claims: Ids,
    reference: Annotated[str, typer.Option(help="Number of the vendor's credit note.")],
    note: Note = "",
) -> None:
    """A credit came that no file tells of; credits in files are matched by themselves.

    Example: `iotbill dispute credited bics-2026-10-5b0e6f0c7a21 --reference CN-0815`
    """
    _step(context, claims, "credited", reference, note)


@app.command()
def withdrawn(
    context: typer.Context, claims: Ids, note: Annotated[str, typer.Option(help="Why.")]
) -> None:
    """We do not claim it any more; --note says why.

    Example: `iotbill dispute withdrawn bics-2026-10-5b0e6f0c7a21 --note "too small"`
    """
    _step(context, claims, "withdrawn", None, note)
