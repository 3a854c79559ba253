"""Commands that only tell: status and trace."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from rich.markup import escape

from iotbill_pipelines.cli import console
from iotbill_pipelines.engine.calendars import Month
from iotbill_pipelines.engine.money import minor_digits
from iotbill_pipelines.operations.status import MonthState
from iotbill_pipelines.operations.trace import ChargeTrace

if TYPE_CHECKING:
    from iotbill_pipelines.cli.main import Settings


def status(settings: Settings, period: Month | None, *, as_json: bool) -> None:
    """Print files by feed and state, then months."""
    from iotbill_pipelines.operations.status import status as read_status

    with console.opened(settings) as ws:
        found = read_status(ws, period)
    if as_json:
        console.print_json(found)
        return
    if not found.files:
        console.out.print("no file has landed yet; start with `iotbill land FILE...`")
    console.table(
        "Files",
        ("feed", "state", "files", "records", "newest (UTC)"),
        (
            (f.feed_id or "-", f.state, f.files, f.records_in, f"{f.newest:%Y-%m-%d %H:%M}")
            for f in found.files
        ),
    )
    for month in found.months:
        _print_month(month, whole=period is not None)


def _print_month(month: MonthState, *, whole: bool) -> None:
    states = ", ".join(f"{entity} {state}" for entity, state in month.states.items())
    run = f"last close {month.run_status} {month.run_at:%Y-%m-%d %H:%M}" if month.run_at else ""
    console.out.print(
        f"\n[bold]{month.period}[/] {states or 'nothing booked'}; {run or 'no close'}"
    )
    for level, currency, amount in month.booked:
        console.out.print(f"  booked {level}: {currency} {_amount(amount, currency)}")
    if month.invoices:
        console.out.print(f"  invoices: {month.invoices}")
    for name, state in month.journals:
        console.out.print(f"  journal {name}: {state}")
    if whole:
        console.table(
            "Checklist",
            ("item", "gate", "owner", "outcome", "figure"),
            (
                (
                    "" if number and month.checklist[number - 1].item == one.item else one.item,
                    *(one.gate, one.owner, one.outcome, one.figure),
                )
                for number, one in enumerate(month.checklist)
            ),
        )
    console.table(
        "Gates",
        ("gate", "owner", "outcome", "figure", "finding, and what to do"),
        (
            (
                gate.gate,
                gate.owner,
                f"waived by {gate.waived_by}: {gate.waive_reason}"
                if gate.waived_by
                else f"{gate.outcome}, blocks"
                if gate.severity == "block"
                else gate.outcome,
                gate.figure or "",
                f"{gate.message}\n-> {gate.what_to_do}" if gate.what_to_do else gate.message,
            )
            for gate in month.gates
            if gate.outcome != "passed"
        ),
    )
    passed = sum(gate.outcome == "passed" for gate in month.gates)
    if month.gates:
        console.out.print(f"  {passed} of {len(month.gates)} gates passed")


def _amount(amount: Decimal, currency: str) -> str:
    return f"{amount:,.{minor_digits(currency)}f}"


def trace(
    settings: Settings, identifier: str, most_charges: int, most_records: int, *, as_json: bool
) -> None:
    """Print what an amount is made of, down to lines of files."""
    from iotbill_pipelines.operations.trace import trace as follow

    with console.opened(settings) as ws:
        found = follow(ws, identifier, most_charges=most_charges, most_records=most_records)
    if as_json:
        console.print_json(found)
        return
    if found.lines:
        console.table(
            f"Journal {found.lines[0].external_id}",
            ("line", "account", "name", "debit", "credit", "currency", "memo"),
            (
                (
                    v.line_no,
                    v.account,
                    v.account_name,
                    _amount(v.debit, v.currency) if v.debit else "",
                    _amount(v.credit, v.currency) if v.credit else "",
                    v.currency,
                    v.memo,
                )
                for v in found.lines
            ),
        )
    if not found.charges:
        console.out.print("name one of its lines to go on, as in JOURNAL:1")
    elif found.charges_total > len(found.charges):
        console.out.print(
            f"{found.charges_total} charges; the {len(found.charges)} largest (see --charges):"
        )
    for traced in found.charges:
        _print_charge(traced)


def _print_charge(traced: ChargeTrace) -> None:
    charge = traced.charge
    amount = _amount(charge.amount, charge.currency)
    console.out.print(
        f"\n[bold]Charge {charge.id}[/] {charge.currency} {amount} "
        f"({charge.level}, {charge.reason}): {escape(charge.charge_id)} of service "
        f"{escape(charge.service_id)}, account {escape(charge.account_id)}"
    )
    console.out.print(
        f"  usage {charge.usage_period}, billed {charge.billing_period}, posted "
        f"{charge.accounting_period}; prices {escape(charge.price_ids)}; snapshot "
        f"{charge.snapshot_id}; run {charge.run_id}"
    )
    console.table(
        "Components (as settled now)",
        ("kind", "arithmetic", "records", "quantity", "amount"),
        ((c.kind, c.detail, c.records, c.quantity, c.amount) for c in traced.components),
    )
    if not traced.records_total:
        console.out.print("  no usage records: the amount follows from states and prices")
        return
    console.out.print(f"Records: {len(traced.records)} of {traced.records_total:,}")
    for record in traced.records:
        console.out.print(
            f"  [bold]{escape(record.file_name)}, line {record.line_no}[/] "
            f"{record.event_start} UTC, quantity {record.quantity:,}, "
            f"rated {record.rated_quantity:,}, price {escape(record.price_id)}"
        )
        console.out.print(f"    {escape(record.raw_text)}", soft_wrap=True)
        for part in record.parts:
            console.out.print(
                f"    {part.part}: {escape(part.file_name)}, line {part.line_no}, {part.moment} "
                f"UTC, quantity {part.quantity:,}, counts {part.counted_quantity:,}"
            )
            console.out.print(f"      {escape(part.raw_text)}", soft_wrap=True)
